"""Coarsened exact matching of the classes in properties such as size, format and quality.

After Iacus, King and Porro (2012): pictures are sorted into bins of the named properties within each
split, and the same number of both classes is kept in every bin. The bins are made finer until the
matched classes cannot be separated by these properties, as long as pictures are left.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.audit.cross_validation import compute_held_out_auroc, fold_by_group, score_by_trees
from data_cards.core.errors import UsageError, UserError
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.seeding import FIXED_SEED, draw_key
from data_cards.dataset.table import HASH_BYTES, Picture
from data_cards.image.perceptual_hash import group_near_duplicates

_FINENESS = (1, 2, 4, 8)
_GOOD = 0.55  # AUROC of the named properties below which bins are fine enough
_FEWEST = 10  # pictures of each class that must remain for finer bins to be used


def _compute_size(picture: Picture) -> list[float]:
    # Bins of half an octave, shifted by half a bin, so that 512 and 500 share a bin.
    return [2 * np.log2(side) + 0.5 for side in (picture.facts.width, picture.facts.height)]


def _compute_colour(picture: Picture) -> list[float]:
    if not picture.facts.thumbnail:
        raise UserError("this store does not keep the colours of all its pictures; give their folders with --src")
    mean = np.frombuffer(picture.facts.thumbnail, np.uint8).reshape(-1, 3).mean(axis=0)
    grey = mean.mean()
    return [grey / 64, (mean[0] - grey) / 16 + 0.5, (mean[2] - grey) / 16 + 0.5]


# The properties, each as names of categories or as numbers in units of a coarse bin's width.
_VALUES: dict[str, Callable[[Picture], list[str] | list[float]]] = {
    "size": _compute_size,
    "format": lambda one: [one.facts.format],
    "quality": lambda one: [one.facts.quality / 8],  # `NO_QUALITY` has its own bin
    "exif": lambda one: [float(one.facts.exif)],
    "colour": _compute_colour,
}
PROPERTIES = tuple(_VALUES)


@dataclass(frozen=True)
class Match:
    """The matched pictures, in their order.

    Attributes
    ----------
    pictures : list of Picture, equally many of each class in every bin
    remaining : AUROC with which the named properties still separate the kept classes; None if too few pictures, or
        too few different ones, are left
    """

    pictures: list[Picture]
    remaining: float | None


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of properties in their order; raises `UsageError` for unknown ones."""
    unknown = [name for name in names if name not in PROPERTIES]
    if unknown or not names:
        raise UsageError(
            f"--balance {','.join(unknown) or 'without a name'}: expected one or more of {', '.join(PROPERTIES)}"
        )
    return tuple(name for name in PROPERTIES if name in names)


def match_pictures(pictures: Sequence[Picture], names: Sequence[str], seed: int = FIXED_SEED) -> Match:
    """Select pictures so that the classes match; a pure function of its parameters.

    Parameters
    ----------
    pictures : of both classes
    names : of `PROPERTIES`
    seed : int, of the draw within a bin

    Raises
    ------
    UsageError : a property is unknown
    UserError : no bin has pictures of both classes
    """
    names = check_names(names)
    best = None
    for fineness in _FINENESS:
        kept = _match_in_bins(pictures, names, fineness, seed)
        if min(_count(kept)) < (_FEWEST if best else 1):
            break
        remaining = _compute_remaining(kept, names)
        if best is None or (remaining is not None and (best.remaining is None or remaining < best.remaining)):
            best = Match(kept, remaining)
        if remaining is not None and remaining < _GOOD:
            break
    if best is None:
        raise UserError(
            f"--balance {','.join(names)}: no picture of one class matches a picture of the other in these "
            "properties, so nothing would be left; balance fewer properties, or add pictures"
        )
    return best


def _match_in_bins(pictures: Sequence[Picture], names: Sequence[str], fineness: int, seed: int) -> list[Picture]:
    bins: dict[tuple, dict[str, list[int]]] = defaultdict(lambda: {label: [] for label in CLASS_NAMES})
    for number, picture in enumerate(pictures):
        values = _list_values(picture, names)
        place = [one if isinstance(one, str) else int(np.floor(one * fineness)) for one in values]
        bins[picture.file.split, *place][picture.file.label].append(number)
    kept: list[int] = []
    for members in bins.values():
        count = min(map(len, members.values()))
        for numbers in members.values():
            kept += _draw(pictures, numbers, count, seed)
    return [pictures[number] for number in sorted(kept)]


def _draw(pictures: Sequence[Picture], numbers: list[int], count: int, seed: int) -> list[int]:
    """Draw `count` pictures of a bin from its sources in turn, so that as many sources as possible remain."""
    by_source = defaultdict(list)
    for number in numbers:
        by_source[pictures[number].file.source].append(number)
    queue = []
    for source, own in by_source.items():
        own.sort(key=lambda one: (draw_key(seed, pictures[one].facts.sha256, "balance"), *_place(pictures[one])))
        queue += [(turn, draw_key(seed, source.encode(), "turn"), number) for turn, number in enumerate(own)]
    return [number for _, _, number in sorted(queue)[:count]]


def _compute_remaining(pictures: Sequence[Picture], names: Sequence[str]) -> float | None:
    """Compute the AUROC with which the named properties alone separate the classes, on held-out pictures.

    The order of the pictures and the numbers of their groups have no effect: a store and a scan have others.
    """
    if min(_count(pictures)) < _FEWEST:
        return None
    pictures = sorted(pictures, key=lambda one: (one.facts.sha256, *_place(one)))
    columns = zip(*(_list_values(picture, names) for picture in pictures), strict=True)
    labels = np.array([CLASS_NAMES.index(picture.file.label) for picture in pictures])
    groups = group_near_duplicates(
        np.frombuffer(b"".join(one.facts.phash for one in pictures), np.uint8).reshape(-1, HASH_BYTES)
    )
    inputs = np.stack(
        [np.unique(one, return_inverse=True)[1] if isinstance(one[0], str) else one for one in columns], 1
    )
    if (folds := fold_by_group(labels, groups)) is None:
        return None
    is_category = [False] * inputs.shape[1]
    return compute_held_out_auroc(score_by_trees, inputs, is_category, labels, folds, groups).value


def _list_values(picture: Picture, names: Sequence[str]) -> list[str | float]:
    return [value for name in names for value in _VALUES[name](picture)]


def _place(picture: Picture) -> tuple[str, str]:
    return picture.file.root, picture.file.image


def _count(pictures: Sequence[Picture]) -> tuple[int, ...]:
    counts = Counter(picture.file.label for picture in pictures)
    return tuple(counts[label] for label in CLASS_NAMES)
