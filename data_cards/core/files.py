"""Files and folders that are written whole or not at all, and files of strangers that are read safely.

What is being written has a temporary name, which ends in `PARTIAL`; it is renamed when all of it is there.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from data_cards.core.errors import PictureError, UserError

PARTIAL = ".partial"  # behind the name of what is being written, or was when its writer was killed
MAX_BYTES = 2**30  # of a file that is read; with the pixels allowed by default no picture is as large


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file takes its own name only if the block ends well, and is on the disk."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())  # else a power failure may leave the name with nothing in it
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict) -> None:
    """Write JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes its own name, which `check_new_folder` allows, only if the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rmdir()  # empty, as checked: not every system renames onto a folder
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new_folder(path: Path) -> None:
    """Raise `UserError` where something is at a path: a file, or a folder that is not empty."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "is not empty" if path.is_dir() else "is a file"
        raise UserError(f"{path}: {what}; name a new folder with --out, or remove this one first")


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A regular file, opened to read; raises `PictureError` where it is none (a pipe, a device) or cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait
            raise PictureError("not a regular file")
        return open(path, "rb")
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise PictureError(f"cannot be read: {error}") from error


def read_bounded(file: BinaryIO) -> bytes:
    """All bytes of an open file; raises `PictureError` where they are more than `MAX_BYTES`, or cannot be read."""
    try:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_BYTES:
            raise PictureError(f"too large: {size:,} bytes, at most {MAX_BYTES:,} are read")
        file.seek(0)
        return file.read(size)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error


def read_file(path: str | os.PathLike) -> bytes:
    """A file's bytes; raises `PictureError` as `open_regular` and `read_bounded` do."""
    with open_regular(path) as file:
        return read_bounded(file)


def read_unchanged(path: str | os.PathLike, sha256: bytes) -> bytes:
    """The bytes of a file that was scanned; raises `PictureError` as `read_file`, or where they have another hash."""
    data = read_file(path)
    if hashlib.sha256(data).digest() != sha256:
        raise PictureError("has changed since the scan; run the same command again, with --no-cache")
    return data
