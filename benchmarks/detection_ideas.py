"""Ideas of the detection study that gained nothing and are not in the program: `detection.toml` names them.

Residuals change the input of the planes, joint colours the transforms, further recipes the variants of pictures. They
replace the program's own in this process alone, so their stores are built here, without workers.
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


def compute_median_residual(rgb: np.ndarray) -> np.ndarray:
    """Subtract the median over 3 x 3 pixels from a picture: float32 (H, W, 3).

    A linear high-pass would add no information: it adds a constant to each frequency's log magnitude, which normalising
    removes, and does not change coherencies.
    """
    return rgb.astype(np.float32) - median_filter(rgb, size=(3, 3, 1))


def compute_cross_difference(rgb: np.ndarray) -> np.ndarray:
    """Compute |x(i, j) - x(i+1, j) - x(i, j+1) + x(i+1, j+1)|, float32 (H - 1, W - 1, 3): Bammey, Synthbuster, 2023."""
    return np.abs(np.diff(np.diff(rgb.astype(np.float32), axis=0), axis=1))


RESIDUALS = {"median": compute_median_residual, "cross-difference": compute_cross_difference}


def compute_joint_planes(rgb: np.ndarray, side: int) -> np.ndarray:
    """Compute averaged planes whose transforms run across the three colours too: uint8 (9, side, side).

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
def replaced_planes(name: str | None) -> Iterator[None]:
    """Planes of residuals or joint colours in place of the program's, within the block; unchanged for None."""
    own = features.compute_planes

    def estimate(rgb: np.ndarray, settings: FeatureSettings) -> np.ndarray:
        return compute_joint_planes(rgb, settings.side) if name == JOINT else own(RESIDUALS[name](rgb), settings)

    with patch.object(features, "compute_planes", own if name is None else estimate):
        yield


def _draw_variants(kinds: tuple[str, ...], seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return the picture and one variant for each kind: saved as JPEG or WebP, or scaled down and saved as JPEG."""
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
    "saved once": partial(_draw_variants, ("saved",)),
    "saved six times": partial(_draw_variants, ("saved",) * 6),
    "two codecs": partial(_draw_variants, ("saved", "webp") * 2),
    "saved and scaled": partial(_draw_variants, ("saved",) * 3 + ("scaled",) * 2),
}
RECIPES.update(VARIANTS)
