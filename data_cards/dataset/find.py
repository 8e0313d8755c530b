"""The search for a set's picture files: below folders, by their content, with their places in the set.

A file is a picture by its suffix or by its first bytes. Hidden files, the folders of systems (`@eaDir`, `__MACOSX`) and
feature stores are no part of a set. Every other file is found or is left out with a reason.

Archives (`data_cards.archives`) are read in place: one that `--src` names, and those below a folder that has no
pictures outside of archives. Beside pictures an archive is most often what they were unpacked from.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_cards.archives.archive import ArchiveError
from data_cards.archives.names import name_folders
from data_cards.archives.place import split_place
from data_cards.core.console import warn
from data_cards.core.errors import UserError
from data_cards.core.files import PARTIAL, ZARR_METADATA
from data_cards.core.labels import TRAIN
from data_cards.core.text import escape_undecodable, escape_untrusted, is_unicode
from data_cards.dataset.labels_file import Arranged, LabelsFile, Listing, arrange_by_labels, clean_source, read_labels
from data_cards.dataset.layout import PictureFile, Place, arrange_pictures
from data_cards.dataset.names import Meaning, find_own_name, is_service, match_class, match_split, names_source
from data_cards.dataset.packed import is_archive, list_archive
from data_cards.dataset.settings import SetSettings
from data_cards.image.signature import is_picture_file

NOT_PICTURE = "not pictures"
BESIDE_PICTURES = "archives beside pictures, which are not read (--src ARCHIVE reads one)"
_STORES = (".zarr", PARTIAL)  # endings of the names of stores, by custom, and of unfinished ones
_MOST_FOLDERS = 1_000_000  # links among folders can make any number of paths
_NAMED = 5  # files left out that a line names


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file below a set's folder that is no part of the set, and the reason, as "not pictures"."""

    path: str
    reason: str


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


@dataclass(frozen=True)
class _Listed:
    """The files below a root: the paths of its pictures, as they are and as if every archive were unpacked."""

    images: list[str]
    unpacked: list[str]
    left_out: list[LeftOut]


def find_pictures(src: str) -> list[PictureFile]:
    """Find the picture files of one `--src`, sorted by path; raises `UserError` as `find_files`."""
    return find_files([src]).files


def find_files(sources: Sequence[str], settings: SetSettings | None = None) -> FoundFiles:
    """Find the picture files of a set, and where each belongs.

    Parameters
    ----------
    sources : sequence of str, folders, or `[SPLIT/]CLASS=FOLDER`; may be empty where `settings` names tables
    settings : how folders and tables are understood

    Raises
    ------
    UserError : a folder or a table is missing, empty or not understood
    """
    settings = settings or SetSettings()
    tables = [read_labels(Path(os.path.abspath(file)), settings) for file in settings.labels]
    parsed = [_parse_source(source, settings.classes) for source in sources]
    if tables and all(one.label for one in parsed):
        parsed += [_Source(folder) for folder in sorted({table.path.parent for table in tables})]
    folders = {one.root: _unpack_path(one.root) for one in parsed}
    own = name_apart(list(folders.values()))
    listed, listings, left_out = [], [], []
    for one in parsed:
        found = _list_files(one.root)
        if not found.images:
            raise _no_pictures_error(one.root, found.left_out)
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
            places = arrange_pictures(listing.images, listing.own, settings.classes, str(one.root))
        for image, place in zip(found.images, places, strict=True):
            if isinstance(place, Place):
                files.append(PictureFile(str(one.root), image, place.split, place.label, place.source))
            else:
                left_out.append(LeftOut(str(one.root / image), place))
    _warn_of_unused_names(settings, sources, listings, tables)
    of_set = {str(table.path) for table in tables}
    left_out = [one for one in left_out if one.path not in of_set]
    return FoundFiles(_drop_repeated(_name_sources(files, settings)), left_out)


def format_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """Format the files that were left out, a line for each reason, with the first few by name."""
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        by_reason.setdefault(one.reason, []).append(escape_untrusted(one.path))
    return [
        f"left out: {len(paths)} {'file' if len(paths) == 1 else 'files'} {reason}: {', '.join(sorted(paths)[:_NAMED])}"
        + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
        for reason, paths in sorted(by_reason.items())
    ]


def name_apart(roots: Sequence[Path]) -> dict[Path, str]:
    """Name the own source of each folder, and folders of the same name by the part of their paths that differs.

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
    """Return the names of a path without those of splits and classes: they are no difference of sources."""
    return tuple(part for part in place.parts if names_source(part) or not (match_split(part) or match_class(part)))


def _find_difference(parts: tuple[str, ...], clash: set[tuple[str, ...]]) -> str:
    """Find the names nearest to the end that together no other has at the same position."""
    chosen: list[str] = []
    others = clash - {parts}
    for position in range(1, len(parts) + 1):
        part = parts[-position]
        alike = {other for other in others if len(other) >= position and other[-position] == part}
        if len(alike) < len(others):
            chosen.insert(0, part)
            others = alike
        if not others:
            break
    # A number alone is no name: photos-1.
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
    """Set the sources that the user's pattern finds; raises `UserError` where it finds none."""
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
            f"--source-pattern {settings.source_pattern!r}: finds no source in any of {len(files)} paths; the first: "
            f"{files[0].image}"
        )
    if missed:
        warn(
            f"--source-pattern {settings.source_pattern!r}: finds no source in {len(missed)} of {len(files)} paths; "
            f"these keep the source of their folders; the first: {missed[0].image}"
        )
    return named


