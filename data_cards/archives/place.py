"""The place of a file: a path on disk, or the path of an archive followed by the name of a member.

`set.zip/train/real/0.jpg` is the member `train/real/0.jpg` of the archive `set.zip`. A file on disk has no files below
it, so a place is either a path or a member. Members are read in place, and nothing is ever written to disk.

Opened archives stay in memory as an index of their members, one for each process, until their file changes.
"""

import hashlib
import io
import os
import stat
import zipfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from data_cards.archives.archive import Archive, ArchiveError
from data_cards.archives.names import is_part_name
from data_cards.archives.parquet import ParquetTable
from data_cards.archives.tar import TarArchive
from data_cards.archives.zip import ZipArchive
from data_cards.core.errors import PictureError
from data_cards.core.files import open_regular, read_bounded

_MOST_MEMBERS = 4_000_000  # of all archives whose index is kept: some 400 MB
_START = 512  # bytes that identify the kind of an archive
_CLOSED = {
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"ARROW1": "an Arrow file",
    b"\x89HDF\r\n": "an HDF5 file",
}

_opened: OrderedDict[str, tuple[tuple[int, ...], Archive]] = OrderedDict()
_lock = Lock()


def open_archive(path: str | os.PathLike) -> Archive:
    """Open an archive of the kind that its first bytes identify; its index is read once, and again after a change.

    Raises
    ------
    ArchiveError : it cannot be read, or not in place
    """
    path = os.path.abspath(path)
    with _lock:
        try:
            status = os.stat(path)
            stamp = status.st_size, status.st_ino, status.st_mtime_ns
            known, archive = _opened.get(path, (None, None))
            if known != stamp:
                archive = _find_kind(path)(path)
                _opened[path] = stamp, archive
        except OSError as error:
            raise ArchiveError(path, f"cannot be read: {error.strerror or error}") from error
        _opened.move_to_end(path)
        while len(_opened) > 1 and sum(len(one.members) for _, one in _opened.values()) > _MOST_MEMBERS:
            _opened.popitem(last=False)
        return archive


def _find_kind(path: str) -> type[Archive]:
    try:
        with open_regular(path) as file:
            start = file.read(_START)
    except PictureError as error:
        raise ArchiveError(path, str(error)) from error
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return ZipArchive
    if start[:4] == b"PAR1":
        return ParquetTable
    if start[257:262] == b"ustar":
        return TarArchive
    if zipfile.is_zipfile(path):  # the last of several parts, or a self-extracting archive
        return ZipArchive
    what = next((what for magic, what in _CLOSED.items() if start.startswith(magic)), None)
    if is_part_name(path):
        what = "one part of an archive in several files"
    raise ArchiveError(
        path,
        f"{what or 'a file that is not an archive of a known kind'} cannot be read in place; expected a zip, "
        "an uncompressed tar or a Parquet file. Unpack it and give the folder",
    )


def split_place(place: str | os.PathLike) -> tuple[str, str] | None:
    """Return the archive of a place and the name of the member; None if the place is not below a file."""
    path = os.fspath(place)
    parent, name = os.path.split(path)
    while name:
        try:
            if not stat.S_ISREG(os.stat(parent or ".").st_mode):
                return None
        except (OSError, ValueError):
            parent, above = os.path.split(parent)
            if not above:
                return None
            name = f"{above}/{name}"
            continue
        return parent, name
    return None


def open_place(place: str | os.PathLike) -> BinaryIO:
    """Open a file, or a member of an archive, for reading and seeking; a member is held in memory.

    Raises
    ------
    PictureError : it is not a regular file, cannot be read, or is a member that is not read in place
    """
    found = _find_member(place)
    if found is None:
        return open_regular(place)
    archive, name = found
    return io.BytesIO(archive.read(name))


def read_file(place: str | os.PathLike) -> bytes:
    """Read the bytes of a file or of a member of an archive, at most `MAX_BYTES`; raises as `open_place`."""
    found = _find_member(place)
    if found is None:
        with open_regular(place) as file:
            return read_bounded(file)
    archive, name = found
    return archive.read(name)


def read_start(place: str | os.PathLike, count: int) -> bytes:
    """Read the first `count` bytes of a file or of a member of an archive; raises as `open_place`."""
    found = _find_member(place)
    if found is not None:
        archive, name = found
        return archive.read(name, count)
    try:
        with open_regular(place) as file:
            return file.read(count)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error


def read_unchanged(place: str | os.PathLike, sha256: bytes) -> bytes:
    """Read the bytes of a scanned picture; raises `PictureError` as `open_place`, or if their hash has changed."""
    data = read_file(place)
    if hashlib.sha256(data).digest() != sha256:
        raise PictureError("has changed since the scan", "run the same command again, with --no-cache")
    return data


def is_file(place: str | os.PathLike) -> bool:
    """Return whether there is a file, or a member of an archive, at a place."""
    try:
        found = _find_member(place)
    except PictureError:
        return False
    return Path(place).is_file() if found is None else found[1] in found[0].members


def read_status(place: str | os.PathLike) -> os.stat_result:
    """Read the status of a file, or of the archive of a member; raises `PictureError` if it does not exist."""
    try:
        return os.stat(place)
    except (OSError, ValueError) as error:
        if found := split_place(place):
            return os.stat(found[0])
        raise PictureError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _find_member(place: str | os.PathLike) -> tuple[Archive, str] | None:
    """Return the archive and the name of a member; None for a place on disk."""
    try:
        os.stat(place)
        return None
    except (OSError, ValueError):  # ValueError: a NUL in the name
        found = split_place(place)
    if found is None:
        return None
    try:
        return open_archive(found[0]), found[1]
    except ArchiveError as error:
        raise PictureError(f"its archive cannot be read: {error.reason}") from error
