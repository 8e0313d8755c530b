"""Data loader: the rows of a feature store as batches, read by threads several batches ahead.

Threads suffice, because reading and decompressing release Python's lock. Each row has a fixed
place in its batch, so the result does not depend on the number of threads. An error in a
thread is raised in the loop, at the batch that it belongs to.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Self

import numpy as np
import torch

from data_cards.core.console import progress_bar
from pipeline.features.settings import KINDS
from pipeline.store.reader import FeatureStore
from train.data.held_rows import HeldRows
from train.data.packed_batch import PackedBatch
from train.data.row_reader import RowReader

_BLOCK_BYTES = 4 << 20  # of small batches that are copied by one call


class BatchLoader:
    """Loader of a store's batches, which reuses threads and buffers over all epochs: new memory and indexes are slow.

    Parameters
    ----------
    store : the store to read
    threads : number of reading threads
    ahead : batches that are read while the caller works on one
    pinned : put the buffers into page-locked memory, from which a GPU copies faster
    packed : leave mirrored planes packed, if the store holds them so; `PackedBatch.to` gives the levels
    kinds : kinds of planes to read, in this order; the bytes of other kinds are not read; None reads all
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: int = 4,
        ahead: int = 2,
        pinned: bool = False,
        packed: bool = False,
        kinds: Sequence[str] | None = None,
    ):
        self._row_reader = RowReader(store, [KINDS.index(kind) for kind in kinds or store.settings.features.kinds])
        self._threads = threads
        self._ahead = ahead
        self._pinned = pinned
        self._packed = packed and self._row_reader.is_packed
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
        self._buffers: list[torch.Tensor | PackedBatch] = []
        self._held: HeldRows | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; nothing can be read afterwards."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def hold(self, rows: np.ndarray, most: float, is_stopped: Callable[[], bool] = lambda: False) -> int:
        """Read rows into memory, if they fit, so that later batches are copied from there; the batches do not change.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,), ascending; others are read from the store whenever they are requested
        most : highest number of bytes to hold
        is_stopped : called between reads; when it returns true, the remaining rows are not held

        Returns
        -------
        Bytes that are held; 0 if the rows do not fit

        Raises
        ------
        StoreError : the system refuses to read, or the store has changed; damaged rows raise when they are requested
        """
        self._row_reader.detect_layout(rows)
        size = len(rows) * self._row_reader.count_row_bytes(self._packed)
        if not 0 < size <= most:
            return 0
        held = HeldRows(self._row_reader, rows, self._allocate(len(rows), pinned=False))
        with progress_bar(what="reading", unit="samples", total=len(rows)) as bar:
            held.load(self._pool, is_stopped, bar.update)
        self._row_reader.check_unchanged()
        self._held = held
        return size

    def read(
        self, batches: Sequence[np.ndarray], skipped: set[int] | None = None
    ) -> Iterator[torch.Tensor | PackedBatch]:
        """Yield batches of rows, in order; only one such iteration may run at a time.

        Parameters
        ----------
        batches : row numbers of each batch
        skipped : set to which rows are added that cannot be read, whose places are then undefined; None: such a row is
            an error

        Yields
        ------
        Tensor of uint8, shape (B, 3 * kinds, H, W), on the CPU, or a `PackedBatch`. The buffer is reused: it holds this
        batch until the next one is requested.

        Raises
        ------
        StoreError : a file of the store is missing or has changed, or a row cannot be read; the message names it
        """
        if not batches:
            return
        self._row_reader.check_complete(skipped is not None)
        self._row_reader.detect_layout(batches[0])
        blocks = self._group(batches)
        count = min(self._ahead + 1, len(blocks))
        buffers = self._allocate_buffers(count, max(sum(map(len, block)) for block in blocks))
        reading = deque()
        try:
            for number in range(count - 1):
                reading.append(self._start(blocks[number], buffers[number], skipped is not None))
            for number, block in enumerate(blocks):
                # The caller is done with the block before this one, so its buffer is free again.
                following = number + count - 1
                if following < len(blocks):
                    reading.append(self._start(blocks[following], buffers[following % count], skipped is not None))
                for future in reading[0]:
                    bad = future.result()
                    if bad:  # only where rows may be skipped
                        skipped.update(bad)
                reading.popleft()
                start = 0
                for rows in block:
                    yield _slice(buffers[number % count], start, start + len(rows))
                    start += len(rows)
            self._row_reader.check_unchanged()  # else the rows would come from two different stores
        finally:
            # The next iteration fills the same buffers.
            wait([future for futures in reading for future in futures if not future.cancel()])

    def _group(self, batches: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Group the batches into blocks that are read by one call: one batch each, but more of small held rows.

        Copying a small batch takes less time than passing it from thread to thread. The first blocks are small, so
        that the caller need not wait for them.
        """
        if self._held is None:
            return [[rows] for rows in batches]
        most = max(_BLOCK_BYTES // self._row_reader.count_row_bytes(self._packed), 1)
        blocks, size = [], 0
        for rows in batches:
            fits = blocks and size + len(rows) <= most and len(blocks[-1]) < 2 ** (len(blocks) - 1)
            if fits and self._held.has(rows) and self._held.has(blocks[-1][-1]):
                blocks[-1].append(rows)
                size += len(rows)
            else:  # an error in reading belongs to one batch
                blocks.append([rows])
                size = len(rows)
        return blocks

    def _start(self, block: list[np.ndarray], buffer: torch.Tensor | PackedBatch, skip: bool) -> list[Future]:
        """Start to read a block of batches into a buffer."""
        source, rows = self._held or self._row_reader, np.concatenate(block).tolist()
        # As few tasks as keep all threads busy: submitting a small row takes as long as reading it.
        step = len(rows) if self._held else max(-(-len(rows) // self._threads), 1)
        return [
            self._pool.submit(source.read, rows[first : first + step], buffer, first, skip)
            for first in range(0, len(rows), step)
        ]

    def _allocate_buffers(self, count: int, size: int) -> list[torch.Tensor | PackedBatch]:
        """Return `count` buffers for `size` rows each: the present ones if they suffice, else new ones."""
        if len(self._buffers) < count or len(self._buffers[0]) < size:
            self._buffers = []  # freed before the new ones are allocated
            self._buffers = [self._allocate(size, self._pinned) for _ in range(count)]
        return self._buffers

    def _allocate(self, size: int, pinned: bool) -> torch.Tensor | PackedBatch:
        allocate = self._row_reader.allocate_packed if self._packed else self._row_reader.allocate_levels
        return allocate(size, pinned)


def _slice(buffer: torch.Tensor | PackedBatch, start: int, stop: int) -> torch.Tensor | PackedBatch:
    """Return some of the rows, without a copy."""
    return buffer.part(start, stop) if isinstance(buffer, PackedBatch) else buffer[start:stop]


def read_batches(
    store: FeatureStore, batches: Sequence[np.ndarray], *, skipped: set[int] | None = None, **options: object
) -> Iterator[torch.Tensor | PackedBatch]:
    """Read batches once: `BatchLoader.read` of a loader with these options."""
    with BatchLoader(store, **options) as loader:
        yield from loader.read(batches, skipped)


def move_batches(batches: Iterator[torch.Tensor | PackedBatch], device: torch.device) -> Iterator[torch.Tensor]:
    """Yield the batches on `device`; on a CUDA device the copy overlaps with the computation.

    A batch is valid until the next one is requested.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying, computing = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(copying):
            copy = batch.to(device, non_blocking=True)
        copying.synchronize()  # then the buffer may be filled again
        computing.wait_stream(copying)
        copy.record_stream(computing)
        yield copy
