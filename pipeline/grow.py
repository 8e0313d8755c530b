"""What a build adds to, and takes from, the pictures that a store already has.

Pictures are told by their hash. Those that the store has keep their place and their split, new
ones come behind them; so only shards whose content differs are made again. A folder that is not
named this time keeps its pictures as they are.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from data_cards.hashes import group_near_duplicates
from data_cards.looks import drop_looks
from data_cards.scan import Picture
from data_cards.splits import draw_key, draw_validation
from pipeline.settings import BuildSettings
from pipeline.store import SPLITS


@dataclass(frozen=True)
class Growth:
    """The pictures of the grown store, in order, and what changed.

    Attributes
    ----------
    pictures : those kept, then those added
    added : number of pictures that are new
    removed : paths of pictures that are gone from their folder, or changed there
    """

    pictures: list[Picture]
    added: int
    removed: list[str]


def grow_pictures(base: Sequence[Picture], found: Sequence[Picture], settings: BuildSettings) -> Growth:
    """Merge the pictures of a store (`base`, none for a new one) with those of a scan."""
    kept, removed, new = _match(base, found)
    groups = group_near_duplicates([picture.facts.phash for picture in chain(kept, new)])
    splits = _draw_splits(kept, new, groups, settings)
    order = _shuffle(new, splits, settings.seed)
    rows = np.concatenate([np.arange(len(kept)), len(kept) + order])
    numbers = _number_by_appearance(groups[rows])
    files, facts = [], []
    for row in rows.tolist():
        picture = kept[row] if row < len(kept) else new[row - len(kept)]
        split = picture.file.split if row < len(kept) else splits[row - len(kept)]
        files.append(picture.file if picture.file.split == split else replace(picture.file, split=split))
        facts.append(picture.facts)
    drop_looks(facts, [file.label for file in files])
    return Growth(list(map(Picture, files, facts, numbers.tolist())), len(new), removed)


def _shuffle(new: Sequence[Picture], splits: Sequence[str], seed: int) -> np.ndarray:
    """The order of new pictures: by split, then drawn; equal files in the order of the scan."""
    keys = (draw_key(seed, picture.facts.sha256, "order") for picture in new)
    numbers = np.fromiter((SPLITS.index(split) for split in splits), np.uint8, len(new))
    return np.lexsort((np.fromiter(keys, np.uint64, len(new)), numbers))


def _number_by_appearance(groups: np.ndarray) -> np.ndarray:
    """Groups numbered from 0 as they come up, so that numbers do not depend on how a store came to be."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member]


def _match(base: Sequence[Picture], found: Sequence[Picture]) -> tuple[list[Picture], list[str], list[Picture]]:
    """Pictures kept (where they are now), paths of those removed, and pictures that are new."""
    if not base:
        return [], [], list(found)
    roots = {picture.file.root for picture in found}
    by_place = {(picture.file.root, picture.file.image): index for index, picture in enumerate(found)}
    by_hash = defaultdict(list)
    for index, picture in enumerate(found):
        by_hash[_identity(picture)].append(index)
    taken: set[int] = set()
    kept: list[Picture | None] = []
    # Those at their old place first, so that a copy elsewhere does not take it.
    for old in base:
        index = by_place.get((old.file.root, old.file.image))
        stays = index is not None and _identity(found[index]) == _identity(old)
        if stays:
            taken.add(index)
        kept.append(old if stays or old.file.root not in roots else None)
    removed = []
    for position, old in enumerate(base):
        if kept[position] is None:
            moved = next((index for index in by_hash[_identity(old)] if index not in taken), None)
            if moved is None:
                removed.append(str(old.file.path))
            else:
                taken.add(moved)
                kept[position] = replace(old, file=replace(found[moved].file, split=old.file.split))
    new = [picture for index, picture in enumerate(found) if index not in taken]
    return [picture for picture in kept if picture is not None], removed, new


def _identity(picture: Picture) -> tuple:
    # A picture that is sorted into another class or into or out of the test split is another sample.
    return picture.facts.sha256, picture.file.label, picture.file.source, picture.file.split == "test"


def _draw_splits(
    kept: Sequence[Picture], new: Sequence[Picture], groups: np.ndarray, settings: BuildSettings
) -> list[str]:
    """Splits of new pictures: near-duplicates join the store's, of the others some are drawn for validation.

    `groups` are those of the kept pictures, then of the new ones.
    """
    of_new = groups[len(kept) :]
    fixed: dict[int, str] = {}
    standing = chain(
        zip(groups.tolist(), kept, strict=False),
        ((int(group), one) for group, one in zip(of_new, new, strict=True) if one.file.split != "train"),
    )
    for group, picture in standing:
        # Where a group is in train and elsewhere, train keeps it out of validation.
        if fixed.get(group) != "train":
            fixed[group] = picture.file.split
    free = [index for index, one in enumerate(new) if one.file.split == "train" and int(of_new[index]) not in fixed]
    draws = settings.val_fraction > 0 and not any(one.file.split == "val" for one in new)
    strata: dict[tuple[str, str], tuple[str, str]] = {}  # one tuple for all pictures of a stratum
    chosen = draw_validation(
        [new[index].facts.sha256 for index in free],
        of_new[free],
        [strata.setdefault(of, of) for of in ((new[index].file.label, new[index].file.source) for index in free)],
        settings.val_fraction if draws else 0,
        settings.seed,
    )
    splits = [
        "val" if one.file.split == "train" and fixed.get(int(group)) == "val" else one.file.split
        for group, one in zip(of_new, new, strict=True)
    ]
    for index, drawn in zip(free, chosen, strict=True):
        if drawn:
            splits[index] = "val"
    return splits
