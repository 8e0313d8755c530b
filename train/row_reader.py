"""Rows of a feature store into their places in a batch's buffer.

Local stores are read by `train.shards`, all others through Zarr.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from data_cards.errors import StoreError
from pipeline.packing import WHOLE
from pipeline.store import FeatureStore
from train.packed import PackedBatch, make_buffer, make_packed_batch
from train.shards import open_shards

_LOOKED_AT = 8  # rows that tell which kinds of planes are mirrored
_DTYPES = {"uint8": torch.uint8, "float16": torch.float16}  # that a store's features may have


def _check_all_there(store: FeatureStore) -> None:
    # Zarr reads a missing shard as zeros, without a word: training would go on with nothing.
    features = store.features
    shards = features.shards or features.chunks
    chunks_a_shard = math.prod(shard // chunk for shard, chunk in zip(shards, features.chunks, strict=True))
    wanted = math.prod(-(-side // shard) for side, shard in zip(features.shape, shards, strict=True))
    there = features.nchunks_initialized // chunks_a_shard
    if there < wanted:
        raise StoreError(
            f"{store.path}: the store is damaged: {wanted - there} of {wanted} files of its features are missing; "
            "build it again"
        )


class _BadRowError(StoreError):
    """A row that cannot be read."""


class RowReader:
    """Reads rows of a store, or of several as one; threads may share it.

    Parameters
    ----------
    kinds : numbers of the kinds of planes that are read
    """

    def __init__(self, store: FeatureStore, kinds: list[int]):
        self._store = store
        self._kinds = kinds
        self._shards = {part.path: open_shards(part) for part in store.parts}

    def check_all_there(self) -> None:
        """Raise `StoreError` unless every file of the features is there."""
        for part in self._store.parts:
            shards = self._shards[part.path]
            shards.check_all_there() if shards is not None else _check_all_there(part)

    @property
    def is_packed(self) -> bool:
        """Whether all of the store holds the halves of mirrored planes, and they can be read as they are."""
        return all(shards is not None and shards.packed for shards in self._shards.values())

    def find_mirrored(self, rows: np.ndarray) -> list[bool]:
        """Which kinds are mirrored, as a few rows tell; where they cannot be read, none."""
        try:
            headers = [[chunk[0] for chunk in self._read_packed(int(row))] for row in rows[:_LOOKED_AT]]
        except Exception:  # told of when the row's turn comes
            return [False] * len(self._kinds)
        return [all(header != WHOLE for header in of_kind) for of_kind in zip(*headers, strict=True)]

    def make_plain(self, count: int, pinned: bool) -> torch.Tensor:
        """A buffer for so many rows."""
        shape = (count, 3 * len(self._kinds), *self._store.features.shape[2:])
        return make_buffer(shape, self._dtype, pinned)

    def make_packed(self, count: int, mirrored: list[bool], pinned: bool) -> PackedBatch:
        """A buffer for so many rows as they are packed."""
        return make_packed_batch(count, (3, *self._store.features.shape[2:]), self._dtype, mirrored, pinned)

    def read(self, rows: Sequence[int], buffer: torch.Tensor | PackedBatch, place: int, skip: bool) -> list[int]:
        """Read rows into their places from `place` on, and say which cannot be read.

        Raises
        ------
        StoreError : a row cannot be read and is not to be skipped, or the store was changed meanwhile
        """
        bad = []
        levels = None if isinstance(buffer, PackedBatch) else buffer.numpy()
        for row in rows:
            try:
                self._read_row(row, buffer if levels is None else levels[place], place)
            except _BadRowError:
                if not skip:
                    raise
                bad.append(row)
            place += 1
        return bad

    def _read_row(self, row: int, target: np.ndarray | PackedBatch, place: int) -> None:
        try:
            if isinstance(target, PackedBatch):
                for kind, chunk in enumerate(self._read_packed(row)):
                    target.put(place, kind, chunk)
            else:
                self._read_plain(row, target)
        except StoreError:
            raise
        except Exception as error:  # codecs and stores raise many kinds
            part, own = self._store.locate(row)
            image = part.columns["image"][own]
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            reason = reason.replace("b'", "").rstrip("'")  # numcodecs puts bytes into its messages
            raise _BadRowError(
                f"{part.path}: row {own} ({image}) cannot be read ({reason}); the store is damaged, build it again"
            ) from error

    @property
    def _dtype(self) -> torch.dtype:
        return _DTYPES[self._store.features.dtype.name]

    def _read_packed(self, row: int) -> Iterator[np.ndarray]:
        part, own = self._store.locate(row)
        return self._shards[part.path].read_packed(own, self._kinds)

    def _read_plain(self, row: int, target: np.ndarray) -> None:
        part, own = self._store.locate(row)
        shards = self._shards[part.path]
        if shards is not None:
            shards.read(own, self._kinds, target)
        elif self._kinds == list(range(len(self._store.settings.features.kinds))):
            # Basic indexing of one row: for Zarr much faster than a batch of rows at once.
            target[...] = part.features[own]
        else:
            for place, kind in enumerate(self._kinds):
                target[3 * place : 3 * place + 3] = part.features[own, 3 * kind : 3 * kind + 3]
