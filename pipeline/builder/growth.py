"""The merge of a store's pictures with those of a new scan, and the restoration of a store's set.

Pictures are identified by their hash. Pictures of the store keep their position and split, and new pictures follow
them, so that only shards with other content are rebuilt. Pictures of folders that this build does not name are kept. A
folder that was moved, or is reached by another path, is the same folder.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_cards.core.labels import SPLITS, TEST, TRAIN, VAL
from data_cards.core.seeding import draw_key
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.names import match_split, match_split_of_class
from data_cards.dataset.splits import draw_validation
from data_cards.dataset.table import Picture, PictureTable
from data_cards.image.perceptual_hash import group_near_duplicates
from pipeline.store.settings import BuildSettings


@dataclass(frozen=True)
class Growth:
    """The merged pictures, in order, and the difference to the store.

    Attributes
    ----------
    pictures : PictureTable, the store's pictures, then the new ones
    added : int, number of new pictures
    removed : list of str, paths of the store's pictures that were removed from their folder or changed
    reassigned : list of str, paths of unchanged files that now have another class or source, or joined or left the test
        split; their samples are made again
    """

    pictures: PictureTable
    added: int
    removed: list[str]
    reassigned: list[str]


def merge_pictures(base: PictureTable, found: PictureTable, usable: Sequence[int], settings: BuildSettings) -> Growth:
    """Merge a store's pictures with those of a scan.

    Parameters
    ----------
    base : PictureTable of the store, empty for a new store
    found : PictureTable of the scan
    usable : sequence of int, positions of the usable pictures in `found`
    settings : BuildSettings
    """
    pictures, removed, reassigned = _match(base, found, usable)
    kept = len(base) - len(removed) - len(reassigned)
    groups = group_near_duplicates(pictures.phashes)
    splits = _draw_splits(pictures, kept, groups, settings)
    rows = np.concatenate([np.arange(kept), kept + _shuffle(pictures, kept, splits, settings.seed)])
    grown = pictures.select(rows.tolist())
    grown.set_splits([splits[row] for row in rows.tolist()])
    grown.set_groups(_number_by_appearance(groups[rows]))
    grown.subsample_thumbnails()
    return Growth(grown, len(pictures) - kept - len(reassigned), removed, reassigned)


def restore_set(pictures: PictureTable, settings: BuildSettings) -> tuple[PictureTable, bool]:
    """Restore the set that a store was built from: in the order of a scan, with the splits of its folders.

    A store does not record which validation pictures were drawn. If a draw from all its training and validation
    pictures gives the same split, all of them were drawn. Otherwise, pictures in a folder named after validation were
    not drawn, and the others count as drawn.

    Parameters
    ----------
    pictures : PictureTable of a store
    settings : BuildSettings of the store

    Returns
    -------
    the pictures, and whether their splits are certain
    """
    places = [(picture.file.root, picture.file.image) for picture in pictures]
    restored = pictures.select(sorted(range(len(places)), key=places.__getitem__))
    restored.set_groups(group_near_duplicates(restored.phashes))
    splits = [picture.file.split for picture in restored]
    if VAL not in splits:
        return restored, True
    restored.set_splits([TRAIN if split == VAL else split for split in splits])
    if _draw_splits(restored, 0, restored.groups, settings) == splits:
        return restored, True
    named = [split == VAL and _names_validation(one.file) for one, split in zip(restored, splits, strict=True)]
    restored.set_splits(
        [TRAIN if split == VAL and not own else split for split, own in zip(splits, named, strict=True)]
    )
    return restored, sum(named) == splits.count(VAL)


def _names_validation(file: PictureFile) -> bool:
    return any(VAL in (match_split(name), match_split_of_class(name)) for name in file.image.split("/")[:-1])


def _shuffle(pictures: PictureTable, kept: int, splits: Sequence[str], seed: int) -> np.ndarray:
    """Return the order of the pictures after `kept`: by split, then seeded random; equal files in the scan's order."""
    new = range(kept, len(pictures))
    keys = np.fromiter((draw_key(seed, pictures.sha256(number), "order") for number in new), np.uint64, len(new))
    numbers = np.fromiter((SPLITS.index(split) for split in splits[kept:]), np.uint8, len(new))
    return np.lexsort((keys, numbers))


