"""Notices that a store changes under a running training: another build, a copy over it, a lost file.

It begins before the store is opened, so that nothing is read half from before a change and half from after it; and it
looks before a state is saved, so that a run never goes on from what it learned of another store.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from data_cards.core.errors import StoreError, UserError
from pipeline.store.filesystem import Storage


class ChangeDetector:
    """Remembers how the files of stores, in these places, are now; what cannot be opened it leaves to their opening."""

    def __init__(self, places: Sequence[str]):
        self._seen = {place: _snapshot(place) for place in places}

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Check before the work and after it; what went wrong in it may have done so because of a change."""
        self.check()
        try:
            yield
        except UserError:
            self.check()
            raise
        self.check()

    def check(self) -> None:
        """Raise `StoreError` if a file has changed, come or gone since."""
        for path, before in self._seen.items():
            now = _snapshot(path)
            if now != before:
                changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                raise StoreError(
                    f"{path}: changed while the run was reading it ({changed[0]}{more}); "
                    "bring it back and go on with `train run --resume`, or begin a new run"
                )


def _snapshot(path: str) -> dict[str, object]:
    """Of each file of the features its inode, size and time of change, locally; and the store's own record."""
    storage = Storage(path)
    seen: dict[str, object] = {}
    if storage.exists("zarr.json"):
        with suppress(FileNotFoundError):  # gone meanwhile, as may be any file below
            seen["zarr.json"] = storage.read("zarr.json")
    if storage.is_local:
        for folder, _, names in os.walk(f"{path}/features"):
            for name in names:
                with suppress(FileNotFoundError):
                    status = os.stat(f"{folder}/{name}")
                    key = os.path.relpath(f"{folder}/{name}", path)
                    seen[key] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return seen
