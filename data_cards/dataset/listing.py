"""Files below a folder or in an archive: pictures, recognised by content, and others, with the reason.

Hidden files, system folders (`@eaDir`, `__MACOSX`) and feature stores are not part of a set. Archives
(`data_cards.archives`) are read in place if they are given directly, or are below a folder whose other files are not a
set of pictures. An archive beside a set is usually the one that the set was unpacked from, so it is not read.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.archives.archive import ArchiveError
from data_cards.archives.names import is_archive_name, name_folders
from data_cards.archives.place import split_place
from data_cards.core.errors import UserError
from data_cards.core.files import CARD_FILE, CARD_FILES, CROISSANT_FILE, PARTIAL, ZARR_METADATA
from data_cards.core.text import escape_untrusted, format_count
from data_cards.dataset.names import is_service, match_split
from data_cards.dataset.packed import Packed, is_archive, list_archive
from data_cards.image.signature import is_picture_file

_NOT_PICTURE = "that are not pictures"
_BROKEN = "behind broken links"
_BESIDE_SET = "packed beside pictures (--src ARCHIVE reads an archive)"
_CLOSED_BESIDE_SET = "packed beside pictures (unpack an archive to read it)"
_BESIDE_ARCHIVES = "beside a set in archives"
_CLOSED = "not read in place"
_INSIDE = "packed in an archive (unpack it to read them)"
STORES = (".zarr", PARTIAL)  # usual endings of the names of stores, and of unfinished ones
_MOST_FOLDERS = 1_000_000  # links between folders can create any number of paths
_NAMED = 5  # files left out that a line names
_SINGULAR = {"that are": "that is", "pictures": "a picture", "clips": "a clip"}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file below a set's folder that is not part of the set, and the reason, such as "that are not pictures"."""

    path: str
    reason: str


@dataclass(frozen=True)
class Listed:
    """The files below a root.

    Attributes
    ----------
    images : list of str, paths of the pictures, relative to the root, sorted
    unpacked : list of str, the paths that they would have if every archive were unpacked, by class
    left_out : list of LeftOut
    """

    images: list[str]
    unpacked: list[str]
    left_out: list[LeftOut]


def list_files(root: Path, is_set: Callable[[list[str]], bool] = bool) -> Listed:
    """List the files below a folder, in an archive or in a folder of an archive.

    Parameters
    ----------
    root : absolute Path
    is_set : callable, given the paths of the pictures outside of archives; True if they are a set, so that archives
        beside them are not read

    Raises
    ------
    UserError : a folder or the archive cannot be read
    """
    if not root.is_dir():
        return _list_one(root)
    images, archives, others = [], [], []
    for path, name in walk_files(str(root)):
        if is_picture_file(path):
            images.append(name)
        else:
            (archives if is_archive(path) else others).append(name)
    images, archives = sorted(images), sorted(archives)
    broken = {name for name in others if (root / name).is_symlink() and not os.path.exists(root / name)}
    not_pictures = _leave_out(root, sorted(set(others) - broken), _NOT_PICTURE)
    not_pictures += _leave_out(root, sorted(broken), _BROKEN)
    if archives and not (images and is_set(images)):
        packed, closed = _list_several(root, archives)
        if closed and not packed.images and not images:
            raise closed[0]
        if packed.images:
            beside = _leave_out(root, images, _BESIDE_ARCHIVES)
            return Listed(packed.images, packed.unpacked, not_pictures + packed.left_out + beside)
    readable = [name for name in archives if is_archive_name(name)]
    beside = _leave_out(root, readable, _BESIDE_SET)
    beside += _leave_out(root, sorted(set(archives) - set(readable)), _CLOSED_BESIDE_SET)
    return Listed(images, images, not_pictures + beside)


def unpack_path(root: Path) -> Path:
    """Return the path that a root would have if it, or its archive, were unpacked."""
    inside = split_place(root)
    archive = Path(inside[0]) if inside else root
    if not archive.is_file():
        return root
    folder = archive.parent / name_folders([archive.name])[archive.name]
    return folder / inside[1] if inside else folder


def _list_one(root: Path) -> Listed:
    """List the pictures of an archive, or of a folder in it; raises `ArchiveError`."""
    path, folder = split_place(root) or (str(root), "")
    packed = list_archive(path, folder)
    name = unpack_path(root).name
    # An archive may be named after its split, as a folder of a set is.
    prefix = f"{name}/" if not folder and match_split(name) else ""
    return Listed(packed.pictures, [prefix + one for one in packed.unpacked], _leave_out_members(root, packed))


def _list_several(root: Path, archives: Sequence[str]) -> tuple[Listed, list[ArchiveError]]:
    """List the pictures of all archives below a folder, and the errors of archives that cannot be read in place."""
    found: list[tuple[str, str]] = []
    left_out, closed = [], []
    folders = name_folders(archives)
    for archive in archives:
        try:
            packed = list_archive(root / archive)
        except ArchiveError as error:
            closed.append(error)
            left_out += _leave_out(root, [archive], f"{_CLOSED} ({error.reason})")
            continue
        folder = folders[archive] and f"{folders[archive]}/"
        pairs = zip(packed.pictures, packed.unpacked, strict=True)
        found += [(f"{archive}/{one}", folder + unpacked) for one, unpacked in pairs]
        left_out += _leave_out_members(root / archive, packed)
    found.sort()
    return Listed([image for image, _ in found], [unpacked for _, unpacked in found], left_out), closed


def _leave_out_members(root: Path, packed: Packed) -> list[LeftOut]:
    return _leave_out(root, packed.others, _NOT_PICTURE) + _leave_out(root, packed.archives, _INSIDE)


def _leave_out(root: Path, names: Sequence[str], reason: str) -> list[LeftOut]:
    return [LeftOut(str(root / name), reason) for name in names]


def format_left_out(left_out: Sequence[LeftOut]) -> list[str]:
    """Format the files that were left out, a line for each reason, with the first few by name.

    The files of a data card, as `pipeline subset` writes them into a set, are not named.
    """
    places = {os.path.split(one.path) for one in left_out}
    cards = {folder for folder, name in places if name == CARD_FILE and (folder, CROISSANT_FILE) in places}
    by_reason: dict[str, list[str]] = {}
    for one in left_out:
        folder, name = os.path.split(one.path)
        if folder not in cards or name not in CARD_FILES:
            by_reason.setdefault(one.reason, []).append(escape_untrusted(one.path))
    return [
        f"left out: {format_count(len(paths), 'file')} {_format_reason(reason, len(paths))}: "
        + ", ".join(sorted(paths)[:_NAMED])
        + (f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else "")
        for reason, paths in sorted(by_reason.items())
    ]


def _format_reason(reason: str, count: int) -> str:
    if count == 1 and reason.startswith("that are"):
        for several, one in _SINGULAR.items():
            reason = reason.replace(several, one)
    return reason


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
            raise UserError(f"{root}: more than {_MOST_FOLDERS:,} folders; links between them may multiply their paths")
        try:
            with os.scandir(folder) as entries:
                found = list(entries)
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror}); change its permissions") from error
        if prefix and any(entry.name == ZARR_METADATA for entry in found):
            continue
        for entry in found:
            if _is_folder(entry):
                if not is_service(entry.name) and not entry.name.endswith(STORES):
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
