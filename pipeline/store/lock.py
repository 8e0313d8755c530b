"""One writer at a time in one folder. The system lets go of the lock when the writer is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from data_cards.core.errors import UserError
from pipeline.store.filesystem import Storage

try:
    import fcntl
except ImportError:  # Windows; there, as in object storage, keeping writers apart is up to the user
    fcntl = None


@contextmanager
def writer_lock(storage: Storage, other: str = "another build") -> Iterator[None]:
    """Hold a local folder, made if need be, for this process. Whoever only reads there needs no lock.

    Parameters
    ----------
    other : what the error calls the process that holds it

    Raises
    ------
    UserError : another process holds it
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
        except OSError:  # a network file system that has no locks
            pass
        yield
    finally:
        os.close(folder)
