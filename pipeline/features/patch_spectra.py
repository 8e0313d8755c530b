"""Mean log amplitude spectra over the overlapping Hann patches of a plane.

A patch has 128 px a side, at native pixels. A smaller plane has one patch, padded with zeros after the window.

Patches in a row overlap by half, so each column is transformed once for all of them. The mean of each column is
subtracted first, which keeps flat areas exactly flat. Its difference from the mean of the patch is added afterwards, to
the few frequencies at which the transform of the window is not 0.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from scipy import fft

PATCH, HOP = 128, 64  # px, of native pixels
HALF = PATCH // 2
POWER_FLOOR = 2.0  # grey levels squared: the noise of rounding and of JPEG is below it
RELATIVE_FLOOR = 1e-4  # of a patch's mean power
_LEAST_MEAN = 0.05  # grey levels squared, added to the mean power, which is 0 for a flat patch
# The number of values that are multiplied before the logarithm. The power of a patch under a unit window is at most
# 128 x 128 x 255 squared: the product of four such values is within float32's range, as is the product of the four
# smallest floors.
_FACTORS = 4


def compute_mean_spectra(plane: np.ndarray) -> np.ndarray:
    """Compute two mean log amplitude spectra over Hann patches, quadrants folded.

    The first has an absolute floor. The second divides the power of each patch by its mean, so it does not depend on
    contrast.

    Parameters
    ----------
    plane : float32 (H, W), grey levels

    Returns
    -------
    float32 (2, 65, 65), bins of 1 / 128 cycle a pixel
    """
    sums = np.zeros((2, HALF + 1, PATCH))
    of_means, patches = 0.0, 0
    for power in iterate_powers(plane):
        means = power.reshape(len(power), -1) @ _MEAN_WEIGHTS + np.float32(_LEAST_MEAN)
        sums[0] += _sum_logs(power + np.float32(POWER_FLOOR))
        # log(power / mean + floor) is log(power + floor * mean) - log(mean).
        power += (np.float32(RELATIVE_FLOOR) * means)[:, None, None]
        sums[1] += _sum_logs(power)
        of_means += float(np.log(means).sum())
        patches += len(power)
    sums[1] -= of_means
    return fold_quadrants(0.5 * sums / patches).astype(np.float32)


def iterate_powers(plane: np.ndarray) -> Iterator[np.ndarray]:
    """Yield power spectra of Hann patches, a row of patches at a time, in an array that the next row overwrites.

    Yields
    ------
    float32 (patches, 65, 128), vertical frequencies 0 to 64, horizontal ones 0 to 127, bins of 1 / 128 cycle a pixel
    """
    height, width = (min(PATCH, side) for side in plane.shape)
    down, right, right_twice, down_spectrum = _make_windows(height, width)
    tops, lefts = (_place_patches(*sides) for sides in zip(plane.shape, (height, width), strict=True))
    of_patch = np.arange(width)[:, None] + lefts  # columns of each patch
    strip = np.empty((height, plane.shape[1]), np.float32)
    spectra = np.zeros((len(lefts), HALF + 1, PATCH), np.complex64)
    power = np.empty(spectra.shape, np.float32)
    # Multiplying adjacent real and imaginary parts by a real window takes half the time of complex numbers, and one
    # contiguous array half the time of its parts.
    numbers = spectra.view(np.float32)
    differing = spectra[:, : len(down_spectrum), :width]
    for top in tops.tolist():
        pixels = plane[top : top + height]
        means = _average_exactly(pixels)
        np.subtract(pixels, means, out=strip)
        np.multiply(strip, down, out=strip)
        columns = fft.rfft(strip, PATCH, axis=0, workers=1)
        for spectrum, left in zip(spectra, lefts.tolist(), strict=True):
            spectrum[:, :width] = columns[:, left : left + width]
        np.multiply(numbers, right_twice, out=numbers)
        differences = means[of_patch]
        differences -= _average_exactly(differences)
        differing += (differences.T * right)[:, None] * down_spectrum
        np.abs(fft.fft(spectra, axis=2, overwrite_x=True, workers=1), out=power)
        yield np.square(power, out=power)


def _average_exactly(values: np.ndarray) -> np.ndarray:
    """Average over the first axis; the mean of equal values is exactly that value."""
    if len(values) != PATCH:
        return values.mean(0, dtype=np.float64).astype(np.float32)
    while len(values) > 1:  # sums of two, four, eight ... equal values are not rounded
        values = values[: len(values) // 2] + values[len(values) // 2 :]
    return values[0] / PATCH


def _place_patches(side: int, patch: int) -> np.ndarray:
    """Return the first pixels of patches that cover a side, `HOP` px or a little more apart."""
    return np.unique(np.linspace(0, side - patch, max(1, (side - patch) // HOP + 1)).astype(int))


@lru_cache(maxsize=8)
def _make_windows(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make the window of a patch, of unit energy.

    Returns
    -------
    down : float32 (height, 1)
    right : float32 (width,)
    right_twice : float32 (65, 256), `right` for the real and imaginary parts of each row, padded with zeros
    down_spectrum : complex64 (K, 1), the transform of `down`, up to the last frequency at which it is not 0
    """
    down, right = (np.hanning(side + 1)[:-1] for side in (height, width))
    down = down / max(np.linalg.norm(down) * np.linalg.norm(right), 1e-6)  # the window of one pixel is 0
    count = 2 if height == PATCH else HALF + 1
    padded = np.pad(right, (0, PATCH - width)).repeat(2).astype(np.float32)
    return (
        down[:, None].astype(np.float32),
        right.astype(np.float32),
        np.broadcast_to(padded, (HALF + 1, 2 * PATCH)).copy(),
        np.fft.rfft(down, PATCH)[:count, None].astype(np.complex64),
    )


def _sum_logs(values: np.ndarray) -> np.ndarray:
    """Sum the logarithms over the first axis; overwrites the values."""
    count = -(-len(values) // _FACTORS)
    products = values[:count]
    for start in range(count, len(values), count):
        factors = values[start : start + count]
        products[: len(factors)] *= factors
    return np.log(products, out=products).sum(0)


def _make_mean_weights() -> np.ndarray:
    """Make the weights that average a spectrum over horizontal frequencies 0 to 64 and all vertical ones.

    float32 (65 * 128,), for the power at vertical frequencies 0 to 64 and all horizontal ones: the power at (-v, h)
    equals that at (v, -h).
    """
    weights = np.ones((HALF + 1, PATCH), np.float32)
    weights[1:HALF, [0, HALF]] = 2
    weights[[0, HALF], HALF + 1 :] = 0
    return weights.ravel() / weights.sum()


_MEAN_WEIGHTS = _make_mean_weights()


def make_hann(height: int, width: int) -> np.ndarray:
    """Make a Hann window of unit energy, float32 (height, width)."""
    window = np.outer(np.hanning(height + 1)[:-1], np.hanning(width + 1)[:-1]).astype(np.float32)
    return window / np.sqrt(max((window**2).sum(), np.float32(1e-12)))


def fold_quadrants(spectrum: np.ndarray) -> np.ndarray:
    """Average half spectra (..., N / 2 + 1, N) over the sign of the last frequency: (..., N / 2 + 1, N / 2 + 1)."""
    half = spectrum.shape[-1] // 2
    folded = spectrum[..., : half + 1].copy()
    folded[..., 1:half] = (folded[..., 1:half] + spectrum[..., :half:-1]) / 2
    return folded
