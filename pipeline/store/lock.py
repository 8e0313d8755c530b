"""Exclusive lock of a folder for one writer; the system releases it when the writer is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from data_cards.core.errors import UserError
from pipeline.store.filesystem import Storage

try:
    import fcntl
except ImportError:  # Windows has no lock, and neither has object storage: the user must keep writers apart
    fcntl = None


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
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{storage.url}: {other} is writing there; wait for it, or stop it") from error
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(folder)
