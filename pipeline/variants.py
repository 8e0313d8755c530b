"""Variants of a picture: named recipes, drawn from (seed, sha256 of the file, number).

So a picture's variants are the same whatever the order, the number of workers, or which other
pictures are in the set. A new recipe is a new entry in `RECIPES`; a new kind of change a new step
in `pipeline.degrade`.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from data_cards.errors import UsageError
from data_cards.jpeg import NO_QUALITY
from data_cards.seeding import draw_key

# The train recipe's JPEG draws: what the web commonly does to pictures.
JPEG_QUALITIES = range(30, 96)
SUBSAMPLINGS = ("4:4:4", "4:2:0")
JPEG_DRAWS = 3
# The saved recipe's: whole pictures are saved again, as an upload does, and not scaled.
SAVED_QUALITIES = range(50, 99)
SAVED_DRAWS = 3
# The web recipe's: pictures are scaled down on their way, then saved.
WEB_SHARES = range(50, 101)  # of each side, in per cent
WEB_QUALITIES = range(50, 99)
WEB_DRAWS = 4


@dataclass(frozen=True)
class Variant:
    """One variant of a picture.

    Attributes
    ----------
    name : within the recipe
    steps : what is done, as `pipeline.degrade.apply_steps` takes it; none leaves it as it is
    before_fit : whether it is done to the picture as it was decoded, as what happens on the web
        is; else to the fitted one
    """

    name: str
    steps: tuple[dict, ...] = ()
    before_fit: bool = False

    @property
    def jpeg_quality(self) -> int:
        """The quality of the last JPEG step; `NO_QUALITY` where there is none."""
        return next((step["quality"] for step in reversed(self.steps) if step["do"] == "jpeg"), NO_QUALITY)

    def parameters_as_json(self) -> str:
        """What was done, with the drawn parameters, as JSON."""
        return json.dumps({"steps": self.steps, "before_fit": self.before_fit}, sort_keys=True)


CLEAN = Variant("clean")


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


def _draw_clean(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    return (CLEAN,)


def _draw_train(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    draws = [CLEAN]
    for number in range(1, JPEG_DRAWS + 1):
        key = draw_key(seed, sha256, f"variant-{number}")
        # Two independent draws from one 64-bit number; the remainder's bias is below 1e-17.
        subsampling, rest = key % len(SUBSAMPLINGS), key // len(SUBSAMPLINGS)
        quality = JPEG_QUALITIES[rest % len(JPEG_QUALITIES)]
        draws.append(Variant(f"jpeg-{number}", (_jpeg(quality, SUBSAMPLINGS[subsampling]),)))
    return tuple(draws)


def _draw_saved(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and the picture as it was decoded saved as JPEG, otherwise each time."""
    draws = [CLEAN]
    for number in range(1, SAVED_DRAWS + 1):
        key = draw_key(seed, sha256, f"saved-{number}")
        subsampling, rest = key % len(SUBSAMPLINGS), key // len(SUBSAMPLINGS)
        quality = SAVED_QUALITIES[rest % len(SAVED_QUALITIES)]
        draws.append(Variant(f"saved-{number}", (_jpeg(quality, SUBSAMPLINGS[subsampling]),), before_fit=True))
    return tuple(draws)


def _draw_web(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and what is left of it after being scaled down and saved as JPEG, in other ways each time."""
    draws = [CLEAN]
    for number in range(1, WEB_DRAWS + 1):
        key = draw_key(seed, sha256, f"web-{number}")
        subsampling, key = key % len(SUBSAMPLINGS), key // len(SUBSAMPLINGS)
        quality, key = WEB_QUALITIES[key % len(WEB_QUALITIES)], key // len(WEB_QUALITIES)
        scale = {"do": "scale", "factor": WEB_SHARES[key % len(WEB_SHARES)] / 100, "filter": "bicubic"}
        draws.append(Variant(f"web-{number}", (scale, _jpeg(quality, SUBSAMPLINGS[subsampling])), before_fit=True))
    return tuple(draws)


def _draw_conditions(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture as it is; saved as JPEG, all alike; and after the web's chain. A short `stress`."""
    return tuple(one for one in _draw_stress(seed, sha256) if one.name in ("clean", "jpeg-75", "web"))


def _draw_stress(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """A fixed grid of what is done to pictures; only the noise is drawn."""
    web = [{"do": "limit", "longest": 768, "filter": "lanczos"}, _jpeg(60)]
    hard = [{"do": "limit", "longest": 512, "filter": "lanczos"}, _jpeg(40)]
    screenshot = [{"do": "scale", "factor": 0.7, "filter": "bilinear"}, {"do": "crop", "share": 0.96}, _jpeg(80)]
    chains = {
        **{f"jpeg-{quality}": [_jpeg(quality)] for quality in (95, 90, 75, 60, 45, 30)},
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
    return (CLEAN, *(Variant(name, tuple(steps), before_fit=True) for name, steps in chains.items()))


def _jpeg(quality: int, subsampling: str = "4:2:0") -> dict:
    return {"do": "jpeg", "quality": quality, "subsampling": subsampling}


RECIPES: dict[str, Callable[[int, bytes], tuple[Variant, ...]]] = {
    "train": _draw_train,
    "saved": _draw_saved,
    "web": _draw_web,
    "clean": _draw_clean,
    "conditions": _draw_conditions,
    "stress": _draw_stress,
}
# Made of test pictures alone, where there are some: nobody trains on them.
TEST_RECIPES = ("stress", "conditions")
