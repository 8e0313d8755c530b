"""The error for a store whose build has not ended: what is known about the build, and what to do."""

import os
import time
from shlex import quote

from data_cards.core.errors import StoreError
from data_cards.core.text import format_duration
from pipeline.store.filesystem import Storage
from pipeline.store.lock import format_writer, is_locked


def unfinished_error(storage: Storage, path: str) -> StoreError:
    """Return the error for an unfinished store.

    Parameters
    ----------
    storage : of the files, under the partial name where the store has one
    path : str, name of the store
    """
    progress = f"`pipeline inspect {quote(path)}` shows its progress"
    return StoreError(f"{path}: the build is not finished; {format_builder(storage)}; {progress}")


def format_builder(storage: Storage) -> str:
    """Format whether a build still writes an unfinished store, and what to do."""
    resume = "run the same `pipeline build` again to resume it"
    locked = is_locked(storage)
    if locked:
        return f"it is running ({format_writer(storage)}, last change {_format_age(storage)}): wait for it"
    if locked is None:
        changed = f" (last change {_format_age(storage)})" if storage.is_local else ""
        return f"it may still be running{changed}: if so, wait for it; otherwise {resume}"
    age = f"last change {_format_age(storage)}"
    return f"no process of this computer is building it ({age}): if no other computer is, {resume}"


def _format_age(storage: Storage) -> str:
    """Format the time since the last change of a local store; each record changes the time of the records' folder."""
    try:
        with os.scandir(storage.path()) as entries:
            changed = [entry.stat(follow_symlinks=False).st_mtime for entry in entries]
        newest = max([*changed, os.stat(storage.path()).st_mtime])
    except OSError:  # the build has just removed a file, or renamed the store
        newest = time.time()
    return f"{format_duration(max(time.time() - newest, 0))} ago"
