"""Averaged planes: spectra averaged over a picture's overlapping patches (Welch, 1967).

In every bin, the transform of a whole picture has a deviation as large as the value that it estimates, however large
the picture. The mean over many patches has a far smaller deviation, and planes of the same small size for every
picture. Patches are half their side apart; each has its own mean subtracted.
With F_c the 2-D DFT of a patch of P x P pixels under a Hann window, in colour c, D_c its
orthonormal 2-D DCT-II without the window, and <> the mean over patches:

    magnitude  <log(1 + |F_c|)>                                          0 .. log(1 + 255 sum(window))
    phase      artanh of Re <F_c F_d*> / sqrt(<|F_c|^2> <|F_d|^2>)       -5 .. 5, for c, d = RG, GB, BR
    dct        <log(1 + |D_c|)>                                          0 .. log(1 + 255 P)

The phase of a patch depends on the position of its content and averages to nothing. What remains is the phase
between colours: the real part of their coherency, 1 where they move together, 0 where they are
unrelated, -1 where they are opposite. Fisher's artanh gives its estimates the same spread everywhere.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import fft

from pipeline.features.symmetry import fill_mirror_images

ARTANH_LIMIT = 5.0  # of the artanh: a coherency of 0.9999


def compute_welch_levels(rgb: np.ndarray, patch: int) -> np.ndarray:
    """Compute the averaged planes as a store holds them: `compute_welch`, rounded to uint8."""
    return compute_welch(rgb, patch).round().astype(np.uint8)


def compute_welch(rgb: np.ndarray, patch: int) -> np.ndarray:
    """Compute the averaged planes on their fixed scales: 0 to 255 is each plane's range.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (H, W, 3)
        Both sides at least `patch`.
    patch : int
        Side of the patches in pixels, even.

    Returns
    -------
    ndarray of float64, shape (9, patch, patch)
        Magnitude and phase have zero frequency in the middle.
    """
    magnitude, coherency, dct = _average(np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32), patch)
    limit = np.tanh(ARTANH_LIMIT)
    return 255 * np.concatenate(
        [
            magnitude / compute_welch_magnitude_bound(patch),
            (np.arctanh(coherency.clip(-limit, limit)) / ARTANH_LIMIT + 1) / 2,
            dct / np.log1p(255 * patch),
        ]
    )


def compute_welch_magnitude_bound(patch: int) -> float:
    """Return the largest possible mean log magnitude of patches of this side: that of zero frequency in white ones."""
    return float(np.log1p(255 * create_window(patch).sum()))


def _average(channels: np.ndarray, patch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute mean log magnitude, real coherency and mean log DCT: float64 (3, patch, patch) each, centred."""
    window = create_window(patch)
    patches = sliding_window_view(channels, (patch, patch), axis=(1, 2))[:, :: patch // 2, :: patch // 2]
    magnitude, power, cross = np.zeros(
        (3, 3, patch, patch // 2 + 1)
    )  # one half of a real patch's spectrum determines the other
    dct = np.zeros((3, patch, patch))
    for row in range(patches.shape[1]):  # a row of patches at a time bounds the memory
        block = patches[:, row] - patches[:, row].mean(axis=(2, 3), keepdims=True)
        spectrum = fft.rfft2(block * window)
        squares = spectrum.real**2 + spectrum.imag**2
        other = np.roll(spectrum, -1, axis=0)
        magnitude += np.log(1 + np.sqrt(squares)).sum(axis=1)
        power += squares.sum(axis=1)
        cross += (spectrum.real * other.real + spectrum.imag * other.imag).sum(axis=1)
        coefficients = fft.dctn(block, axes=(2, 3), norm="ortho")
        dct += np.log(1 + np.abs(coefficients)).sum(axis=1)
    count = patches.shape[1] * patches.shape[2]
    strength = np.sqrt(power * np.roll(power, -1, axis=0))
    coherency = np.divide(cross, strength, out=np.zeros_like(cross), where=strength > 0)
    return _centre(magnitude / count), _centre(coherency), dct / count


def create_window(patch: int) -> np.ndarray:
    """Create a periodic Hann window: float32 (patch, patch)."""
    line = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(patch) / patch)
    return np.outer(line, line).astype(np.float32)


def _centre(half: np.ndarray) -> np.ndarray:
    """Return centred even planes (3, P, P) from their half with non-negative horizontal frequency."""
    side = half.shape[1]
    half = fft.fftshift(half, axes=1)
    planes = np.empty((3, side, side))
    planes[:, :, side // 2 :] = half[:, :, : side // 2]
    planes[:, :, 0] = half[:, :, -1]
    fill_mirror_images(planes, odd=False)
    return planes
