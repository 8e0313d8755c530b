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
        models = [experts.models[name] for name in EXPERTS]
        # The five regressions are one, of all inputs.
        arrays = {
            "photographs": experts.photographs,
            "mean": np.concatenate([model.mean for model in models]),
            "deviation": np.concatenate([model.deviation for model in models]),
            "clip": np.concatenate([np.full(len(model.mean), model.clip) for model in models]),
            "coefficients": experts.slope * np.concatenate([model.coefficients for model in models]),
        }
        for name, array in arrays.items():
            self.register_buffer(name, torch.as_tensor(array, dtype=torch.float64))
        self.offset = experts.slope * sum(model.offset for model in models) + experts.offset
        self.bands = [slice(*(np.flatnonzero(band)[[0, -1]] + (0, 1)).tolist()) for band in COMB_BANDS]

    def forward(self, profiles: torch.Tensor) -> torch.Tensor:
        parts = profiles.double().split(list(PROFILE_VECTORS.values()), dim=1)
        vectors = dict(zip(PROFILE_VECTORS, parts, strict=True))
        combs = ((vectors["comb"] - self.photographs[0]) / self.photographs[1]).reshape(-1, 2, len(PERIODS))
        vectors["comb"] = torch.cat([combs[:, :, band].amax(2) for band in self.bands], 1)
        inputs = torch.cat([vectors[name] for name in EXPERTS], 1)
        rows = ((inputs - self.mean) / self.deviation).clamp(-self.clip, self.clip)
        return rows @ self.coefficients + self.offset


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
