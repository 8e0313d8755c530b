"""What a build adds to, and takes from, the pictures that a store already has.

Pictures are told by their hash. Those that the store has keep their place and their split, new
ones come behind them; so only shards whose content differs are made again. A folder that is not
named this time keeps its pictures as they are.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from data_cards.hashes import group_near_duplicates
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
    groups = group_near_duplicates([picture.facts.phash for picture in [*kept, *new]])
    everything = [replace(picture, group=int(group)) for picture, group in zip([*kept, *new], groups, strict=True)]
    kept, new = everything[: len(kept)], _split_new(everything[: len(kept)], everything[len(kept) :], settings)

    def place(picture: Picture) -> tuple:
        key = draw_key(settings.seed, picture.facts.sha256, "order")
        return SPLITS.index(picture.file.split), key, picture.file.root, picture.file.image

    # Numbered by first appearance, so that the numbers do not depend on how a store came to be.
    numbers: dict[int, int] = {}
    pictures = [
        replace(picture, group=numbers.setdefault(picture.group, len(numbers)))
        for picture in [*kept, *sorted(new, key=place)]
    ]
    return Growth(pictures, len(new), removed)


def _match(base: Sequence[Picture], found: Sequence[Picture]) -> tuple[list[Picture], list[str], list[Picture]]:
    """Pictures kept (where they are now), paths of those removed, and pictures that are new."""
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


def _split_new(kept: list[Picture], new: list[Picture], settings: BuildSettings) -> list[Picture]:
    """Splits of new pictures: near-duplicates join the store's, of the others some are drawn for validation."""
    fixed: dict[int, str] = {}
    for picture in [*kept, *(one for one in new if one.file.split != "train")]:
        # Where a group is in train and elsewhere, train keeps it out of validation.
        if fixed.get(picture.group) != "train":
            fixed[picture.group] = picture.file.split
    free = [index for index, one in enumerate(new) if one.file.split == "train" and one.group not in fixed]
    draws = settings.val_fraction > 0 and not any(one.file.split == "val" for one in new)
    chosen = draw_validation(
        [new[index].facts.sha256 for index in free],
        [new[index].group for index in free],
        [(new[index].file.label, new[index].file.source) for index in free],
        settings.val_fraction if draws else 0,
        settings.seed,
    )
    to_validation = {index for index, drawn in zip(free, chosen, strict=True) if drawn}
    for index, one in enumerate(new):
        if one.file.split == "train" and fixed.get(one.group) == "val":
            to_validation.add(index)
    return [
        replace(one, file=replace(one.file, split="val")) if index in to_validation else one
        for index, one in enumerate(new)
    ]
