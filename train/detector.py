"""The whole detector as one module: normaliser and network, levels in, logits out."""

import numpy as np
import torch
from torch import nn

from train.network import ResNet
from train.normalise import Normaliser


class Detector(nn.Module):
    """Features in levels, uint8 or float16 (B, 9, H, W), to float logits (B, 2) in class order (real, fake).

    Parameters
    ----------
    mean, std : float32 (9, H, W), the store's statistics, in levels
    depth : of the ResNet: 18, 34 or 50
    dropout : before the last layer, while training
    """

    def __init__(
        self,
        mean: np.ndarray | torch.Tensor,
        std: np.ndarray | torch.Tensor,
        depth: int = 18,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.normalise = Normaliser(mean, std)
        self.network = ResNet(depth, channels=len(mean), classes=2, dropout=dropout)
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return self.normalise.mean.device

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network(self.normalise(levels))
