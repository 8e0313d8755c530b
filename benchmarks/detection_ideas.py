"""Ideas of the detection study that the program does not offer, because they gave nothing: `detection.toml` names them.

Residuals change what the planes are made of, further recipes how pictures are varied. They stand in place of the
program's own in this process alone, so stores with them are built here, without workers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import numpy as np
from scipy.ndimage import median_filter

from data_cards.seeding import draw_key
from pipeline import features
from pipeline.variants import CLEAN, RECIPES, Variant

QUALITIES = range(50, 99)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
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


@contextmanager
def planes_of_residual(name: str | None) -> Iterator[None]:
    """Make the planes of fitted pictures of their residual, meanwhile; of None as they are."""
    estimate = features.estimate_planes
    if name is None:
        yield
        return
    with patch.object(features, "estimate_planes", lambda rgb, settings: estimate(RESIDUALS[name](rgb), settings)):
        yield


def _draw(kinds: tuple[str, ...], seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and one more for each kind: saved as JPEG or WebP, or scaled down and saved as JPEG."""
    draws = [CLEAN]
    for number, kind in enumerate(kinds, 1):
        key = draw_key(seed, sha256, f"{kind}-{number}")
        subsampling, key = key % len(SUBSAMPLINGS), key // len(SUBSAMPLINGS)
        quality, key = QUALITIES[key % len(QUALITIES)], key // len(QUALITIES)
        jpeg = {"do": "jpeg", "quality": quality, "subsampling": SUBSAMPLINGS[subsampling]}
        factor = SHARES[key % len(SHARES)] / 100
        steps = {
            "saved": (jpeg,),
            "webp": ({"do": "webp", "quality": quality},),
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
