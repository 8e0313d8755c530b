"""Files of an untrusted folder, such as a store or a run: opened and removed only inside the folder.

No link is followed out of the folder, only ordinary files are opened, and reads are bounded.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO

from data_cards.core.errors import UnsafeFileError

# Without O_NONBLOCK, `open` would wait at a pipe without a writer.
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def resolve_contained(folder: str | os.PathLike, name: str = "") -> str:
    """Return the path of an entry of a folder, without links, whether it exists or not.

    Raises
    ------
    UnsafeFileError : it is, or is below, a link that leads out of the folder
    """
    path, root = os.path.join(folder, name) if name else os.fspath(folder), os.path.realpath(folder)
    resolved = os.path.realpath(path)
    if resolved != root and not resolved.startswith(root.rstrip(os.sep) + os.sep):
        raise _link_error(path, folder)
    return resolved


def open_contained(folder: str | os.PathLike, name: str) -> int:
    """Open an ordinary file of a folder for reading; return its descriptor.

    Raises
    ------
    UnsafeFileError : it leads out of the folder, or is a pipe, a device or a socket
    OSError : it does not exist, is a folder, or cannot be opened
    """
    path = os.path.join(folder, name)
    descriptor = os.open(resolve_contained(folder, name), _READ)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise kind_error(path)


def open_contained_file(folder: str | os.PathLike, name: str) -> BinaryIO:
    """Open a file as `open_contained`; return a file object."""
    return os.fdopen(open_contained(folder, name), "rb")


def read_contained(folder: str | os.PathLike, name: str, most: int) -> bytes:
    """Read an ordinary file of a folder.

    Raises
    ------
    ValueError : it has more than `most` bytes
    UnsafeFileError, OSError : as `open_contained`
    """
    with open_contained_file(folder, name) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"{name} has {size:,} bytes, expected at most {most:,}")
        return file.read(size)


def check_contained(folder: str | os.PathLike) -> None:
    """Check that a folder has only ordinary files, folders, and links that stay inside it.

    Raises
    ------
    UnsafeFileError : there is another entry; the message names the first
    """
    for entry in walk_contained(folder):
        if entry.is_symlink():
            resolve_contained(folder, os.path.relpath(entry.path, folder))
        elif not entry.is_file(follow_symlinks=False):
            raise kind_error(entry.path)


def walk_contained(folder: str | os.PathLike) -> Iterator[os.DirEntry]:
    """Yield all entries below a folder except folders; no link is followed, and entries that vanish are left out."""
    waiting = [os.fspath(folder)]
    while waiting:
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry


def remove_contained(folder: str | os.PathLike, name: str) -> None:
    """Remove a file, a link, or a folder with everything in it, if it exists; no link is followed.

    Raises
    ------
    UnsafeFileError : it is below a link that leads out of the folder
    """
    parent, _, last = name.rpartition("/")
    path = os.path.join(resolve_contained(folder, parent), last)
    with suppress(FileNotFoundError, NotADirectoryError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def _link_error(path: str, folder: str | os.PathLike) -> UnsafeFileError:
    return UnsafeFileError(
        f"{path}: a link that leads out of {os.fspath(folder)}; expected ordinary files; replace it by what it "
        "points to, or remove it"
    )


def kind_error(path: str) -> UnsafeFileError:
    """Return the error for an entry that is neither a file nor a folder."""
    return UnsafeFileError(f"{path}: not a file or folder; expected ordinary files; remove it")
