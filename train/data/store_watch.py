"""Detection of changes to a store under a running training: another build, a copy over it, a lost file.

It begins before the store is opened, so that no reading mixes the states before and after a change. It checks again
before a state is saved, so that a run never resumes from weights that learned from another store.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from data_cards.core.errors import StoreError, UserError
from data_cards.core.files import ZARR_METADATA
from pipeline.store.filesystem import Storage
from pipeline.store.schema import FEATURES


class ChangeDetector:
    """Detector of changes to the files of stores since its creation; a missing store is reported when it is opened."""

    def __init__(self, paths: Sequence[str]):
        self._seen = {path: _snapshot(path) for path in paths}

    @contextmanager
    def checking(self) -> Iterator[None]:
        """Check before the block and after it, also when it failed: a change may be the cause of its error."""
        self.check()
        try:
            yield
        except UserError:
            self.check()
            raise
        self.check()

    def check(self) -> None:
        """Raise `StoreError` if a file was changed, added or removed."""
        for path, before in self._seen.items():
            now = _snapshot(path)
            if now != before:
                changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                raise StoreError(
                    f"{path}: changed while the run was reading it ({changed[0]}{more}); "
                    "restore it and resume with `train run --resume`, or start a new run"
                )


def _snapshot(path: str) -> dict[str, object]:
    """Return the store's own record and, of a local store, inode, size and time of change of each feature file."""
    storage = Storage(path)
    seen: dict[str, object] = {}
    if storage.exists(ZARR_METADATA):
        with suppress(FileNotFoundError, ValueError):  # removed meanwhile, as may be any file below; or too large
            seen[ZARR_METADATA] = storage.read(ZARR_METADATA)
    if storage.is_local:
        for folder, _, names in os.walk(f"{path}/{FEATURES}"):
            for name in names:
                with suppress(FileNotFoundError):
                    status = os.stat(f"{folder}/{name}")
                    key = os.path.relpath(f"{folder}/{name}", path)
                    seen[key] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return seen
