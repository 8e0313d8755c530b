"""Periodogram planes: DFT magnitude, DFT phase and DCT magnitude of each colour of a whole picture.

For one colour channel f of H x W values 0..255, with F its unnormalised 2-D DFT and D its
orthonormal 2-D DCT-II:

    magnitude  log1p(|F|)   0 .. log1p(255 H W)
    phase      angle(F)     -pi .. pi
    dct        log1p(|D|)   0 .. log1p(255 sqrt(H W))

with zero frequency in the middle of the DFT planes (row H // 2, column W // 2). The ranges are
bounds that no picture can exceed, so that a level means the same in every picture.

A real picture's DFT has F(-k) = conj(F(k)). Only the half with non-negative horizontal frequency
is computed; the other half is its exact mirror image. The columns of frequency 0 and W / 2 are
their own mirror images, but rounding could differ there, so their lower half is mirrored too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from pipeline.features.symmetry import fill_mirror_images

if TYPE_CHECKING:
    import torch

LEVELS = 256


def compute_periodogram(rgb: np.ndarray) -> np.ndarray:
    """Compute the nine planes of a picture in natural units.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    ndarray of float32, shape (9, H, W)
        Magnitude R, G, B; phase R, G, B; DCT R, G, B.
    """
    planes = _transform(rgb, np.float32, (1.0, 1.0, 1.0))
    # pi and -pi are the same angle; mirroring may have changed one into the other.
    planes[3:6][planes[3:6] == -np.float32(np.pi)] = np.pi
    return planes


def compute_periodogram_levels(rgb: np.ndarray) -> np.ndarray:
    """Compute the nine planes of a picture on their fixed scales, as a store holds them.

    Magnitude and DCT: level 0..255 is linear from 0 to the plane's bound. Phase: level k is the
    angle 2 pi k / 256, modulo 256, so that 128 is pi and mirroring negates modulo 256.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)

    Returns
    -------
    ndarray of uint8, shape (9, H, W)
        In the order of `compute_periodogram`.
    """
    height, width = rgb.shape[:2]
    scales = (
        (LEVELS - 1) / compute_magnitude_bound(height, width),
        LEVELS / (2 * np.pi),
        (LEVELS - 1) / compute_dct_bound(height, width),
    )
    return _transform(rgb, np.uint8, scales)


def compute_magnitude_bound(height: int, width: int) -> float:
    """Return the largest possible log magnitude: that of zero frequency in a white picture."""
    return float(np.log1p(255.0 * height * width))


def compute_dct_bound(height: int, width: int) -> float:
    """Return the largest possible log DCT coefficient: that of zero frequency in a white picture."""
    return float(np.log1p(255.0 * np.sqrt(height * width)))


def _transform(rgb: np.ndarray, dtype: type, scales: tuple[float, float, float]) -> np.ndarray:
    """Compute planes (9, H, W), scaled by one factor for each kind; uint8 is rounded to whole levels modulo 256."""
    channels = _pad_rows(rgb.transpose(2, 0, 1))
    half = fft.rfft2(channels)
    height, width = rgb.shape[:2]
    # Bins that are their own mirror image are real; rounding must not give them another phase.
    for row in {0, height // 2} if height % 2 == 0 else {0}:
        for column in {0, width // 2} if width % 2 == 0 else {0}:
            half.imag[:, row, column] = 0
    with _torch_on_one_thread():
        magnitude, phase = _compute_polar(half, dtype, scales[0], scales[1])
    planes = np.empty((9, height, width), dtype=dtype)
    for part, whole, odd in ((magnitude, planes[0:3], False), (phase, planes[3:6], True)):
        part = fft.fftshift(part, axes=1)
        whole[:, :, width // 2 :] = part[:, :, : width - width // 2]
        whole[:, :, 0] = part[:, :, -1]  # frequency -W / 2 where the width is even; else overwritten
        fill_mirror_images(whole, odd)
    coefficients = fft.dctn(channels, axes=(1, 2), norm="ortho", overwrite_x=True)
    with _torch_on_one_thread():
        _write_log_magnitude(coefficients, scales[2], planes[6:9])
    return planes


def _pad_rows(planes: np.ndarray) -> np.ndarray:
    """Copy planes (n, H, W) to float32, with rows padded to an odd number of cache lines.

    A transform along columns reads one value of every row. Rows whose length is a power of two, as in pictures of
    1024 px, share few sets of the processor's cache and evict each other.
    """
    count, height, width = planes.shape
    line = _CACHE_LINE_BYTES // np.dtype(np.float32).itemsize
    copy = np.empty((count, height, (-(-width // line) | 1) * line), np.float32)[:, :, :width]
    copy[...] = planes
    return copy


@contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    """Torch on the calling thread alone: parallel work is over pictures."""
    # Loading torch takes a second, which commands without spectra save.
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# Bytes of one cache line.
_CACHE_LINE_BYTES = 64
# Values processed at a time, so that they stay in the second-level cache from step to step.
_BLOCK = 65_536


def _compute_polar(
    spectrum: np.ndarray, dtype: type, magnitude_scale: float, phase_scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Compute scaled log magnitude and phase of a complex64 spectrum, each of its shape and of `dtype`."""
    # Torch's logarithm and arctangent are vectorised; NumPy's took most of the time.
    import torch

    values = torch.view_as_real(torch.from_numpy(spectrum).reshape(-1))
    magnitude, phase = np.empty(spectrum.shape, dtype=dtype), np.empty(spectrum.shape, dtype=dtype)
    outputs = torch.from_numpy(magnitude).reshape(-1), torch.from_numpy(phase).reshape(-1)
    for start in range(0, len(values), _BLOCK):
        stop = min(start + _BLOCK, len(values))
        real, imaginary = values[start:stop, 0].contiguous(), values[start:stop, 1].contiguous()
        angle = torch.atan2(imaginary, real).mul_(phase_scale)
        power = real.square_().addcmul_(imaginary, imaginary)
        _write_rounded(power.sqrt_().log1p_().mul_(magnitude_scale), outputs[0][start:stop])
        _write_rounded(angle, outputs[1][start:stop])
    return magnitude, phase


def _write_log_magnitude(coefficients: np.ndarray, scale: float, out: np.ndarray) -> None:
    """Write the scaled log magnitude of float32 coefficients (3, H, W) into `out`, contiguous and of that shape."""
    import torch

    for plane, levels in zip(torch.from_numpy(coefficients), torch.from_numpy(out), strict=True):
        rows = max(1, _BLOCK // plane.shape[1])
        for values, part in zip(plane.split(rows), levels.split(rows), strict=True):
            _write_rounded(values.abs().log1p_().mul_(scale), part)


def _write_rounded(values: "torch.Tensor", out: "torch.Tensor") -> None:
    if not out.is_floating_point():
        # Through int16, because a negative float has no defined uint8. Rounding is odd, so the level
        # of a mirrored bin is the negative modulo 256.
        values = values.round_().short()
    out.copy_(values)
