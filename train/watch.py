"""Notices that a store changes under a running training: another build, a copy over it, a lost file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from data_cards.errors import StoreError
from pipeline.storage import Storage
from pipeline.store import FeatureStore


class StoreWatch:
    """Remembers how the files of a store, or of several as one, are now."""

    def __init__(self, store: FeatureStore):
        self._seen = {part.path: _look_at(part.path) for part in store.parts}

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Check before the work and after it; a sample that it could not read may be one that was changed meanwhile."""
        self.check()
        try:
            yield
        except StoreError:
            self.check()
            raise
        self.check()

    def check(self) -> None:
        """Raise `StoreError` if a file has changed, come or gone since."""
        for path, before in self._seen.items():
            now = _look_at(path)
            if now != before:
                changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
                raise StoreError(
                    f"{path}: changed while the run was reading it ({len(changed)} files, such as {changed[0]}); "
                    "bring it back and go on with `train run --resume`, or begin a new run"
                )


def _look_at(path: str) -> dict[str, object]:
    """Of each file of the features its inode, size and time of change, locally; and the store's own record."""
    storage = Storage(path)
    try:
        seen: dict[str, object] = {"zarr.json": storage.read("zarr.json")}
    except FileNotFoundError:
        return {}
    if storage.is_local:
        for folder, _, names in os.walk(f"{path}/features"):
            for name in names:
                status = os.stat(f"{folder}/{name}")
                seen[os.path.relpath(f"{folder}/{name}", path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return seen
