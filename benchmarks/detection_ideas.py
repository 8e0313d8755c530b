"""Ideas of the detection study that the program does not offer, because they gave nothing: `detection.toml` names them.

Residuals change what the planes are made of, joint colours the transforms, further recipes how pictures are varied.
They stand in place of the program's own in this process alone, so stores with them are built here, without workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
from scipy import fft
from scipy.ndimage import median_filter

from data_cards.core.seeding import draw_key
from pipeline.features import extract as features
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, RECIPES, Variant, draw_jpeg
from pipeline.features.welch import ARTANH_LIMIT

QUALITIES = range(50, 99)
SHARES = range(50, 101)  # of each side, in per cent


def median_residual(rgb: np.ndarray) -> np.ndarray:
    """A picture less its median over 3 x 3 pixels, float32 (H, W, 3).

    A linear high-pass would tell nothing new: it adds a constant to each frequency's log magnitude, which normalising
    takes out, and leaves coherencies as they are.
    """
    return rgb.astype(np.float32) - median_filter(rgb, size=(3, 3, 1))


def cross_difference(rgb: np.ndarray) -> np.ndarray:
    """|x(i, j) - x(i+1, j) - x(i, j+1) + x(i+1, j+1)|, float32 (H - 1, W - 1, 3), after Bammey (Synthbuster, 2023)."""
    return np.abs(np.diff(np.diff(rgb.astype(np.float32), axis=0), axis=1))


RESIDUALS = {"median": median_residual, "cross-difference": cross_difference}


def joint_planes(rgb: np.ndarray, side: int) -> np.ndarray:
    """Averaged planes whose transforms run across the three colours too: uint8 (9, side, side).

    The DFT over three colours gives their sum and two conjugate differences (red + green w + blue w^2, w a third of a
    turn), the DCT-II a sum, red less blue, and green against both. Else as `pipeline.features.welch`; the bounds of
    magnitude and DCT are 3 and sqrt(3) times as high inside the logarithm. Such planes have no mirror symmetry.
    """
    line = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(side) / side)
    window = np.outer(line, line).astype(np.float32)
    channels = rgb.transpose(2, 0, 1).astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(channels, (side, side), axis=(1, 2))
    patches = patches[:, :: side // 2, :: side // 2]
    magnitude, power, cross, dct = np.zeros((4, 3, side, side))
    for row in range(patches.shape[1]):
        block = patches[:, row] - patches[:, row].mean(axis=(2, 3), keepdims=True)
        spectrum = fft.fft2(fft.fft(block * window, axis=0))
        squares, other = spectrum.real**2 + spectrum.imag**2, np.roll(spectrum, -1, axis=0)
        magnitude += np.log(1 + np.sqrt(squares)).sum(axis=1)
        power += squares.sum(axis=1)
        cross += (spectrum.real * other.real + spectrum.imag * other.imag).sum(axis=1)
        cosines = fft.dctn(fft.dct(block, axis=0, norm="ortho"), axes=(2, 3), norm="ortho")
        dct += np.log(1 + np.abs(cosines)).sum(axis=1)
    count, limit = patches.shape[1] * patches.shape[2], np.tanh(ARTANH_LIMIT)
    strength = np.sqrt(power * np.roll(power, -1, axis=0))
    coherency = np.divide(cross, strength, out=np.zeros_like(cross), where=strength > 0).clip(-limit, limit)
    parts = (
        fft.fftshift(magnitude / count, axes=(1, 2)) / np.log1p(255 * 3 * window.sum()),
        (np.arctanh(fft.fftshift(coherency, axes=(1, 2))) / ARTANH_LIMIT + 1) / 2,
        dct / count / np.log1p(255 * np.sqrt(3) * side),
    )
    return (255 * np.concatenate(parts)).round().astype(np.uint8)


JOINT = "joint colours"


@contextmanager
def planes_of_idea(name: str | None) -> Iterator[None]:
    """Make the planes of fitted pictures of their residual, or across colours, meanwhile; of None as they are."""
    own = features.compute_planes

    def estimate(rgb: np.ndarray, settings: FeatureSettings) -> np.ndarray:
        return joint_planes(rgb, settings.side) if name == JOINT else own(RESIDUALS[name](rgb), settings)

    with patch.object(features, "compute_planes", own if name is None else estimate):
        yield


def _draw(kinds: tuple[str, ...], seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and one more for each kind: saved as JPEG or WebP, or scaled down and saved as JPEG."""
    draws = [CLEAN]
    for number, kind in enumerate(kinds, 1):
        key = draw_key(seed, sha256, f"{kind}-{number}")
        jpeg, rest = draw_jpeg(key, QUALITIES)
        factor = SHARES[rest % len(SHARES)] / 100
        steps = {
            "saved": (jpeg,),
            "webp": ({"do": "webp", "quality": jpeg["quality"]},),
            "scaled": ({"do": "scale", "factor": factor, "filter": "bicubic"}, jpeg),
        }
        draws.append(Variant(f"{kind}-{number}", steps[kind], before_fit=True))
    return tuple(draws)


VARIANTS = {
    "saved once": partial(_draw, ("saved",)),
    "saved six times": partial(_draw, ("saved",) * 6),
    "two codecs": partial(_draw, ("saved", "webp") * 2),
    "saved and scaled": partial(_draw, ("saved",) * 3 + ("scaled",) * 2),
}
RECIPES.update(VARIANTS)
