"""Variants of a picture: named recipes, drawn from (seed, sha256 of the file, number).

So a picture's variants are the same whatever the order, the number of workers, or which other
pictures are in the set. A new recipe is a new entry in `RECIPES`; a new kind of change a new step
in `pipeline.features.degradations`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_cards.core.errors import UsageError
from data_cards.core.seeding import draw_key
from data_cards.image.jpeg import NO_QUALITY

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
    steps : what is done, as `pipeline.features.degradations.apply_steps` takes it; none leaves it as it is
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

    def format_parameters(self) -> str:
        """What was done, with the drawn parameters, as JSON."""
        return json.dumps({"steps": self.steps, "before_fit": self.before_fit}, sort_keys=True)


CLEAN = Variant("clean")


def _jpeg(quality: int, subsampling: str = "4:2:0") -> dict:
    return {"do": "jpeg", "quality": quality, "subsampling": subsampling}


def create_jpeg_variant(quality: int) -> Variant:
    """The picture as it was decoded saved as JPEG of that quality, with halved colours; named such as jpeg-75."""
    return Variant(f"jpeg-{quality}", (_jpeg(quality),), before_fit=True)


# As both classes are saved where they are compared saved alike.
COMMON_JPEG = create_jpeg_variant(75)


def draw_jpeg(key: int, qualities: Sequence[int]) -> tuple[dict, int]:
    """A JPEG step of one of the qualities and of `SUBSAMPLINGS`, drawn from a key; and what is left of the key.

    A key of 64 bits is divided by the number of choices again and again: what remains of each division is a draw, and
    independent of the others. Its bias is below 1e-17. The order of the draws decides the pixels of stored variants.
    """
    key, subsampling = divmod(key, len(SUBSAMPLINGS))
    rest, quality = divmod(key, len(qualities))
    return _jpeg(qualities[quality], SUBSAMPLINGS[subsampling]), rest


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
    """The picture, and the fitted picture saved as JPEG, otherwise each time."""
    draws = [CLEAN]
    for number in range(1, JPEG_DRAWS + 1):
        jpeg, _ = draw_jpeg(draw_key(seed, sha256, f"variant-{number}"), JPEG_QUALITIES)
        draws.append(Variant(f"jpeg-{number}", (jpeg,)))
    return tuple(draws)


def _draw_saved(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and the picture as it was decoded saved as JPEG, otherwise each time."""
    draws = [CLEAN]
    for number in range(1, SAVED_DRAWS + 1):
        jpeg, _ = draw_jpeg(draw_key(seed, sha256, f"saved-{number}"), SAVED_QUALITIES)
        draws.append(Variant(f"saved-{number}", (jpeg,), before_fit=True))
    return tuple(draws)


def _draw_web(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture, and what is left of it after being scaled down and saved as JPEG, in other ways each time."""
    draws = [CLEAN]
    for number in range(1, WEB_DRAWS + 1):
        jpeg, rest = draw_jpeg(draw_key(seed, sha256, f"web-{number}"), WEB_QUALITIES)
        scale = {"do": "scale", "factor": WEB_SHARES[rest % len(WEB_SHARES)] / 100, "filter": "bicubic"}
        draws.append(Variant(f"web-{number}", (scale, jpeg), before_fit=True))
    return tuple(draws)


def _draw_conditions(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """The picture as it is; saved as JPEG, all alike; and after the web's chain. A short `stress`."""
    return tuple(one for one in _draw_stress(seed, sha256) if one.name in CONDITIONS)


def _draw_stress(seed: int, sha256: bytes) -> tuple[Variant, ...]:
    """A fixed grid of what is done to pictures; only the noise is drawn."""
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


RECIPES: dict[str, Callable[[int, bytes], tuple[Variant, ...]]] = {
    "train": _draw_train,
    "saved": _draw_saved,
    "web": _draw_web,
    CLEAN.name: _draw_clean,
    "conditions": _draw_conditions,
    "stress": _draw_stress,
}
CONDITIONS = (CLEAN.name, COMMON_JPEG.name, "web")  # of the recipe of that name
# Made of test pictures alone, where there are some: nobody trains on them.
TEST_RECIPES = ("stress", "conditions")