def _parse_source(source: str, meaning: Meaning) -> _Source:
    spec, _, folder = source.partition("=")
    split, _, name = spec.rpartition("/")
    label = match_class(name, meaning)
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
        raise UserError(f"{name}: no such folder; --src takes a folder of pictures, or real=FOLDER, fake=FOLDER")
    if is_picture_file(path):
        raise UserError(f"{name}: is a file; --src takes a folder of pictures, or an archive of them")
    return path


def _no_pictures_error(root: Path, left_out: Sequence[LeftOut]) -> UserError:
    if closed := [one for one in left_out if one.reason != NOT_PICTURE]:
        return UserError(f"{closed[0].path}: {closed[0].reason}")
    return UserError(
        f"{root}: contains no picture files; expected class folders named real and fake with pictures in "
        "them, or a folder of pictures of one class: --src real=FOLDER --src fake=FOLDER"
    )


def _unpack_path(root: Path) -> Path:
    """Return the folder that a root would be if it, or the archive that it is in, were unpacked."""
    inside = split_place(root)
    archive = Path(inside[0]) if inside else root
    if not archive.is_file():
        return root
    folder = archive.parent / name_folders([archive.name])[archive.name]
    return folder / inside[1] if inside else folder


def _list_files(root: Path) -> _Listed:
    """List the files below a folder or in an archive, sorted by path."""
    if not root.is_dir():
        return _list_archive(root)
    images, archives, others = [], [], []
    for path, name in walk_files(str(root)):
        if is_picture_file(path):
            images.append(name)
        else:
            (archives if is_archive(path) else others).append(name)
    left_out = [LeftOut(str(root / name), NOT_PICTURE) for name in sorted(others)]
    if images or not archives:
        left_out += [LeftOut(str(root / name), BESIDE_PICTURES) for name in sorted(archives)]
        return _Listed(sorted(images), sorted(images), left_out)
    return _list_archives(root, sorted(archives), left_out)


def _list_archive(root: Path) -> _Listed:
    """List the pictures of an archive, or of a folder in it; raises `ArchiveError`."""
    path, folder = split_place(root) or (str(root), "")
    packed = list_archive(path, folder)
    name = _unpack_path(root).name
    # An archive may be named after its split, as a folder of a set is.
    prefix = f"{name}/" if not folder and match_split(name) else ""
    left_out = [LeftOut(str(root / one), NOT_PICTURE) for one in packed.others]
    return _Listed(packed.pictures, [prefix + one for one in packed.unpacked], left_out)


def _list_archives(root: Path, archives: Sequence[str], left_out: list[LeftOut]) -> _Listed:
    """List the pictures of all archives below a folder; those that cannot be read in place are left out."""
    found: list[tuple[str, str]] = []
    folders = name_folders(archives)
    for archive in archives:
        try:
            packed = list_archive(root / archive)
        except ArchiveError as error:
            left_out.append(LeftOut(str(root / archive), error.reason))
            continue
        folder = folders[archive] and f"{folders[archive]}/"
        pairs = zip(packed.pictures, packed.unpacked, strict=True)
        found += [(f"{archive}/{one}", folder + unpacked) for one, unpacked in pairs]
        left_out += [LeftOut(str(root / archive / one), NOT_PICTURE) for one in packed.others]
    found.sort()
    return _Listed([image for image, _ in found], [unpacked for _, unpacked in found], left_out)


def walk_files(root: str) -> Iterator[tuple[str, str]]:
    """Yield each file below a folder: its path, and its path in the folder with forward slashes.

    Hidden files, service folders and stores are left out. Links to folders are followed, but not to one that the link
    is in.

    Raises
    ------
    UserError : a folder cannot be read, or links multiply the folders beyond a limit
    """
    waiting = [(root, "", (_identify(root),))]
    count = 0
    while waiting:
        folder, prefix, above = waiting.pop()
        count += 1
        if count > _MOST_FOLDERS:
            raise UserError(f"{root}: more than {_MOST_FOLDERS:,} folders; links among them may multiply their paths")
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error
        if prefix and any(entry.name == ZARR_METADATA for entry in found):
            continue
        for entry in found:
            if _is_folder(entry):
                if not is_service(entry.name) and not entry.name.endswith(_STORES):
                    identity = _identify(entry.path)
                    if identity not in above:
                        waiting.append((entry.path, f"{prefix}{entry.name}/", (*above, identity)))
            elif not entry.name.startswith("."):
                yield entry.path, prefix + entry.name


def _identify(folder: str) -> tuple[int, int] | str:
    status = os.stat(folder)
    # Some network file systems have no inodes.
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _drop_repeated(files: Iterable[PictureFile]) -> list[PictureFile]:
    """Drop files that were found before; raises `UserError` for one that was found as two classes or splits."""
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
                f"{path}: found twice, as {before.split}/{before.label} and as {file.split}/{file.label}; "
                "give each folder to one --src only"
            )
    return sorted(seen.values(), key=lambda file: (file.root, file.image))
