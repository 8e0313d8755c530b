"""The whole detector as one module: normaliser and network, levels in, logits out."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import nn

from pipeline.store import KINDS
from train.calibrate import Calibration
from train.network import ResNet
from train.normalise import Normaliser


class Detector(nn.Module):
    """Features in levels, uint8 or float16 (B, C, H, W), to float logits (B, 2) in class order (real, fake).

    C is 9, or fewer planes where it is fed only some kinds of them.

    Parameters
    ----------
    mean, std : float32 (9, H, W), the store's statistics, in levels
    kinds : of planes that it is fed, in the store's order
    depth : of the ResNet: 18, 34 or 50
    dropout : before the last layer, while training

    Attributes
    ----------
    calibration : how its logits are read; saved with the weights
    """

    def __init__(
        self,
        mean: np.ndarray | torch.Tensor,
        std: np.ndarray | torch.Tensor,
        depth: int = 18,
        dropout: float = 0.0,
        kinds: Sequence[str] = KINDS,
    ):
        super().__init__()
        self.kinds = tuple(kinds)
        self.planes = [3 * KINDS.index(kind) + colour for kind in kinds for colour in range(3)]
        self.normalise = Normaliser(mean[self.planes], std[self.planes])
        self.network = ResNet(depth, channels=len(self.planes), classes=2, dropout=dropout)
        self.calibration = Calibration()
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.normalise.mean.device

    def get_extra_state(self) -> torch.Tensor:
        """The calibration, float64 (4,), for the state dict: no buffer, as some devices have no float64."""
        return torch.tensor(astuple(self.calibration), dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Take the calibration up from a state dict; raises ValueError where it cannot be one."""
        if state.shape != (4,):
            raise ValueError(f"calibration of shape {tuple(state.shape)}, expected (4,)")
        self.calibration = Calibration(*state.tolist())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network(self.normalise(levels))
