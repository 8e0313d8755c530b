"""Held rows: rows of a store that are read once, decoded, and served from memory afterwards.

Rows that cannot be read are left to the `RowReader`, which reports them when they are requested. So batches and errors
are the same as those of streamed rows.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np
import torch

from train.data.packed_batch import PackedBatch
from train.data.row_reader import RowReader

_ROWS_A_TASK = 64


class HeldRows:
    """Rows in memory, with the methods of `RowReader` that serve batches; threads may share it.

    Parameters
    ----------
    reader : of the store
    rows : ndarray of int64, shape (n,), the rows to hold, ascending, without repetition
    buffer : uint8 tensor or PackedBatch, with a place for each row
    """

    def __init__(self, reader: RowReader, rows: np.ndarray, buffer: torch.Tensor | PackedBatch):
        self._reader, self._rows, self._buffer = reader, rows, buffer
        self._slots = np.full(len(reader), -1)  # buffer place of each row of the store, -1 if not held

    def load(self, pool: Executor, is_stopped: Callable[[], bool], show: Callable[[int], None]) -> None:
        """Read the rows in the store's order, which suits disks; rows that are damaged are not held.

        Parameters
        ----------
        pool : threads that read
        is_stopped : called between reads; when it returns true, the remaining rows are not held
        show : called with the number of rows read since its last call

        Raises
        ------
        StoreError : the system refuses to read, or the store was changed meanwhile
        """
        starts = range(0, len(self._rows), _ROWS_A_TASK)
        for count in pool.map(lambda start: 0 if is_stopped() else self._load_part(start), starts):
            show(count)

    def _load_part(self, start: int) -> int:
        rows = self._rows[start : start + _ROWS_A_TASK].tolist()
        held = ~np.isin(rows, self._reader.read(rows, self._buffer, start, skip=True))
        if isinstance(self._buffer, PackedBatch):  # rows of another layout would need memory of their own
            for number in range(len(rows)):
                held[number] &= self._buffer.unusual.pop(start + number, None) is None
        self._slots[np.compress(held, rows)] = start + np.flatnonzero(held)
        return len(rows)

    def has(self, rows: np.ndarray) -> bool:
        """Return whether all of these rows are held."""
        return bool((self._slots[rows] >= 0).all())

    def read(self, rows: Sequence[int], buffer: torch.Tensor | PackedBatch, place: int, skip: bool) -> list[int]:
        """Copy rows into their places from `place` on; see `RowReader.read`."""
        slots = self._slots[rows]
        if (slots >= 0).all():
            self._copy(slots, buffer, place)
            return []
        bad = []
        for number, (row, slot) in enumerate(zip(rows, slots, strict=True), start=place):
            if slot >= 0:
                self._copy(slot[None], buffer, number)
            else:
                bad += self._reader.read([int(row)], buffer, number, skip)
        return bad

    def _copy(self, slots: np.ndarray, buffer: torch.Tensor | PackedBatch, place: int) -> None:
        source, target = self._buffer, buffer
        if isinstance(buffer, PackedBatch):
            source, target = source.data, buffer.data
            for number in range(place, place + len(slots)):
                buffer.unusual.pop(number, None)
        # By default NumPy copies everything twice, because an index may be out of bounds.
        np.take(source.numpy(), slots, axis=0, out=target.numpy()[place : place + len(slots)], mode="clip")
