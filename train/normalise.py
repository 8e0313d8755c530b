"""Levels to numbers of mean 0 and deviation 1, per frequency, at the network's front.

The statistics are buffers, so they are saved with the weights: a run needs no store to predict.
"""

import numpy as np
import torch
from torch import nn

# A difference of one level is the least that the store can hold; a frequency that never changes
# in training (deviation 0) must not turn such a difference into a huge number.
LEAST_DEVIATION = 1.0


class Normaliser(nn.Module):
    """(levels - mean) / deviation: uint8 or float16 (B, C, H, W) to float32 of the same shape.

    Parameters
    ----------
    mean, std : float32 (C, H, W), in levels 0..255; deviations below one level count as one
    """

    def __init__(self, mean: np.ndarray | torch.Tensor, std: np.ndarray | torch.Tensor):
        super().__init__()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).clone())
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).clone())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        if levels.dtype not in (torch.uint8, torch.float16) or levels.shape[1:] != self.mean.shape:
            raise ValueError(
                f"features are {levels.dtype} {tuple(levels.shape)}, expected torch.uint8 or torch.float16 "
                f"(batch, {', '.join(map(str, self.mean.shape))}) as this detector was trained on"
            )
        values = (levels.float() - self.mean) / self.std.clamp_min(LEAST_DEVIATION)
        return values.contiguous(memory_format=torch.channels_last)
