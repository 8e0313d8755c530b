"""History of a picture, read from its pixels: chroma bandwidth, grids of JPEG blocks, traces of resampling.

A file's format and tables show how it was saved last. Earlier steps leave traces in the pixels, also of a PNG:
chroma that was halved has no fine detail, a JPEG leaves an 8-px grid and transform coefficients at zero, resampling
leaves a periodic sharpness and no such zeros. The shortcut audit uses them.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy.fft import dctn, rfft

# Names of the values, in order. No value depends on luma's spectrum or blocks alone, because generators differ from
# cameras in these, whatever happened to the files.
HISTORY = (
    "chroma detail across",
    "chroma detail down",
    "JPEG zeros",
    "chroma zeros",
    "halved chroma zeros",
    "shifted zeros",
    "shifted grid",
    "resampling",
)
SMALLEST = 32  # px a side: smaller pictures have too few blocks
_SIDE = 384  # largest side in px of the centre that is measured
_BLOCK = 8  # px of a JPEG block
_FINE, _COARSE = (0.3, 0.47), (0.08, 0.2)  # cycles a pixel; halved chroma has nothing of the first
_ROUNDING = 1 / 12  # variance of rounded levels
_ZERO = 0.7  # grey levels: a coefficient that JPEG set to zero, after rounding to levels
_LEAST = 1e-3  # keeps ratios finite in flat pictures


def compute_history(rgb: Image.Image) -> bytes:
    """Compute the history of a picture as decoded, neither scaled nor turned upright.

    Returns
    -------
    float16 (len(HISTORY),) as bytes; empty for a picture with a side below `SMALLEST`
    """
    if min(rgb.size) < SMALLEST:
        return b""
    # In step with 16 px, the blocks of halved chroma.
    start = [max(side - _SIDE, 0) // 2 // 16 * 16 for side in rgb.size]
    stop = [first + min(side, _SIDE) // 16 * 16 for first, side in zip(start, rgb.size, strict=True)]
    red, green, blue = np.asarray(rgb.crop((*start, *stop)), np.float32).transpose(2, 0, 1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = 0.564 * (blue - luma), 0.713 * (red - luma)
    halved = [(one[::2, ::2] + one[1::2, ::2] + one[::2, 1::2] + one[1::2, 1::2]) / 4 for one in chroma]
    strength, phase = _find_shifted_grid(luma)
    values = [
        _measure_detail(chroma, axis=1),
        _measure_detail(chroma, axis=0),
        _measure_zeros([luma], (0, 0)),
        _measure_zeros(chroma, (0, 0)),
        _measure_zeros(halved, (0, 0)),
        _measure_zeros([luma], phase),
        strength,
        (_measure_resampling(luma) + _measure_resampling(luma.T)) / 2,
    ]
    return np.array(values, "<f2").tobytes()


def _measure_detail(planes: Sequence[np.ndarray], axis: int) -> float:
    """Return log10 of median fine power over median coarse power along an axis, summed over the planes."""
    count = planes[0].shape[axis]
    window = np.hanning(count).astype(np.float32)
    window /= np.sqrt((window**2).sum())
    window = window if axis == 1 else window[:, None]
    lines = [(one - one.mean(axis=axis, keepdims=True)) * window for one in planes]
    power = sum((np.abs(rfft(one, axis=axis)) ** 2).mean(axis=1 - axis) for one in lines)
    frequency = np.arange(len(power)) / count
    fine, coarse = (np.median(power[(low <= frequency) & (frequency < high)]) for low, high in (_FINE, _COARSE))
    return float(np.log10((fine + _ROUNDING) / (coarse + _ROUNDING)))


def _find_shifted_grid(luma: np.ndarray) -> tuple[float, tuple[int, int]]:
    """Return the strength of the strongest 8-px grid that is out of step with the edge, and where it begins.

    The strength is the log ratio of the mean cross-difference at the grid's lines to that half a block further.
    Patterns of 2 and 4 px, such as traces of colour mosaics and decoders, are the same at both.
    """
    cross = np.log1p(np.abs(luma[1:, 1:] - luma[1:, :-1] - luma[:-1, 1:] + luma[:-1, :-1]))
    strengths, phase = [], []
    for axis in (0, 1):
        line = cross.mean(axis=1 - axis)
        of_phase = line[: len(line) // _BLOCK * _BLOCK].reshape(-1, _BLOCK).mean(axis=0) + _LEAST
        # Left out: the last phase, which is the grid of the file's own blocks.
        strength = np.log(of_phase / np.roll(of_phase, _BLOCK // 2))[:-1]
        best = int(strength.argmax())
        strengths.append(strength[best])
        phase.append(best + 1)
    return float(np.mean(strengths)), tuple(phase)


def _measure_zeros(planes: Sequence[np.ndarray], phase: tuple[int, int]) -> float:
    """Return the share of a grid's coefficients near zero, less the share of the grid that is shifted the other way.

    Both are equally far from the grid at the edge, in which the last JPEG file left zeros too. For the grid at the edge
    itself, the share of the grid half a block further is subtracted.
    """
    further = [-first % _BLOCK if first else _BLOCK // 2 for first in phase]
    shares = []
    for top, left in (phase, further):
        for plane in planes:
            rows, columns = (plane.shape[0] - top) // _BLOCK, (plane.shape[1] - left) // _BLOCK
            part = plane[top : top + rows * _BLOCK, left : left + columns * _BLOCK]
            coefficients = dctn(part.reshape(rows, _BLOCK, columns, _BLOCK), axes=(1, 3), norm="ortho")
            shares.append(np.count_nonzero(np.abs(coefficients) < _ZERO) / coefficients.size)
    return float(np.mean(shares[: len(planes)]) - np.mean(shares[len(planes) :]))


def _measure_resampling(luma: np.ndarray) -> float:
    """Return log10 of the strongest over the median period in the sharpness of rows, without periods of a JPEG's grid.

    NaN if there is no other period, below about 50 px.
    """
    sharpness = np.log1p(np.abs(2 * luma[1:-1] - luma[:-2] - luma[2:])).mean(axis=1)
    count = len(sharpness)
    spectrum = np.abs(rfft((sharpness - sharpness.mean()) * np.hanning(count)))
    frequency = np.arange(len(spectrum)) / count
    from_grid = np.abs(frequency - np.rint(frequency * _BLOCK) / _BLOCK)
    kept = spectrum[(frequency > 0.1) & (from_grid > 2.5 / count)]
    if not len(kept):
        return float("nan")
    return float(np.log10((kept.max() + _LEAST) / (np.median(kept) + _LEAST)))
