"""Search for a set's picture files, with their places in the set: split, class and source.

Every file below the set's folders is found or is left out with a reason.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from data_cards.archives.place import split_place
from data_cards.core.console import note, warn
from data_cards.core.errors import UsageError, UserError
from data_cards.core.kind import Kind, find_kind, format_use
from data_cards.core.labels import TRAIN
from data_cards.core.text import escape_undecodable, format_count, is_unicode
from data_cards.dataset.labels_arrangement import Arranged, Listing, arrange_by_labels, clean_source
from data_cards.dataset.labels_file import LabelsFile, read_labels
from data_cards.dataset.layout import PictureFile, Place, arrange_pictures
from data_cards.dataset.listing import STORES, LeftOut, list_files, unpack_path
from data_cards.dataset.names import (
    Meaning,
    find_own_name,
    format_meaning,
    is_aside,
    is_service,
    match_class,
    match_split,
    names_source,
)
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.simulated import SIMULATION_MARKER
from data_cards.dataset.source_info import NAMES as SOURCE_FILES
from data_cards.image.signature import is_picture_file

_DOCUMENTS = {SIMULATION_MARKER, *SOURCE_FILES}  # read for the card


@dataclass(frozen=True)
class FoundFiles:
    """The picture files of a set, in order of root and path, and the files that are left out."""

    files: list[PictureFile]
    left_out: list[LeftOut]


@dataclass(frozen=True)
class _Source:
    """One `--src`: a folder, and the class and split of all its pictures where they are given."""

    root: Path
    label: str | None = None
    split: str | None = None


def find_pictures(src: str) -> list[PictureFile]:
    """Find the picture files of one `--src`, sorted by path; raises `UserError` as `find_files`."""
    return find_files([src]).files


def find_files(sources: Sequence[str], settings: SetSettings | None = None) -> FoundFiles:
    """Find the picture files of a set, with the split, class and source of each.

    Parameters
    ----------
    sources : sequence of str, folders, or `[SPLIT/]CLASS=FOLDER`; may be empty where `settings` names tables
    settings : how folders and tables are interpreted

    Raises
    ------
    UserError : a folder or a table is missing, empty or has unknown names
    """
    settings = settings or SetSettings()
    tables = [read_labels(Path(os.path.abspath(file)), settings) for file in settings.labels]
    parsed = [_parse_source(source, settings.classes) for source in sources]
    if tables and all(one.label for one in parsed):
        parsed += [_Source(folder) for folder in sorted({table.path.parent for table in tables})]
    if not parsed:
        raise UsageError("no pictures are given; give their folders with --src, or a table of them with --labels")
    folders = {one.root: unpack_path(one.root) for one in parsed}
    own = name_apart(list(folders.values()))
    listed, listings, left_out = [], [], []
    for one in parsed:
        whole = bool if one.label or tables else partial(_has_places, settings=settings)
        found = list_files(one.root, whole)
        if not found.images:
            raise _no_pictures_error(one.root, [str(table.path) for table in tables])
        listed.append(found)
        listings.append(Listing(one.root, found.unpacked, own[folders[one.root]]))
        left_out += found.left_out
    by_table = [listing for one, listing in zip(parsed, listings, strict=True) if tables and not one.label]
    arranged = arrange_by_labels(tables, by_table, settings) if tables else Arranged([], [])
    left_out += [LeftOut(row.path, f"listed in {table.path.name}, but not found") for table, row in arranged.missing]
    files, of_tables = [], iter(arranged.places)
    for one, found, listing in zip(parsed, listed, listings, strict=True):
        if one.label:
            places = [Place(one.split or TRAIN, one.label, listing.own)] * len(listing.images)
        elif tables:
            places = next(of_tables)
        else:
            table = _find_table(found.left_out)
            try:
                places = arrange_pictures(listing.images, listing.own, settings.classes, str(one.root), table)
            except UserError:
                if find_kind(one.root) is Kind.RUN:  # its plot is a picture
                    raise _no_pictures_error(one.root, []) from None
                raise
        if not any("split" in table.columns for table in tables):
            _warn_of_lost_split(one, places)
        for image, place in zip(found.images, places, strict=True):
            if isinstance(place, Place):
                files.append(PictureFile(str(one.root), image, place.split, place.label, place.source))
            else:
                left_out.append(LeftOut(str(one.root / image), place))
    _warn_of_unused_names(settings, sources, listings, tables)
    of_set = {str(table.path) for table in tables}
    left_out = [one for one in left_out if one.path not in of_set and Path(one.path).name not in _DOCUMENTS]
    return FoundFiles(_drop_repeated(_name_sources(files, settings)), left_out)


def _warn_of_lost_split(one: _Source, places: Sequence[Place | str]) -> None:
    """Warn of training pictures in a folder that is named after another split, or of a class in such a folder."""
    folder = one.root.parent if one.label and match_class(one.root.name) else one.root
    split = match_split(folder.name)
    found = {place.split for place in places if isinstance(place, Place)}
    if one.split or split in (None, TRAIN) or found != {TRAIN}:
        return
    typed = f"{split}/real=FOLDER --src {split}/fake=FOLDER"
    if one.label:
        typed = shlex.quote(f"{split}/{one.label}={one.root}")
    elif _holds_splits(folder.parent):
        typed = shlex.quote(str(folder.parent))
    warn(
        f"{one.root}: its pictures count as training pictures, because splits are read only from folders below --src; "
        f"for the split {split}, give --src {typed} (in Python: sources)"
    )


def _holds_splits(folder: Path) -> bool:
    """Return whether all folders in a folder are splits, so that it is a set."""
    try:
        names = [one.name for one in folder.iterdir() if one.is_dir()] if folder.is_dir() else []
    except PermissionError:
        return False
    return all(match_split(name) for name in names if not (is_service(name) or is_aside(name) or name.endswith(STORES)))


def _no_pictures_error(root: Path, tables: Sequence[str]) -> UserError:
    kind = find_kind(root)
    if tables and kind in (Kind.FOLDER, Kind.EMPTY):
        return UserError(
            f"{root}: contains no picture files; expected the folder in which the paths of {tables[0]} begin: give it "
            "as --src (in Python: sources)"
        )
    if kind in (Kind.UNFINISHED, Kind.RUN):
        return UserError(f"{root}: is {kind}; expected a folder of pictures; {format_use(kind, root)}")
    if kind is Kind.STORE:
        return UserError(
            f"{root}: is {kind}; expected a folder of pictures; `pipeline audit --store {shlex.quote(str(root))}` "
            f"and `pipeline card {shlex.quote(str(root))}` read a store"
        )
    found = f"is {kind}" if kind is Kind.EMPTY else "contains no picture files"
    return UserError(
        f"{root}: {found}; expected class folders named real and "
        "fake with pictures in them, or a folder of pictures of one class: --src real=FOLDER --src fake=FOLDER (in "
        "Python: sources)"
    )


def _find_table(left_out: Sequence[LeftOut]) -> str:
    """Find a table that may have the classes of a set, for a message."""
    tables = [Path(one.path) for one in left_out if one.path.lower().endswith((".csv", ".tsv", ".jsonl"))]
    # Tables of a competition's test pictures have no classes.
    without = [path for path in tables if "test" not in path.stem and "submission" not in path.stem]
    return shlex.quote(str(min(without or tables, default="FILE.csv")))


def _has_places(images: list[str], settings: SetSettings) -> bool:
    """Return whether the folders of a set give any picture a place."""
    try:
        return any(isinstance(place, Place) for place in arrange_pictures(images, "", settings.classes))
    except UserError:
        return False


def name_apart(roots: Sequence[Path]) -> dict[Path, str]:
    """Name the source of each folder; folders of the same name get the part of their paths that differs.

    `biggan/0_real` and `biggan/1_fake` are one source, `biggan`; `a/photos` and `b/photos` are `a` and `b`.
    """
    found = {root: find_own_name(root) for root in roots}
    places: dict[str, set[tuple[str, ...]]] = {}
    for name, place in found.values():
        places.setdefault(name, set()).add(_strip_classes(place))
    return {
        root: name if len(places[name]) == 1 else _find_difference(_strip_classes(place), places[name])
        for root, (name, place) in found.items()
    }


def _strip_classes(place: Path) -> tuple[str, ...]:
    """Return the names of a path without splits and classes, which do not distinguish sources."""
    parts = place.relative_to(place.anchor).parts  # "/" is no name
    return tuple(part for part in parts if names_source(part) or not (match_split(part) or match_class(part)))


def _find_difference(parts: tuple[str, ...], clash: set[tuple[str, ...]]) -> str:
    """Find the last names of a path that together distinguish it from all others, and join them."""
    chosen: list[str] = []
    others = clash - {parts}
    for position in range(1, len(parts) + 1):
        part = parts[-position]
        same = {other for other in others if len(other) >= position and other[-position] == part}
        if len(same) < len(others):
            chosen.insert(0, part)
            others = same
        if not others:
            break
    # A number alone is not a name: photos-1.
    return "-".join(chosen) if any(map(names_source, chosen)) else "-".join([parts[-1], *chosen])


def _warn_of_unused_names(
    settings: SetSettings, sources: Sequence[str], listings: Sequence[Listing], tables: Sequence[LabelsFile]
) -> None:
    folders = {folder for listing in listings for folder in {image.rpartition("/")[0] for image in listing.images}}
    names = {name.lower() for folder in folders for name in folder.split("/")}
    names |= {source.partition("=")[0].rpartition("/")[2].lower() for source in sources}
    names |= {row.label.strip().lower() for table in tables for row in table.rows if row.label}
    if unused := [name for name in settings.classes if name not in names]:
        warn(f"--meaning {', '.join(unused)}: no folder and no label has this name")


def _name_sources(files: list[PictureFile], settings: SetSettings) -> list[PictureFile]:
    """Set the sources that the user's pattern finds; raises `UserError` if it finds none."""
    if (pattern := settings.pattern) is None:
        return files
    group = "source" if "source" in pattern.groupindex else 1
    named, missed = [], []
    for file in files:
        found = pattern.search(file.image)
        name = found and found[group]
        named.append(replace(file, source=clean_source(name)) if name else file)
        missed += [] if name else [file]
    if len(missed) == len(files):
        raise UserError(
            f"--source-pattern {settings.source_pattern!r}: finds no source in any of {len(files)} paths below the "
            f"folders; the first: {files[0].image}; correct the pattern, or leave it out"
        )
    if missed:
        warn(
            f"--source-pattern {settings.source_pattern!r}: finds no source in {len(missed)} of {len(files)} paths; "
            f"these keep the source of their folders; the first: {missed[0].image}"
        )
    return named


