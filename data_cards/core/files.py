"""Atomic writing of files and folders, and safe reading of untrusted files.

An unfinished file or folder has an unpredictable temporary name (`temporary_name`) in the same folder, and is always
created new: no prepared link is followed, and two writers never share a file. It is renamed when it is complete.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_cards.core.errors import PictureError, UserError

PARTIAL = ".partial"  # ends the name of an unfinished file or folder
ZARR_METADATA = "zarr.json"  # file of every Zarr group and array: a folder with it is not a folder of pictures
RUN_SETTINGS, RUN_HISTORY, RUN_SUMMARY = "settings.json", "history.csv", "summary.json"  # files of a run folder
CARD_FILE, MARKDOWN_FILE, CROISSANT_FILE, PAGE_FILE = "card.json", "README.md", "croissant.json", "card.html"
MANIFEST = "manifest.csv"
CARD_FILES = (CARD_FILE, MARKDOWN_FILE, CROISSANT_FILE, PAGE_FILE, MANIFEST)  # of a data card
MAX_BYTES = 2**30  # of a file that is read; pictures within the default limit of pixels are smaller

_TEMPORARY = re.compile(r"(?P<name>.+)\.[0-9a-f]{32}" + re.escape(PARTIAL), re.DOTALL)
_LONGEST = 50  # characters of a name that a temporary name repeats: file systems take some 255 bytes
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def temporary_name(name: str) -> str:
    """Return a fresh random name for the unfinished file or folder `name`."""
    return f"{name[:_LONGEST]}.{uuid.uuid4().hex}{PARTIAL}"


def is_temporary(name: str, of: Collection[str] | None = None) -> bool:
    """Return whether a name is a temporary name of one of `of` (None: of any name)."""
    found = _TEMPORARY.fullmatch(name)
    return found is not None and (of is None or found["name"] in of)


def create_file(path: str | os.PathLike) -> BinaryIO:
    """Create a new file for writing; raises `FileExistsError` if the path exists, also as a link."""
    return os.fdopen(os.open(path, _CREATE, 0o666), "wb")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; if the block succeeds, it is flushed to disk and renamed to `path`."""
    temporary = path.with_name(temporary_name(path.name))
    try:
        create_file(temporary).close()
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())  # else a power failure may leave an empty file of that name
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (str(temporary), temporary):
            error.filename = str(path)  # the name that the user knows
        raise


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file atomically."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder to fill; it is renamed to `path` (see `check_new_folder`) only if the block succeeds."""
    temporary = path.with_name(temporary_name(f".{path.name}"))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rmdir()  # an empty folder, as checked; not every system can rename onto it
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(path: Path) -> None:
    """Check that a path does not exist or is an empty folder; raises `UserError`."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise UserError(f"{path}: {what}; name a new folder with --out (in Python: out), or remove this one first")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """Open a regular file for reading; raises `PictureError` for a pipe or device, or if it cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait
            raise PictureError("not a regular file")
        return open(path, "rb")
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise PictureError(f"cannot be read: {error}") from error


def read_bounded(file: BinaryIO) -> bytes:
    """Read all bytes of an open file; raises `PictureError` above `MAX_BYTES`, or if it cannot be read."""
    try:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_BYTES:
            raise PictureError(f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read")
        file.seek(0)
        return file.read(size)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error


def hash_file(file: BinaryIO) -> str:
    """Return the SHA-256 of an open file, 64 hexadecimal digits, read in parts; raises `PictureError`."""
    try:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
