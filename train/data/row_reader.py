"""Row reader: rows of a feature store, read into their places in a batch's buffer.

Local stores are read by `train.data.shard_reader`, all others through Zarr.
"""

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from shlex import quote

import numpy as np
import torch

from data_cards.core.errors import StoreError
from pipeline.features.settings import PLANES_PER_KIND, plane_slice
from pipeline.store.reader import FeatureStore, is_damage, row_error
from train.data.packed_batch import (
    PackedBatch,
    PackedLayout,
    allocate_buffer,
    allocate_packed_batch,
    compute_packed_sizes,
    unpack_chunks,
)
from train.data.shard_reader import EncodedChunks, ShardReader, create_file_opener, open_shard_reader

SMALL_CHUNK = 1 << 20  # bytes: larger chunks are read one by one, and decoded while in the processor's cache
_PROBED_ROWS = 8  # rows that are read to detect which kinds of planes are mirrored
_UNPACKED_ROWS, _UNPACKED_BYTES = 8, 4 << 20  # at a time, at most
_TOGETHER_BYTES = 256 << 10  # of small rows that one call decodes: calls cost more than the work, but caches are small


def _check_complete(store: FeatureStore) -> None:
    # Zarr reads a missing shard as zeros, without an error: training would continue on them.
    features = store.features
    shards = features.shards or features.chunks
    chunks_a_shard = math.prod(shard // chunk for shard, chunk in zip(shards, features.chunks, strict=True))
    wanted = math.prod(-(-side // shard) for side, shard in zip(features.shape, shards, strict=True))
    there = features.nchunks_initialized // chunks_a_shard
    if there < wanted:
        raise StoreError(
            f"{store.path}: the store is damaged: {wanted - there} of {wanted} files of its features are missing; "
            f"`pipeline verify {quote(store.path)} --repair` rebuilds them"
        )


class RowReader:
    """Reader of the rows of a store, or of several as one; threads may share it.

    Parameters
    ----------
    kinds : list of int
        Numbers of the kinds of planes to read.
    """

    def __init__(self, store: FeatureStore, kinds: list[int]):
        self._store = store
        self._kinds = kinds
        self._shape = (PLANES_PER_KIND, *store.features.shape[2:])
        open_file = create_file_opener()
        self._shards = {part.path: open_shard_reader(part, open_file) for part in store.parts}
        step = len(kinds) if math.prod(self._shape) <= SMALL_CHUNK else 1
        self._together = [slice(first, first + step) for first in range(0, len(kinds), step)]  # of kinds
        self._layout: PackedLayout | None = None
        self._thread_local = threading.local()

    def __len__(self) -> int:
        return len(self._store)

    def check_complete(self, skip: bool) -> None:
        """Raise `StoreError` if a file of the features is missing, unless its rows can be skipped."""
        for part in self._store.parts:
            shards = self._shards[part.path]
            if shards is None:
                _check_complete(part)
            elif not skip:
                shards.check_complete()

    def check_unchanged(self) -> None:
        """Raise `StoreError` if a file of the features changed since it was first read."""
        for shards in filter(None, self._shards.values()):
            shards.check_unchanged()

    @property
    def is_packed(self) -> bool:
        """Whether the whole store holds halves of mirrored planes that can be read without unpacking."""
        return all(shards is not None and shards.packed for shards in self._shards.values())

    def detect_layout(self, rows: np.ndarray) -> None:
        """Detect from a few rows which kinds of a packed store are mirrored; call it before `read`."""
        if self._layout is None and self.is_packed:
            half, sizes = compute_packed_sizes(self._shape)[1], []
            for row in rows[:_PROBED_ROWS].tolist():
                with suppress(Exception):  # raised when the row is read
                    part, own = self._store.locate(row)
                    sizes.append(self._shards[part.path].fetch([own], self._kinds).sizes)
            mirrored = (2 * np.equal(sizes, half).sum(axis=0) > len(sizes)) if sizes else [False] * len(self._kinds)
            self._layout = PackedLayout(self._shape, tuple(map(bool, mirrored)))

    def count_row_bytes(self, packed: bool) -> int:
        """Return the bytes of a row in memory, as packed or as levels; `detect_layout` must have been called."""
        return sum(self._layout.sizes) if packed else PLANES_PER_KIND * len(self._kinds) * math.prod(self._shape[1:])

    def allocate_levels(self, count: int, pinned: bool) -> torch.Tensor:
        """Allocate a buffer for `count` rows."""
        shape = (count, PLANES_PER_KIND * len(self._kinds), *self._shape[1:])
        return allocate_buffer(shape, pinned)

    def allocate_packed(self, count: int, pinned: bool) -> PackedBatch:
        """Allocate a buffer for `count` packed rows."""
        return allocate_packed_batch(count, self._layout, pinned)

    def read(self, rows: Sequence[int], buffer: torch.Tensor | PackedBatch, place: int, skip: bool) -> list[int]:
        """Read rows into their places from `place` on; return the rows that cannot be read.

        Raises
        ------
        StoreError : a row cannot be read and `skip` is false, or the store was changed meanwhile
        """
        if isinstance(buffer, PackedBatch):
            return self._read_each(self._read_packed, rows, buffer, place, skip)
        levels = buffer.numpy()
        if self._layout is None:
            return self._read_each(self._read_plain, rows, levels, place, skip)
        bad, scratch = [], self._scratch()
        for first in range(0, len(rows), len(scratch)):
            some = rows[first : first + len(scratch)]
            bad += self._read_each(self._read_packed, some, scratch, 0, skip)
            scratch.unpack(levels[place + first : place + first + len(some)])
        return bad

    def _read_each(self, read: Callable, rows: Sequence[int], buffer: object, place: int, skip: bool) -> list[int]:
        """Read rows with few calls if all of them can be read so, else one by one."""
        if self._read_together(rows, buffer, place):
            return []
        bad = []
        for number, row in enumerate(rows):
            part, own = self._store.locate(row)
            try:
                read(part, own, buffer, place + number)
            except StoreError:
                raise
            except Exception as error:  # codecs and stores raise many kinds
                if not (skip and is_damage(error)):
                    raise row_error(part, own, error) from error
                bad.append(row)
        return bad

    def _read_together(self, rows: Sequence[int], buffer: PackedBatch | np.ndarray, place: int) -> bool:
        """Read small rows with few calls; return False where only reading one by one handles or reports a row."""
        is_packed = isinstance(buffer, PackedBatch)
        data = buffer.data.numpy() if is_packed else buffer.reshape(len(buffer), -1)
        sizes = buffer.layout.sizes if is_packed else (math.prod(self._shape),) * len(self._kinds)
        count = _TOGETHER_BYTES // sum(sizes)
        if len(self._together) > 1 or min(count, len(rows)) < 2:
            return False
        with suppress(Exception):  # raised when the row is read again
            for first in range(0, len(rows), count):
                located = map(self._store.locate, rows[first : first + count])
                for path, group in groupby(located, key=lambda found: found[0].path):
                    shards, own = self._shards[path], [row for _, row in group]
                    if shards is None or shards.packed != is_packed:
                        return False
                    fetched = shards.fetch(own, self._kinds)
                    if fetched.sizes != sizes * len(own):
                        return False
                    shards.decode(fetched, data[place : place + len(own)].reshape(-1))
                    if is_packed:
                        buffer.check_headers(place, len(own))
                        for number in range(place, place + len(own)):
                            buffer.unusual.pop(number, None)
                    place += len(own)
            return True
        return False

    def _read_packed(self, part: FeatureStore, row: int, batch: PackedBatch, place: int) -> None:
        shards, layout, data = self._shards[part.path], batch.layout, batch.data[place].numpy()
        batch.unusual.pop(place, None)
        for some in self._together:
            fetched = shards.fetch([row], self._kinds[some])
            if fetched.sizes != layout.sizes[some]:
                planes = np.empty((PLANES_PER_KIND * len(self._kinds), *self._shape[1:]), dtype=np.uint8)
                self._read_plain(part, row, planes[None], 0)
                batch.unusual[place] = planes
                return
            shards.decode(fetched, data[layout.starts[some.start] : layout.starts[some.stop]])
        batch.check_headers(place, 1)

    def _read_plain(self, part: FeatureStore, row: int, levels: np.ndarray, place: int) -> None:
        shards, target = self._shards[part.path], levels[place]
        if shards is not None:
            for some in self._together:
                self._decode(shards, shards.fetch([row], self._kinds[some]), target[plane_slice(some.start, some.stop)])
        elif self._kinds == list(range(len(self._store.settings.features.kinds))):
            # Basic indexing of one row: for Zarr much faster than a batch of rows at once.
            target[...] = part.features[row]
        else:
            for number, kind in enumerate(self._kinds):
                target[plane_slice(number)] = part.features[row, plane_slice(kind)]

    def _decode(self, shards: ShardReader, fetched: EncodedChunks, planes: np.ndarray) -> None:
        if not shards.packed:
            if set(fetched.sizes) != {planes.nbytes // len(fetched.sizes)}:
                raise ValueError(f"chunks of {fetched.sizes} bytes, expected {planes.nbytes} in all")
            shards.decode(fetched, planes.reshape(-1))
            return
        if max(fetched.sizes) > compute_packed_sizes(self._shape)[0]:  # before allocating
            raise ValueError(f"chunks of {fetched.sizes} bytes, more than their planes have")
        data = np.empty(sum(fetched.sizes), dtype=np.uint8)
        shards.decode(fetched, data)
        unpack_chunks(data, fetched.sizes, planes)

    def _scratch(self) -> PackedBatch:
        """Return this thread's packed rows: enough for few unpacking calls, few enough for the cache."""
        if not hasattr(self._thread_local, "scratch"):
            size = sum(self._layout.sizes)
            count = max(min(_UNPACKED_BYTES // size, _UNPACKED_ROWS), _TOGETHER_BYTES // size, 1)
            self._thread_local.scratch = allocate_packed_batch(count, self._layout, pinned=False)
        return self._thread_local.scratch
