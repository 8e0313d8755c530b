"""The experts as a PyTorch module, for export: the arithmetic of `train.model.experts`, which needs NumPy alone."""

import numpy as np
import torch
from torch import nn

from pipeline.features.profile_vectors import PERIODS, PROFILE_VECTORS
from train.model.experts import COMB_BANDS, EXPERTS, Experts


class ExpertsGraph(nn.Module):
    """Profiles, float32 (N, 755), to calibrated log-odds of "fake", float64 (N,)."""

    def __init__(self, experts: Experts):
        super().__init__()
        self.slope, self.offset = experts.slope, experts.offset
        self.models = experts.models
        arrays = {
            f"{name}_{field}": getattr(model, field)
            for name, model in experts.models.items()
            for field in ("mean", "deviation", "coefficients")
        }
        arrays |= dict(zip(("comb_photographs_mean", "comb_photographs_deviation"), experts.photographs, strict=True))
        for name, array in arrays.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float64))

    def forward(self, profiles: torch.Tensor) -> torch.Tensor:
        vectors = dict(
            zip(PROFILE_VECTORS, profiles.double().split(list(PROFILE_VECTORS.values()), dim=1), strict=True)
        )
        combs = (vectors["comb"] - self.comb_photographs_mean) / self.comb_photographs_deviation
        combs = combs.reshape(-1, 2, len(PERIODS))
        vectors["comb"] = torch.cat([combs[:, :, np.flatnonzero(band).tolist()].amax(2) for band in COMB_BANDS], 1)
        return self.slope * sum(self._compute_log_odds(name, vectors[name]) for name in EXPERTS) + self.offset

    def _compute_log_odds(self, name: str, inputs: torch.Tensor) -> torch.Tensor:
        mean, deviation, coefficients = (
            self.get_buffer(f"{name}_{field}") for field in ("mean", "deviation", "coefficients")
        )
        model = self.models[name]
        rows = ((inputs - mean) / deviation).clamp(-model.clip, model.clip)
        return (rows * coefficients).sum(1) + model.offset


def draw_profiles(experts: Experts, count: int) -> np.ndarray:
    """Draw profiles, float32 (count, 755), around the mean of the training pictures, from near to far."""
    rng = np.random.default_rng(0)
    means, deviations = [], []
    for name, length in PROFILE_VECTORS.items():
        if name == "comb":
            mean, deviation = experts.photographs
        elif name in experts.models:
            mean, deviation = experts.models[name].mean, experts.models[name].deviation
        else:  # facts, which no expert reads
            mean, deviation = np.zeros(length), np.ones(length)
        means.append(mean)
        deviations.append(deviation)
    scale = np.linspace(0, 3, count)[:, None]
    noise = rng.standard_normal((count, sum(PROFILE_VECTORS.values())))
    return (np.concatenate(means) + scale * np.concatenate(deviations) * noise).astype(np.float32)
