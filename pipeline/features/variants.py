"""Variants of a picture: named recipes, drawn from (seed, sha256 of the file, number).

A picture's variants therefore do not depend on the order, the number of workers or the other pictures of the set.
A new recipe is a new entry in `RECIPES`; a new degradation is a new step in `pipeline.features.degradations`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_cards.core.errors import UsageError
from data_cards.core.seeding import draw_key
from data_cards.image.jpeg import NO_QUALITY
from pipeline.features.profile_vectors import SHRINK_LARGE

# The train recipe's JPEG draws: qualities common on the web.
JPEG_QUALITIES = range(30, 96)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
JPEG_DRAWS = 3
# The saved recipe's JPEG draws: whole pictures are saved again, as by an upload, and not scaled.
SAVED_QUALITIES = range(50, 99)
SAVED_DRAWS = 3
# The web recipe's draws: pictures are scaled down, then saved as JPEG.
WEB_SHARES = range(50, 101)  # of each side, in per cent
WEB_QUALITIES = range(50, 99)
WEB_DRAWS = 4


@dataclass(frozen=True)
class Variant:
    """One variant of a picture.

    Attributes
    ----------
    name : str, unique within the recipe
    steps : as for `pipeline.features.degradations.apply_steps`; empty leaves the picture unchanged
    before_fit : bool, whether steps are applied to the decoded picture, as on the web, instead of the fitted one
    """

    name: str
    steps: tuple[dict, ...] = ()
    before_fit: bool = False

    @property
    def jpeg_quality(self) -> int:
        """Quality of the last JPEG step; `NO_QUALITY` without one."""
        return next((step["quality"] for step in reversed(self.steps) if step["do"] == "jpeg"), NO_QUALITY)

    def format_parameters(self) -> str:
        """Format the steps, with their drawn parameters, as JSON."""
        return json.dumps({"steps": self.steps, "before_fit": self.before_fit}, sort_keys=True)


CLEAN = Variant("clean")


def _jpeg(quality: int, subsampling: str = "4:2:0") -> dict:
    return {"do": "jpeg", "quality": quality, "subsampling": subsampling}


def create_jpeg_variant(quality: int) -> Variant:
    """Create the variant of a decoded picture saved as JPEG of a quality, 4:2:0, with a name such as jpeg-75."""
    return Variant(f"jpeg-{quality}", (_jpeg(quality),), before_fit=True)


# The same compression for both classes, for comparisons without a difference in compression.
COMMON_JPEG = create_jpeg_variant(75)


def draw_jpeg(key: int, qualities: Sequence[int]) -> tuple[dict, int]:
    """Draw a JPEG step from a key, with one of the qualities and of `SUBSAMPLINGS`; return it and the rest of the key.

    A key of 64 bits is repeatedly divided by the number of choices: each remainder is a draw, independent of the
    others. Its bias is below 1e-17. The order of the draws decides the pixels of stored variants.
    """
    key, subsampling = divmod(key, len(SUBSAMPLINGS))
    rest, quality = divmod(key, len(qualities))
    return _jpeg(qualities[quality], SUBSAMPLINGS[subsampling]), rest


def draw_variants(recipe: str, seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Draw all variants of one picture, in order."""
    return RECIPES[check_recipe(recipe)](seed, sha256)


def count_variants(recipe: str) -> int:
    """Return the number of variants of each picture in a recipe."""
    return len(draw_variants(recipe, 0, b""))


def check_recipe(recipe: str) -> str:
    """Return the recipe's name; raises `UsageError` for an unknown one."""
    if recipe not in RECIPES:
        raise UsageError(f"--variants {recipe!r}: expected one of {', '.join(RECIPES)}")
    return recipe