def _parse_source(source: str, meaning: Meaning) -> _Source:
    if not source:
        raise UsageError("--src '' (in Python: sources): expected a folder, got an empty text")
    spec, _, folder = source.partition("=")
    split, _, name = spec.rpartition("/")
    label = match_class(name, meaning)
    if folder and not label and os.path.isdir(folder) and not os.path.exists(source):
        raise UsageError(
            f"--src {source} (in Python: sources): {name!r} is not a class; expected real=FOLDER, fake=FOLDER or "
            f"test/fake=FOLDER, or declare it with {format_meaning([name])}"
        )
    if folder and label and (not split or match_split(split)):
        return _Source(_resolve_folder(folder), label, match_split(split))
    return _Source(_resolve_folder(source))


def _resolve_folder(name: str) -> Path:
    path = Path(os.path.abspath(name))
    if not is_unicode(str(path)):
        raise UserError(f"{escape_undecodable(str(path))}: its name is not UTF-8; rename the folder")
    if path.is_dir() or split_place(path):
        return path
    if not path.exists():
        raise UserError(
            f"{name}: no such folder; expected --src FOLDER with pictures, or --src real=FOLDER --src fake=FOLDER "
            "(in Python: sources)"
        )
    if is_picture_file(path):
        raise UserError(f"{name}: is a file; expected --src FOLDER with pictures, or an archive of them")
    return path


def _drop_repeated(files: Sequence[PictureFile]) -> list[PictureFile]:
    """Drop files that are found twice, and print how many; raises `UserError` for a file with two classes or splits."""
    first = None
    seen: dict[str, PictureFile] = {}
    folders: dict[tuple[str, str], str] = {}
    for file in files:
        parent, _, name = file.image.rpartition("/")
        if (file.root, parent) not in folders:
            folders[file.root, parent] = os.path.realpath(os.path.join(file.root, parent))
        path = os.path.join(folders[file.root, parent], name)
        if os.path.islink(path):
            path = os.path.realpath(path)
        before = seen.setdefault(path, file)
        if (before.label, before.split) != (file.label, file.split):
            raise UserError(
                f"{path}: found twice, as {before.split}/{before.label} ({before.path}) and as "
                f"{file.split}/{file.label} ({file.path}); remove one, or give each folder to one --src only"
            )
        first = first or (file if before is not file else None)
    if first is not None:
        repeated = format_count(len(files) - len(seen), "file")
        note(
            f"found twice and used once, because folders overlap or are linked: {repeated}, such as "
            f"{escape_undecodable(str(first.path))}"
        )
    return sorted(seen.values(), key=lambda file: (file.root, file.image))
