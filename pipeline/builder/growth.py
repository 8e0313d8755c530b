"""The merge of a store's pictures with those of a new scan, and the restoration of a store's set.

Pictures are identified by their hash. Pictures of the store keep their position and split, and new pictures follow
them, so that only shards with other content are rebuilt. Pictures of folders that this build does not name are kept. A
folder that was moved, or is reached by another path, is the same folder. A file below two folders is one picture.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from shlex import quote

import numpy as np

from data_cards.core.errors import UserError
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
    removed : list of str, paths of the store's pictures that were removed from their folder
    changed : list of str, paths of the store's pictures whose files have other contents now
    reassigned : list of str, paths of unchanged files that now have another class or source, or joined or left the test
        split; their samples are made again
    repeated : int, number of the scan's pictures that the store has already, as files below another folder
    """

    pictures: PictureTable
    added: int
    removed: list[str]
    changed: list[str]
    reassigned: list[str]
    repeated: int


def merge_pictures(
    base: PictureTable, found: PictureTable, usable: Sequence[int], roots: Collection[str], settings: BuildSettings
) -> Growth:
    """Merge a store's pictures with those of a scan.

    Parameters
    ----------
    base : PictureTable of the store, empty for a new store
    found : PictureTable of the scan
    usable : sequence of int, positions of the usable pictures in `found`
    roots : of str, folders of the scan, also those without a usable picture
    settings : BuildSettings

    Raises
    ------
    UserError : a file of the store is found below another folder, with another class or split
    """
    growth = _match(base, found, usable, roots)
    pictures, kept = growth.pictures, len(base) - sum(map(len, (growth.removed, growth.changed, growth.reassigned)))
    groups = group_near_duplicates(pictures.phashes)
    splits = _draw_splits(pictures, kept, groups, settings)
    rows = np.concatenate([np.arange(kept), kept + _shuffle(pictures, kept, splits, settings.seed)])
    grown = pictures.select(rows.tolist())
    grown.set_splits([splits[row] for row in rows.tolist()])
    grown.set_groups(_number_by_appearance(groups[rows]))
    grown.subsample_thumbnails()
    return replace(growth, pictures=grown)


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


def list_kept_roots(pictures: PictureTable, roots: Collection[str]) -> set[str]:
    """List the folders of pictures that are not among those of a scan, also by another path."""
    named = set(map(os.path.realpath, roots))
    return {root for root in {picture.file.root for picture in pictures} if os.path.realpath(root) not in named}


def _match(base: PictureTable, found: PictureTable, usable: Sequence[int], named_roots: Collection[str]) -> Growth:
    """Match a store's pictures with those of a scan: the kept pictures with their present files, then the others."""
    if not base:
        return Growth(found if len(usable) == len(found) else found.select(usable), len(usable), [], [], [], 0)
    scanned = {root: os.path.realpath(root) for root in named_roots}
    roots = {root: os.path.realpath(root) for root in {picture.file.root for picture in base}}
    named = set(scanned.values())
    gone = {root for root, path in roots.items() if path not in named and not os.path.exists(path)}
    by_place, by_hash = {}, defaultdict(list)
    for number in usable:
        picture = found[number]
        by_place[(picture.file.root, picture.file.image)] = number
        by_hash[_identity(picture)].append(number)
    at: dict[int, int] = {}  # positions of the store's pictures, to the scan's numbers of the files that are there now
    matched: set[int] = set()
    moved: list[int] = []  # positions of the store's pictures that are not at their old path
    # Match unmoved pictures first, so that a moved copy cannot match them.
    for position, old in enumerate(base):
        number = by_place.get((old.file.root, old.file.image))
        if number is not None:
            at[position] = number
        if number is not None and _identity(found[number]) == _identity(old):
            matched.add(number)
        elif old.file.root in gone or roots[old.file.root] in named:
            moved.append(position)
    unmoved = len(matched)
    overlaps = {root: _find_overlaps(path, scanned) for root, path in roots.items() if path not in named}
    for position, old in enumerate(base) if any(overlaps.values()) else ():
        places = _list_places(old.file.image, overlaps.get(old.file.root, ()))
        number = next((by_place[place] for place in places if place in by_place), None)
        if number is None or number in matched:
            continue
        _check_place(old.file, found[number].file)
        if found[number].facts.sha256 == old.facts.sha256:
            matched.add(number)
        else:
            at[position] = number
            moved.append(position)
    repeated = len(matched) - unmoved
    places: dict[int, PictureFile | None] = {}
    for position in moved:
        old = base[position]
        number = next((one for one in by_hash[_identity(old)] if one not in matched), None)
        if number is not None:
            matched.add(number)
            places[position] = replace(found[number].file, split=old.file.split)
        elif old.file.root not in gone:
            places[position] = None
    pictures, removed, changed, reassigned = PictureTable(), [], [], []
    for position, old in enumerate(base):
        file = places.get(position, old.file)
        if file is not None:
            pictures.add(file, old.facts)
            continue
        number = at.get(position)
        if number is None or number in matched:  # where another picture of the store has moved to, this one is removed
            removed.append(str(old.file.path))
        else:
            is_same_file = found[number].facts.sha256 == old.facts.sha256
            (reassigned if is_same_file else changed).append(str(old.file.path))
    kept = len(pictures)
    for number in usable:
        if number not in matched:
            pictures.add(found[number].file, found[number].facts)
    added = len(pictures) - kept - len(changed) - len(reassigned)
    return Growth(pictures, added, removed, changed, reassigned, repeated)


def _find_overlaps(path: str, scanned: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Find the scanned folders in a folder, or that it is in: their roots, and the part of paths that differs.

    A path in the folder becomes one in the scanned folder if the second part is cut from its start, and the third is
    put before it.
    """
    overlaps = []
    for root, other in scanned.items():
        if other.startswith(f"{path}/"):
            overlaps.append((root, f"{other[len(path) + 1 :]}/", ""))
        elif path.startswith(f"{other}/"):
            overlaps.append((root, "", f"{path[len(other) + 1 :]}/"))
    return overlaps


def _list_places(image: str, overlaps: Iterable[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """List the root and path of a file in each of the overlapping folders that it is in."""
    return [(root, before + image.removeprefix(cut)) for root, cut, before in overlaps if image.startswith(cut)]


def _check_place(old: PictureFile, new: PictureFile) -> None:
    if (old.label, old.split == TEST) != (new.label, new.split == TEST):
        raise UserError(
            f"{new.path}: is in the store as {old.split}/{old.label} ({old.path}), and is found as "
            f"{new.split}/{new.label}; expected the same class and split; give the folder of the first build "
            f"(--src {quote(old.root)}), or build another store"
        )


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
