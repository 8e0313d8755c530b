"""Exclusive lock of a folder for one writer, which ends with its process; and who holds it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from data_cards.core.errors import UserError
from pipeline.store.filesystem import Storage

try:
    import fcntl
except ImportError:  # Windows has no lock, and neither has object storage: the user must keep writers apart
    fcntl = None

_TRIES = 3  # `is_locked` holds a lock for a moment
_PAUSE = 0.05  # seconds between tries


@contextmanager
def writer_lock(storage: Storage, other: str = "another build") -> Iterator[None]:
    """Lock a local folder, created if missing, for this process alone. Readers need no lock.

    Parameters
    ----------
    other : str
        Name of the process that has the lock, for the error.

    Raises
    ------
    UserError : another process has the lock
    """
    storage.create_folder()
    if fcntl is None or not storage.is_local:
        yield
        return
    folder = os.open(storage.path(), os.O_RDONLY)
    try:
        if not _lock(folder):
            raise locked_error(storage, other)
        yield
    finally:
        os.close(folder)


def _lock(folder: int) -> bool:
    """Lock an open folder; return False if another process has the lock."""
    for attempt in range(_TRIES):
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE)
        except OSError:  # a network file system without locks
            return True
        else:
            return True
    return False


def is_locked(storage: Storage) -> bool | None:
    """Return whether a process writes into a folder; None if the system cannot know, as for object storage."""
    if fcntl is None or not storage.is_local:
        return None
    try:
        folder = os.open(storage.path(), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(folder)
    return False


def locked_error(storage: Storage, other: str = "another build") -> UserError:
    """Return the error for a folder that another process has locked."""
    return UserError(f"{storage.url}: {other} is writing there ({format_writer(storage)}); wait for it, or stop it")


def format_writer(storage: Storage) -> str:
    """Format the process that has a folder's lock: its number, computer and start, or that they are not known."""
    import psutil  # slow, and rarely needed

    with suppress(psutil.Error, OSError):
        number = _find_process(os.stat(storage.path()).st_ino)
        if number is not None:
            began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(psutil.Process(number).create_time()))
            return f"process {number} on {socket.gethostname()}, started {began}"
    return "its process is not known, it may be on another computer or in another container"


def _find_process(inode: int) -> int | None:
    """Return the process that has locked the file of an inode number, if Linux lists exactly one."""
    try:
        with open("/proc/locks", encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    found = {int(row[4]) for row in rows if len(row) > 5 and row[1] == "FLOCK" and row[5].endswith(f":{inode}")}
    return found.pop() if len(found) == 1 else None
