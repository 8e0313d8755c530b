"""Layout of a set of pictures: split, class and source of each, from the names of its folders.

A function of relative paths, so that a folder and an archive with the same paths are arranged in the same way.
These layouts are recognised, also below folders that contain only one other folder (`docs/building.md` draws them):

- SPLIT/CLASS/[SOURCE/]..., CLASS/SPLIT/[SOURCE/]..., CLASS/SOURCE/SPLIT/... and CLASS/[SOURCE/]..., as Kaggle's sets;
- SPLIT_CLASS/[SOURCE/]..., such as `training_real`;
- [SPLIT/]GENERATOR/[OBJECT/]CLASS/... and GENERATOR/[OBJECT/]SPLIT/CLASS/..., as the field's own sets: photographs
  beside a generator's pictures have the generator as their source too, so that both are left out together.

Only folders with pictures count. Nothing is left out silently: a picture gets a place or a reason.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN
from data_cards.dataset.names import (
    Meaning,
    format_meaning,
    is_aside,
    is_generator,
    is_object,
    is_sure_class,
    match_class,
    match_split,
    match_split_of_class,
    names_source,
)

NO_CLASS = "in no class folder"
NO_SPLIT = "beside the split folders"
ASIDE = "beside the set's folders"
EXPECTED_CLASSES = "real and fake (or photo, ai, generated, ...)"
_DEEPEST = 200  # folders inside one another


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A file that is read as a picture. `image` is relative to `root` (absolute), with forward slashes."""

    root: str
    image: str
    split: str
    label: str
    source: str

    @property
    def path(self) -> Path:
        return Path(self.root, self.image)


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a picture in a set: its split, its class ("real" or "fake") and its source."""

    split: str
    label: str
    source: str


@dataclass(slots=True, eq=False)  # without eq, folders are hashed by identity, which is fast for 100,000 folders
class _Folder:
    """A folder with pictures in or below it: its sub-folders by name, and the numbers of its own pictures."""

    name: str
    path: str  # relative to the set, for messages
    folders: dict[str, "_Folder"] = field(default_factory=dict)
    pictures: list[int] = field(default_factory=list)

    def sorted_folders(self) -> list["_Folder"]:
        return [self.folders[name] for name in sorted(self.folders)]


def arrange_pictures(
    images: Sequence[str], own: str, meaning: Meaning | None = None, where: str = "", table: str = "FILE.csv"
) -> list[Place | str]:
    """Find the place of every picture of a set.

    Parameters
    ----------
    images : sequence of str, length N, paths of its pictures, relative to the set, with forward slashes
    own : str, source of pictures for which no folder names one
    meaning : classes of names, declared by the user
    where, table : str, paths of the set and of a table that may list its pictures, for messages

    Returns
    -------
    list, length N : each picture's place, or the reason why it has none

    Raises
    ------
    UserError : folders whose names are not understood
    """
    arrangement = _Arrangement(images, own, meaning, where, table)
    top, generator = arrangement.skip_wrappers(arrangement.top)
    arrangement.arrange(top, None, generator)
    if not any(isinstance(place, Place) for place in arrangement.places):
        raise arrangement.unknown_error(top, top.sorted_folders(), "class", EXPECTED_CLASSES)
    return arrangement.places


class _Arrangement:
    def __init__(self, images: Sequence[str], own: str, meaning: Meaning | None, where: str, table: str):
        self.places: list[Place | str] = [NO_CLASS] * len(images)
        self.top = _build_tree(images)
        self._own, self._meaning, self._where, self._table = own, meaning, where, table

    def arrange(self, folder: _Folder, split: str | None, source: str | None) -> None:
        """Arrange the pictures below a folder whose class is not known yet, by the roles of its sub-folders."""
        inner = self._list_folders(folder)
        splits = [one for one in inner if match_split(one.name)]
        if inner and len(splits) == len(inner):
            for one in inner:
                below, generator = self.skip_wrappers(one)
                if not below.folders:
                    continue  # pictures without labels, such as those of a competition
                self.arrange(below, match_split(one.name), source or generator)
            return
        generators = set(self._list_generators(inner))
        if splits and not (len(splits) == 1 and len(inner) >= 3 and len(generators) == len(inner)):
            unknown = [one for one in inner if not match_split(one.name)]
            raise self.unknown_error(folder, unknown, "split", "train, val or test")
        unknown = [one for one in inner if one not in generators and not self._class_of(one)]
        if unknown or not inner:
            raise self.unknown_error(folder, unknown, "class", EXPECTED_CLASSES)
        named = not all(is_object(one.name) for one in generators)
        for one in inner:
            if one in generators:
                own = one.name if named and names_source(one.name) else None
                self.arrange(one, split, source or own)
            else:
                self._arrange_class(one, split, source)

    def skip_wrappers(self, folder: _Folder) -> tuple[_Folder, str | None]:
        """Descend through folders that contain only one folder, as unpacked archives often have.

        Also return the last of their names that is a well-known generator, or None.
        """
        generator = None
        while True:
            inner = self._list_folders(folder)
            if len(inner) != 1 or match_split(inner[0].name):
                return folder, generator
            if folder.pictures and not self._holds_set(inner[0]):
                return folder, generator
            # A lone folder whose own name matches a class (photos/) may still contain the whole set.
            deeper = any(match_split(one.name) or self._class_of(one) for one in inner[0].sorted_folders())
            if self._class_of(inner[0]) and not deeper and not self._holds_set(inner[0]):
                return folder, generator
            folder = inner[0]
            generator = folder.name if is_generator(folder.name) else generator

    def _arrange_class(self, folder: _Folder, split: str | None, source: str | None) -> None:
        label = self._class_of(folder)
        split = split or match_split_of_class(folder.name)
        # The name of a folder such as `midjourney`, whose class the user declared, is a source.
        if match_class(folder.name) is None and names_source(folder.name):
            source = folder.name
        inner = folder.sorted_folders()
        if split is None and inner and all(match_split(one.name) for one in inner):
            self._place(folder.pictures, NO_SPLIT)
            for one in inner:
                self._arrange_sources(one, match_split(one.name), label, source)
        elif split is None and not folder.pictures and _has_splits_below(inner):
            for one in inner:
                own = source or (one.name if names_source(one.name) else None)
                for below in one.sorted_folders():
                    self._arrange_sources(below, match_split(below.name), label, own)
        else:
            self._arrange_sources(folder, split or TRAIN, label, source)

    def _arrange_sources(self, folder: _Folder, split: str, label: str, source: str | None) -> None:
        """Arrange the pictures below a class folder; their source is the first folder whose name can be a source."""
        self._place(folder.pictures, Place(split, label, source or self._own))
        for one in folder.folders.values():
            # A class folder inside a folder of its name (RealArt/RealArt), as some archives unpack, is not a source.
            again = self._own if one.name == folder.name else None
            own = one.name if names_source(one.name) else None
            self._arrange_sources(one, split, label, source or again or own)

    def _list_folders(self, folder: _Folder) -> list[_Folder]:
        """List the folders that belong to a set; pictures in others, such as `docs`, get the reason `ASIDE`."""
        inner = folder.sorted_folders()
        chosen = [one for one in inner if not is_aside(one.name)]
        if not chosen:
            return inner
        for one in inner:
            if is_aside(one.name):
                self._place(_list_pictures(one), ASIDE)
        return chosen

    def _list_generators(self, inner: list[_Folder]) -> list[_Folder]:
        """List the folders that contain class folders, unless the folders beside them are the classes."""
        labels = {self._class_of(one) for one in inner} - {None}
        if len(labels) == len(CLASS_NAMES):
            return [one for one in inner if not self._class_of(one) and self._holds_set(one)]
        return [one for one in inner if self._holds_set(one)]

    def _holds_set(self, folder: _Folder) -> bool:
        """Return whether the sub-folders, at any depth, are classes: both, or one with an unambiguous name.

        In a folder that has the name of a class itself, such as `deepfake`, both must be there.
        """
        inner = [one for one in folder.sorted_folders() if not is_aside(one.name)]
        labels = {self._class_of(one) for one in inner}
        if inner and None not in labels:
            sure = all(is_sure_class(one.name, self._meaning) for one in inner) and not self._class_of(folder)
            return len(labels) == len(CLASS_NAMES) or sure
        return any(self._holds_set(one) for one in inner if not self._class_of(one))

    def _class_of(self, folder: _Folder) -> str | None:
        return match_class(folder.name, self._meaning)

    def _place(self, pictures: Sequence[int], place: Place | str) -> None:
        for number in pictures:
            self.places[number] = place

    def unknown_error(self, parent: _Folder, unknown: list[_Folder], what: str, expected: str) -> UserError:
        if unknown:
            names = [folder.name for folder in unknown]
            found = "found " + ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        else:
            found = "found pictures, but no folders"
        where = "/".join(filter(None, [self._where, parent.path]))
        own = Path(self._where)
        if not parent.path and what == "class" and match_class(own.name) and is_sure_class(own.name):
            whole = own.parent.parent if match_split(own.parent.name) else own.parent
            first = f"Its own name is a class: give the folder of the whole set (--src {shlex.quote(str(whole))})"
        elif unknown and what == "class":
            present = {self._class_of(folder) for folder in parent.sorted_folders()}
            first = f"Declare their class ({format_meaning(names, present)})"
        else:
            first = "Rename them or move them out" if unknown else "Put them into such folders"
            if not unknown and parent.path and not match_split(parent.name):
                first = f"Declare the class of their folder ({format_meaning([parent.name])})"
        return UserError(
            f"{where}: {found}; expected {what} folders named {expected}. {first}, give each folder a class of its own "
            f"(--src real=FOLDER --src test/fake=FOLDER), or give a table of the pictures (--labels {self._table})"
        )


def _build_tree(images: Sequence[str]) -> _Folder:
    top = _Folder("", "")
    known = {"": top}
    for number, image in enumerate(images):
        parent = image.rpartition("/")[0]
        if parent not in known:
            folder = top
            if parent.count("/") >= _DEEPEST:
                raise UserError(
                    f"{parent[:80]}...: more than {_DEEPEST} folders inside one another; move the pictures up"
                )
            for name in parent.split("/"):
                path = f"{folder.path}/{name}".lstrip("/")
                folder = folder.folders.setdefault(name, _Folder(name, path))
            known[parent] = folder
        known[parent].pictures.append(number)
    return top


def _list_pictures(folder: _Folder) -> list[int]:
    return folder.pictures + [number for one in folder.folders.values() for number in _list_pictures(one)]


def _has_splits_below(inner: list[_Folder]) -> bool:
    """Return whether every folder contains only splits, and not all the same split: CLASS/SOURCE/SPLIT."""
    if not inner or any(one.pictures or not one.folders for one in inner):
        return False
    splits = [match_split(below) for one in inner for below in one.folders]
    return None not in splits and len(set(splits)) > 1