def _draw_clean(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    return (CLEAN,)


def _draw_train(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return the picture, and the fitted picture saved as JPEG with several draws."""
    draws = [CLEAN]
    for number in range(1, JPEG_DRAWS + 1):
        jpeg, _ = draw_jpeg(draw_key(seed, sha256, f"variant-{number}"), JPEG_QUALITIES)
        draws.append(Variant(f"jpeg-{number}", (jpeg,)))
    return tuple(draws)


def _draw_saved(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return the picture, and the decoded picture saved as JPEG with several draws."""
    draws = [CLEAN]
    for number in range(1, SAVED_DRAWS + 1):
        jpeg, _ = draw_jpeg(draw_key(seed, sha256, f"saved-{number}"), SAVED_QUALITIES)
        draws.append(Variant(f"saved-{number}", (jpeg,), before_fit=True))
    return tuple(draws)


def _draw_web(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return the picture, and the decoded picture scaled down and saved as JPEG with several draws."""
    draws = [CLEAN]
    for number in range(1, WEB_DRAWS + 1):
        jpeg, rest = draw_jpeg(draw_key(seed, sha256, f"web-{number}"), WEB_QUALITIES)
        scale = {"do": "scale", "factor": WEB_SHARES[rest % len(WEB_SHARES)] / 100, "filter": "bicubic"}
        draws.append(Variant(f"web-{number}", (scale, jpeg), before_fit=True))
    return tuple(draws)


def _draw_conditions(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return three variants of `stress`: unchanged, saved as the common JPEG, and after the web's chain."""
    return tuple(one for one in _draw_stress(seed, sha256) if one.name in CONDITIONS)


def _draw_views(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return the three conditions, and the picture shrunk; nothing is drawn.

    Without the shrunk view a detector learns shrinking as evidence of a photograph, since large photographs are often
    shrunk before they are published.
    """
    shrink = {"do": "scale", "factor": 0.6, "filter": "lanczos", "least": 320}
    return (*_draw_conditions(seed, sha256), Variant(SHRUNK, (SHRINK_LARGE, shrink), before_fit=True))


def _draw_stress(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """Return a fixed grid of degradations; only the noise is drawn."""
    web = [{"do": "limit", "longest": 768, "filter": "lanczos"}, _jpeg(60)]
    hard = [{"do": "limit", "longest": 512, "filter": "lanczos"}, _jpeg(40)]
    screenshot = [{"do": "scale", "factor": 0.7, "filter": "bilinear"}, {"do": "crop", "share": 0.96}, _jpeg(80)]
    chains = {
        **{f"webp-{quality}": [{"do": "webp", "quality": quality}] for quality in (80, 50)},
        "double-jpeg": [_jpeg(60), _jpeg(90)],
        **{
            f"scale-{factor:g}": [{"do": "scale-and-back", "factor": factor, "filter": "bicubic"}]
            for factor in (0.75, 0.5, 0.25, 2)
        },
        **{f"blur-{sigma}": [{"do": "blur", "sigma": sigma}] for sigma in (1, 2)},
        **{
            f"noise-{sigma}": [{"do": "noise", "sigma": sigma, "seed": draw_key(seed, sha256, f"noise-{sigma}")}]
            for sigma in (2, 5)
        },
        **{f"crop-{share:g}": [{"do": "crop", "share": share}] for share in (0.75, 0.5)},
        "screenshot": screenshot,
        "web": web,
        "hard": hard,
    }
    jpegs = map(create_jpeg_variant, (95, 90, 75, 60, 45, 30))
    return (CLEAN, *jpegs, *(Variant(name, tuple(steps), before_fit=True) for name, steps in chains.items()))


SHRUNK = "shrunk"  # variant of the recipe "views" that only training uses
STRESS = "stress"  # name of the recipe that has every condition of the stress test
RECIPES: dict[str, Callable[[int, bytes], tuple[Variant, ...]]] = {
    "train": _draw_train,
    "saved": _draw_saved,
    "web": _draw_web,
    "views": _draw_views,
    CLEAN.name: _draw_clean,
    "conditions": _draw_conditions,
    STRESS: _draw_stress,
}
CONDITIONS = (CLEAN.name, COMMON_JPEG.name, "web")  # variants of the recipe "conditions"
# Recipes that are applied to test pictures only, if the set has any; no run is trained on them.
TEST_RECIPES = (STRESS, "conditions")
