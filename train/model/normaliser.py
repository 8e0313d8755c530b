"""Normaliser at the network's front: levels to values of mean 0 and deviation 1.

The statistics are buffers, so they are saved with the weights: a run needs no store to predict.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

# One level is the smallest difference that a store can hold. A frequency that is constant in training
# (deviation 0) must not turn such a difference into a huge number.
LEAST_DEVIATION = 1.0


def select_statistics(mean: np.ndarray, std: np.ndarray, normalise: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation to normalise by, both float32 (C, H, W), given those of every frequency.

    Parameters
    ----------
    mean, std : float32 (C, H, W), in levels
    normalise : "frequency", as they are; "channel", one mean and deviation over all of a plane's values, by the
        law of total variance; "none", the levels' range 0..256 as -1..1 for every store; "sample", the same,
        because the normaliser uses each sample's own range
    """
    if normalise == "frequency":
        return mean, std
    if normalise in ("none", "sample"):
        return np.full_like(mean, 128), np.full_like(std, 128)
    whole = mean.mean(axis=(1, 2), dtype=np.float64, keepdims=True)
    variance = (std.astype(np.float64) ** 2 + (mean - whole) ** 2).mean(axis=(1, 2), keepdims=True)
    return tuple(np.broadcast_to(values, mean.shape).astype(np.float32) for values in (whole, np.sqrt(variance)))


class Normaliser(nn.Module):
    """(levels - mean) / deviation: uint8 (B, C, H, W) to float32 of the same shape.

    Parameters
    ----------
    mean, std : float32 (C, H, W), in levels 0..255; deviations below one level count as one
    own_range : stretch each plane of each sample to its own range, least to greatest value as -1..1, instead
    gains : slices of the planes that are log magnitudes, one for each kind of them; their common
        offset from the mean, a picture's contrast, is subtracted from each sample
    """

    def __init__(
        self,
        mean: np.ndarray | torch.Tensor,
        std: np.ndarray | torch.Tensor,
        own_range: bool = False,
        gains: Sequence[slice] = (),
    ):
        super().__init__()
        self.gains = tuple(gains)
        self.own_range = own_range
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).clone())
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).clone())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        if levels.dtype != torch.uint8 or levels.shape[1:] != self.mean.shape:
            raise ValueError(
                f"features: expected torch.uint8 (batch, {', '.join(map(str, self.mean.shape))}), "
                f"as this detector was trained on, got {levels.dtype} {tuple(levels.shape)}"
            )
        values = levels.float()
        if self.own_range:
            least, greatest = values.amin(dim=(2, 3), keepdim=True), values.amax(dim=(2, 3), keepdim=True)
            values = 2 * (values - least) / (greatest - least).clamp_min(LEAST_DEVIATION) - 1
        else:
            values = self._remove_gains(values - self.mean) / self.std.clamp_min(LEAST_DEVIATION)
        return values.contiguous(memory_format=torch.channels_last)

    def _remove_gains(self, values: torch.Tensor) -> torch.Tensor:
        """Subtract from each sample's log magnitudes their common part; `values` (B, C, H, W) are less the mean."""
        if not self.gains:
            return values
        of_plane = values.mean(dim=(2, 3), keepdim=True)
        common = torch.zeros_like(of_plane)
        for planes in self.gains:
            common[:, planes] = of_plane[:, planes].mean(dim=1, keepdim=True)
        return values - common