def _number_by_appearance(groups: np.ndarray) -> np.ndarray:
    """Renumber groups from 0 by first appearance, so that the numbers do not depend on the store's history."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[member]


def _match(base: PictureTable, found: PictureTable, usable: Sequence[int]) -> tuple[PictureTable, list[str], list[str]]:
    """Match a store's pictures with those of a scan.

    Returns
    -------
    PictureTable, the kept pictures with their present files, then the others of the scan
    removed, reassigned : list of str, as of `Growth`
    """
    if not base:
        return found if len(usable) == len(found) else found.select(usable), [], []
    scanned = {os.path.realpath(root) for root in {found[number].file.root for number in usable}}
    roots = {root: os.path.realpath(root) for root in {picture.file.root for picture in base}}
    gone = {root for root, path in roots.items() if path not in scanned and not os.path.exists(path)}
    by_place, by_hash = {}, defaultdict(list)
    for number in usable:
        picture = found[number]
        by_place[(picture.file.root, picture.file.image)] = number
        by_hash[_identity(picture)].append(number)
    matched: set[int] = set()
    moved: list[int] = []  # positions of the store's pictures that are not at their old path
    # Match unmoved pictures first, so that a moved copy cannot match them.
    for position, old in enumerate(base):
        number = by_place.get((old.file.root, old.file.image))
        if number is not None and _identity(found[number]) == _identity(old):
            matched.add(number)
        elif old.file.root in gone or roots[old.file.root] in scanned:
            moved.append(position)
    places: dict[int, PictureFile | None] = {}
    for position in moved:
        old = base[position]
        number = next((one for one in by_hash[_identity(old)] if one not in matched), None)
        if number is not None:
            matched.add(number)
            places[position] = replace(found[number].file, split=old.file.split)
        elif old.file.root not in gone:
            places[position] = None
    pictures, removed, reassigned = PictureTable(), [], []
    for position, old in enumerate(base):
        file = places.get(position, old.file)
        if file is not None:
            pictures.add(file, old.facts)
            continue
        number = by_place.get((old.file.root, old.file.image))
        is_same_file = number is not None and found[number].facts.sha256 == old.facts.sha256
        (reassigned if is_same_file else removed).append(str(old.file.path))
    for number in usable:
        if number not in matched:
            pictures.add(found[number].file, found[number].facts)
    return pictures, removed, reassigned


def _identity(picture: Picture) -> tuple:
    # A picture that moved to another class, or into or out of the test split, counts as another picture.
    return picture.facts.sha256, picture.file.label, picture.file.source, picture.file.split == TEST


def _draw_splits(pictures: PictureTable, kept: int, groups: np.ndarray, settings: BuildSettings) -> list[str]:
    """Return every picture's split.

    The first `kept` pictures, those of the store, keep their split, and new near-duplicates get the same split. Some of
    the other new training pictures are drawn for validation.
    """
    splits, numbers = [picture.file.split for picture in pictures], groups.tolist()
    fixed: dict[int, str] = {}
    for position, group in enumerate(numbers):
        # A group that is in train and in another split is not used for validation.
        if (position < kept or splits[position] != TRAIN) and fixed.get(group) != TRAIN:
            fixed[group] = splits[position]
    new = range(kept, len(splits))
    free = [position for position in new if splits[position] == TRAIN and numbers[position] not in fixed]
    draws = settings.val_fraction > 0 and VAL not in splits[kept:]
    strata: dict[tuple[str, str], tuple[str, str]] = {}  # one tuple for all pictures of a stratum
    chosen = draw_validation(
        [pictures.sha256(position) for position in free],
        groups[free],
        [strata.setdefault(of, of) for of in ((pictures[one].file.label, pictures[one].file.source) for one in free)],
        settings.val_fraction if draws else 0,
        settings.seed,
    )
    for position in new:
        if splits[position] == TRAIN and fixed.get(numbers[position]) == VAL:
            splits[position] = VAL
    for position in np.asarray(free, dtype=int)[chosen].tolist():
        splits[position] = VAL
    return splits
