"""What a build adds to, and takes from, the pictures that a store already has.

Pictures are told by their hash. Those that the store has keep their place and their split, new
ones come behind them; so only shards whose content differs are made again. A folder that is not
named this time keeps its pictures as they are.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_cards.core.labels import SPLITS
from data_cards.core.seeding import draw_key
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.splits import draw_validation
from data_cards.dataset.table import Picture, PictureTable
from data_cards.image.perceptual_hash import group_near_duplicates
from pipeline.store.settings import BuildSettings


@dataclass(frozen=True)
class Growth:
    """The pictures of the grown store, in order, and what changed.

    Attributes
    ----------
    pictures : those kept, then those added
    added : number of pictures that are new
    removed : paths of pictures that are gone from their folder, or changed there
    """

    pictures: PictureTable
    added: int
    removed: list[str]


def grow_pictures(base: PictureTable, found: PictureTable, usable: Sequence[int], settings: BuildSettings) -> Growth:
    """Merge the pictures of a store (`base`, empty for a new one) with those of a scan that are usable, by number."""
    pictures, removed = _match(base, found, usable)
    kept = len(base) - len(removed)
    groups = group_near_duplicates(pictures.phashes)
    splits = _draw_splits(pictures, kept, groups, settings)
    rows = np.concatenate([np.arange(kept), kept + _shuffle(pictures, kept, splits, settings.seed)])
    grown = pictures.select(rows.tolist())
    grown.set_splits([splits[row] for row in rows.tolist()])
    grown.set_groups(_number_by_appearance(groups[rows]))
    grown.subsample_thumbnails()
    return Growth(grown, len(pictures) - kept, removed)


def _shuffle(pictures: PictureTable, kept: int, splits: Sequence[str], seed: int) -> np.ndarray:
    """The order of the pictures behind `kept`: by split, then drawn; equal files in the order of the scan."""
    new = range(kept, len(pictures))
    keys = np.fromiter((draw_key(seed, pictures[number].facts.sha256, "order") for number in new), np.uint64, len(new))
    numbers = np.fromiter((SPLITS.index(split) for split in splits[kept:]), np.uint8, len(new))
    return np.lexsort((keys, numbers))


def _number_by_appearance(groups: np.ndarray) -> np.ndarray:
    """Groups numbered from 0 as they come up, so that numbers do not depend on how a store came to be."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member]


def _match(base: PictureTable, found: PictureTable, usable: Sequence[int]) -> tuple[PictureTable, list[str]]:
    """The pictures kept (where they are now) and behind them those that are new; paths of those removed."""
    if not base:
        return found if len(usable) == len(found) else found.select(usable), []
    roots = {found[number].file.root for number in usable}
    by_place, by_hash = {}, defaultdict(list)
    for number in usable:
        picture = found[number]
        by_place[(picture.file.root, picture.file.image)] = number
        by_hash[_identity(picture)].append(number)
    taken: set[int] = set()
    moved: list[int] = []  # those of the store that are not at their old place
    # Those at their old place first, so that a copy elsewhere does not take it.
    for position, old in enumerate(base):
        number = by_place.get((old.file.root, old.file.image))
        if number is not None and _identity(found[number]) == _identity(old):
            taken.add(number)
        elif old.file.root in roots:
            moved.append(position)
    places: dict[int, PictureFile | None] = {}
    for position in moved:
        old = base[position]
        number = next((one for one in by_hash[_identity(old)] if one not in taken), None)
        places[position] = None
        if number is not None:
            taken.add(number)
            places[position] = replace(found[number].file, split=old.file.split)
    pictures, removed = PictureTable(), []
    for position, old in enumerate(base):
        file = places.get(position, old.file)
        if file is None:
            removed.append(str(old.file.path))
        else:
            pictures.add(file, old.facts)
    for number in usable:
        if number not in taken:
            pictures.add(found[number].file, found[number].facts)
    return pictures, removed


def _identity(picture: Picture) -> tuple:
    # A picture that is sorted into another class or into or out of the test split is another sample.
    return picture.facts.sha256, picture.file.label, picture.file.source, picture.file.split == "test"


def _draw_splits(pictures: PictureTable, kept: int, groups: np.ndarray, settings: BuildSettings) -> list[str]:
    """Every picture's split: those of the store keep theirs, new near-duplicates of them join them.

    Of the other new training pictures, behind the first `kept`, some are drawn for validation.
    """
    splits, numbers = [picture.file.split for picture in pictures], groups.tolist()
    fixed: dict[int, str] = {}
    for position, group in enumerate(numbers):
        # Where a group is in train and elsewhere, train keeps it out of validation.
        if (position < kept or splits[position] != "train") and fixed.get(group) != "train":
            fixed[group] = splits[position]
    new = range(kept, len(splits))
    free = [position for position in new if splits[position] == "train" and numbers[position] not in fixed]
    draws = settings.val_fraction > 0 and "val" not in splits[kept:]
    strata: dict[tuple[str, str], tuple[str, str]] = {}  # one tuple for all pictures of a stratum
    chosen = draw_validation(
        [pictures[position].facts.sha256 for position in free],
        groups[free],
        [strata.setdefault(of, of) for of in ((pictures[one].file.label, pictures[one].file.source) for one in free)],
        settings.val_fraction if draws else 0,
        settings.seed,
    )
    for position in new:
        if splits[position] == "train" and fixed.get(numbers[position]) == "val":
            splits[position] = "val"
    for position in np.asarray(free, dtype=int)[chosen].tolist():
        splits[position] = "val"
    return splits
