"""Periodograms as a PyTorch module, for export: the arithmetic of `pipeline.features.periodogram`, for many pictures.

It computes in float64, `pipeline.features.periodogram` in float32, so fewer than 2 levels in 10,000 are rounded to
their neighbours.
"""

import numpy as np
import torch
from torch import nn

from pipeline.features.coarse_levels import create_tables
from pipeline.features.periodogram import LEVELS, compute_dct_bound, compute_magnitude_bound
from pipeline.features.settings import COARSE, SQUARE_KINDS, FeatureSettings

_LEAST_POWER = 1e-8  # of a bin: below, it is 0 but for the rounding of float64, and has no phase


class PeriodogramGraph(nn.Module):
    """Fitted pictures, uint8 (N, size, size, 3), to the levels of their periodograms, uint8 (N, 9, size, size).

    Parameters
    ----------
    features : settings of the estimator "periodogram"
    """

    def __init__(self, features: FeatureSettings):
        super().__init__()
        size = features.size
        self.magnitude_scale = (LEVELS - 1) / compute_magnitude_bound(size, size)
        self.dct_scale = (LEVELS - 1) / compute_dct_bound(size, size)
        number = np.arange(size)
        cosines = np.cos(np.pi / (2 * size) * np.outer(number, 2 * number + 1)) * np.sqrt(2 / size)
        cosines[0] = np.sqrt(1 / size)
        self.register_buffer("cosines", torch.from_numpy(cosines))  # of the orthonormal DCT-II
        tables = create_tables(size, size) if features.levels == COARSE else None
        self.register_buffer("tables", None if tables is None else torch.from_numpy(tables))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.permute(0, 3, 1, 2).double()
        spectrum = torch.view_as_real(torch.fft.fftshift(torch.fft.fft2(channels), dim=(2, 3)))
        real, imaginary = spectrum.unbind(-1)
        power = real.square() + imaginary.square()
        # ONNX computes an angle from the quotient, which two zeros do not have.
        real, imaginary = (
            torch.where(power < _LEAST_POWER, empty, values).float()
            for values, empty in ((real, 1.0), (imaginary, 0.0))
        )
        phase = (torch.atan2(imaginary, real) * (LEVELS / (2 * torch.pi))).round()
        dct = self.cosines @ channels @ self.cosines.T
        kinds = [
            (power.sqrt().float().log1p() * self.magnitude_scale).round(),
            torch.where(phase < 0, phase + LEVELS, phase),
            (dct.abs().float().log1p() * self.dct_scale).round(),
        ]
        if self.tables is not None:
            kinds = [self.tables[number][kinds[number].long()] for number in range(len(SQUARE_KINDS))]
        return torch.cat(kinds, dim=1).to(torch.uint8)
