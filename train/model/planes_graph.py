"""Planes as PyTorch modules, for export: the arithmetic of `pipeline.features`, for many pictures at once.

The modules compute in float64, `pipeline.features` in float32, so fewer than 2 levels in 10,000 are rounded to their
neighbours. If a picture does not contain a frequency, its phase is rounding noise, and may be any level in both.
"""

import numpy as np
import torch
from torch import nn

from pipeline.features.coarse_levels import create_tables
from pipeline.features.periodogram import LEVELS, compute_dct_bound, compute_magnitude_bound
from pipeline.features.settings import COARSE, SQUARE_KINDS, FeatureSettings
from pipeline.features.welch import ARTANH_LIMIT, compute_welch_magnitude_bound, create_window

_LEAST_POWER = 1e-8  # of a bin: a lower power is rounding of float64, and has no phase

_BLOCKS = 8  # of rows of patches, computed in turn, which needs less than half the memory of all at once


def build_planes_graph(features: FeatureSettings) -> nn.Module:
    """Build the module from fitted pictures, uint8 (N, size, size, 3), to their planes, uint8 (N, 9, side, side).

    Overviews are not computed. Averaged planes are those of pictures with both sides at least `size`.
    """
    return PeriodogramGraph(features) if features.patch is None else AveragedGraph(features)


class PeriodogramGraph(nn.Module):
    """Fitted pictures to the levels of their periodograms: uint8 (N, 9, size, size).

    Parameters
    ----------
    features : settings of the estimator "periodogram"
    """

    def __init__(self, features: FeatureSettings):
        super().__init__()
        size = features.size
        self.magnitude_scale = (LEVELS - 1) / compute_magnitude_bound(size, size)
        self.dct_scale = (LEVELS - 1) / compute_dct_bound(size, size)
        self.register_buffer("cosines", _create_cosines(size))
        tables = create_tables(size, size) if features.levels == COARSE else None
        self.register_buffer("tables", None if tables is None else torch.from_numpy(tables))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.permute(0, 3, 1, 2).double()
        real, imaginary = _transform(channels)
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


class AveragedGraph(nn.Module):
    """Fitted pictures to the levels of their averaged planes: uint8 (N, 9, patch, patch).

    Parameters
    ----------
    features : settings of the estimator "averaged"
    """

    def __init__(self, features: FeatureSettings):
        super().__init__()
        patch = features.patch
        starts = np.arange(0, features.size - patch + 1, patch // 2)
        self.magnitude_scale = (LEVELS - 1) / compute_welch_magnitude_bound(patch)
        self.dct_scale = (LEVELS - 1) / compute_dct_bound(patch, patch)
        self.register_buffer("lines", torch.from_numpy(starts[:, None] + np.arange(patch)))  # of each row of patches
        self.register_buffer("window", torch.from_numpy(create_window(patch)).double())
        self.register_buffer("cosines", _create_cosines(patch))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        channels = pixels.permute(0, 3, 1, 2).double()
        count = len(self.lines)
        step = -(-count // _BLOCKS)
        sums = [self._sum_patches(channels[:, :, self.lines[row : row + step]]) for row in range(0, count, step)]
        magnitude, dct, power, cross = (sum(parts) / count**2 for parts in zip(*sums, strict=True))
        strength = (power * power.roll(-1, 1)).sqrt()
        limit = float(np.tanh(ARTANH_LIMIT))
        coherency = torch.where(strength > 0, cross / strength, 0.0).clamp(-limit, limit)
        artanh = ((1 + coherency) / (1 - coherency)).log() / 2  # onnxruntime has no artanh in float64
        planes = [
            magnitude * self.magnitude_scale,
            (artanh / ARTANH_LIMIT + 1) * ((LEVELS - 1) / 2),
            dct * self.dct_scale,
        ]
        return torch.cat(planes, dim=1).round().to(torch.uint8)

    def _sum_patches(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Sum log magnitude, log DCT, power and cross-power, (N, 3, patch, patch) each, over rows of patches.

        `rows` is float64 (N, 3, rows, patch, size).
        """
        patches = rows[..., self.lines].transpose(3, 4)  # (N, 3, rows, columns, patch, patch)
        patches = patches - patches.mean((4, 5), keepdim=True)
        real, imaginary = _transform(patches * self.window)
        power = real.square() + imaginary.square()
        cross = real * real.roll(-1, 1) + imaginary * imaginary.roll(-1, 1)
        dct = self.cosines @ patches @ self.cosines.T
        values = (1 + power.sqrt()).log(), (1 + dct.abs()).log(), power, cross
        return [one.sum((2, 3)) for one in values]


def _create_cosines(side: int) -> torch.Tensor:
    """Create the matrix of the orthonormal DCT-II: float64 (side, side)."""
    number = np.arange(side)
    cosines = np.cos(np.pi / (2 * side) * np.outer(number, 2 * number + 1)) * np.sqrt(2 / side)
    cosines[0] = np.sqrt(1 / side)
    return torch.from_numpy(cosines)


def _transform(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the 2-D DFT of the last two axes, zero frequency in the middle: its real and its imaginary part."""
    spectrum = torch.fft.fftshift(torch.fft.fft2(values), dim=(-2, -1))
    return torch.view_as_real(spectrum).unbind(-1)
