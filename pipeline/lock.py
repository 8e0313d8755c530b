"""One build at a time in one folder. The system lets go of the lock when a build is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from data_cards.errors import UserError
from pipeline.storage import Storage

try:
    import fcntl
except ImportError:  # Windows; there, as in object storage, keeping builds apart is up to the user
    fcntl = None


@contextmanager
def lock_folder(storage: Storage) -> Iterator[None]:
    """Hold a local store's folder, made if need be, for this process.

    Raises
    ------
    UserError : another process holds it
    """
    storage.make_folder("")
    if fcntl is None or not storage.is_local:
        yield
        return
    folder = os.open(storage.path(), os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{storage.url}: another build is writing there; wait for it, or stop it") from error
        yield
    finally:
        os.close(folder)
