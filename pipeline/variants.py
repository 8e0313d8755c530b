"""Variants of a picture: named recipes, drawn from (seed, sha256 of the file, number).

So a picture's variants are the same whatever the order, the number of workers, or which other
pictures are in the set. A new recipe is a new entry in `RECIPES`; a new kind of change a new
branch in `apply_variant`.
"""

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from data_cards.errors import UsageError
from data_cards.splits import draw_key

# The train recipe's JPEG draws: what the web commonly does to pictures.
JPEG_QUALITIES = range(30, 96)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
JPEG_DRAWS = 3


@dataclass(frozen=True)
class Variant:
    """One variant: its name within the recipe and its drawn parameters (empty: left as it is)."""

    name: str
    parameters: dict = field(default_factory=dict)

    @property
    def jpeg_quality(self) -> int:
        """The JPEG quality drawn; -1 where none was."""
        return self.parameters.get("quality", -1)

    def parameters_as_json(self) -> str:
        """The drawn parameters as JSON with sorted keys."""
        return json.dumps(self.parameters, sort_keys=True)


def draw_variants(recipe: str, seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """All variants of one picture, in order."""
    return RECIPES[check_recipe(recipe)](seed, sha256)


def count_variants(recipe: str) -> int:
    """Number of variants that a recipe makes of every picture."""
    return len(draw_variants(recipe, 0, b""))


def check_recipe(recipe: str) -> str:
    """The recipe's name; raises `UsageError` for an unknown one."""
    if recipe not in RECIPES:
        raise UsageError(f"variants {recipe!r}: expected one of {', '.join(RECIPES)}")
    return recipe


def apply_variant(picture: Image.Image, variant: Variant) -> Image.Image:
    """The picture (RGB, already fitted) changed as the variant says."""
    if not variant.parameters:
        return picture
    return _reencode_jpeg(picture, **variant.parameters)


def _reencode_jpeg(picture: Image.Image, quality: int, subsampling: str) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer, formats=("JPEG",)).convert("RGB")


def _draw_clean(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    return (Variant("clean"),)


def _draw_train(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    draws = [Variant("clean")]
    for number in range(1, JPEG_DRAWS + 1):
        key = draw_key(seed, sha256, f"variant-{number}")
        # Two independent draws from one 64-bit number; the remainder's bias is below 1e-17.
        subsampling, rest = key % len(SUBSAMPLINGS), key // len(SUBSAMPLINGS)
        quality = JPEG_QUALITIES[rest % len(JPEG_QUALITIES)]
        draws.append(Variant(f"jpeg-{number}", {"quality": quality, "subsampling": SUBSAMPLINGS[subsampling]}))
    return tuple(draws)


RECIPES: dict[str, Callable[[int, bytes], tuple[Variant, ...]]] = {"train": _draw_train, "clean": _draw_clean}
