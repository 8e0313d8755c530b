"""Data loader: the rows of a feature store as batches, read by threads several batches ahead.

Threads suffice, because reading and decompressing release Python's lock. Each row has a fixed
place in its batch, so the result does not depend on the number of threads. An error in a
thread is raised in the loop, at the batch that it belongs to.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from data_cards.core.console import progress_bar
from pipeline.features.settings import KINDS
from pipeline.store.reader import FeatureStore
from train.data.held_rows import HeldRows
from train.data.packed_batch import PackedBatch
from train.data.row_reader import RowReader

_AHEAD = 2
_BLOCK_BYTES = 16 << 20  # of small batches that one task reads: waking a thread may take longer than a step
_BLOCK_GROWTH = 4  # of the blocks at the start, so that the caller need not wait for the first


class BatchLoader:
    """Loader of a store's batches, which reuses threads and buffers over all epochs: new memory and indexes are slow.

    Parameters
    ----------
    store : the store to read
    threads : number of reading threads
    ahead : batches that are read while the caller works on one; None: 2, of small batches as many as there are threads
    pinned : put the buffers into page-locked memory, from which a GPU copies faster
    packed : leave mirrored planes packed, if the store holds them so; `PackedBatch.to` gives the levels
    kinds : kinds of planes to read, in this order; the bytes of other kinds are not read; None reads all
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: int = 4,
        ahead: int | None = None,
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
        is_held = self._held is not None and self._held.has(np.concatenate(batches))
        if not is_held:
            self._row_reader.check_complete(skipped is not None)
            self._row_reader.detect_layout(batches[0])
        blocks = self._group(batches)
        ahead = self._ahead
        if ahead is None:
            ahead = max(self._threads, _AHEAD) if len(blocks) < len(batches) and not is_held else _AHEAD
        count = min(ahead + 1, len(blocks))
        buffers = self._allocate_buffers(count, max(sum(map(len, block)) for block in blocks))
        reading: deque[_Reading] = deque()

        def start(number: int) -> None:
            block, buffer = blocks[number], buffers[number % count]
            reading.append(self._start(block, buffer, number == 0, skipped is not None, is_held))

        try:
            for number in range(count - 1):
                start(number)
            for number, block in enumerate(blocks):
                # The caller is done with the block before this one, so its buffer is free again.
                if number + count - 1 < len(blocks):
                    start(number + count - 1)
                first = 0
                for rows, futures in zip(block, reading[0].results, strict=True):
                    for future in futures:
                        if bad := future.result():  # only where rows may be skipped
                            skipped.update(bad)
                    yield _slice(buffers[number % count], first, first + len(rows))
                    first += len(rows)
                reading.popleft()
            self._row_reader.check_unchanged()  # else the rows would come from two different stores
        finally:
            # The next iteration fills the same buffers.
            wait([task for block in reading for task in block.tasks if not task.cancel()])

    def _group(self, batches: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Group the batches into blocks that one task reads: one batch each, but more of small ones.

        Each block has at most four times the batches of the one before it.
        """
        most = self._count_block_rows()
        blocks, size = [], 0
        for rows in batches:
            if blocks and size + len(rows) <= most and len(blocks[-1]) < _BLOCK_GROWTH ** (len(blocks) - 1):
                blocks[-1].append(rows)
                size += len(rows)
            else:
                blocks.append([rows])
                size = len(rows)
        return blocks

    def _count_block_rows(self) -> int:
        """Return the number of rows that a block of more than one batch may have."""
        return _BLOCK_BYTES // self._row_reader.count_row_bytes(self._packed)

    def _start(
        self, block: list[np.ndarray], buffer: torch.Tensor | PackedBatch, is_first: bool, skip: bool, is_held: bool
    ) -> "_Reading":
        """Start to read a block of batches into a buffer."""
        source = self._held or self._row_reader
        if is_first and len(block[0]) <= self._count_block_rows():
            # A small batch: the caller reads it sooner than it would get it from a thread.
            task = Future()
            task.set_result(source.read(block[0].tolist(), buffer, 0, skip))
            return _Reading([task], [[task]])
        if is_held:
            task = self._pool.submit(source.read, np.concatenate(block), buffer, 0, skip)
            return _Reading([task], [[task]] * len(block))
        if len(block) > 1:
            futures = [Future() for _ in block]
            task = self._pool.submit(_read_each, source, block, buffer, skip, futures)
            return _Reading([task], [[future] for future in futures])
        # As few tasks as keep all threads busy: submitting a small row takes as long as reading it.
        rows = block[0].tolist()
        step = max(-(-len(rows) // self._threads), 1)
        tasks = [
            self._pool.submit(source.read, rows[first : first + step], buffer, first, skip)
            for first in range(0, len(rows), step)
        ]
        return _Reading(tasks, [tasks])

    def _allocate_buffers(self, count: int, size: int) -> list[torch.Tensor | PackedBatch]:
        """Return `count` buffers for `size` rows each: the present ones if they suffice, else new ones."""
        if len(self._buffers) < count or len(self._buffers[0]) < size:
            self._buffers = []  # freed before the new ones are allocated
            self._buffers = [self._allocate(size, self._pinned) for _ in range(count)]
        return self._buffers

    def _allocate(self, size: int, pinned: bool) -> torch.Tensor | PackedBatch:
        allocate = self._row_reader.allocate_packed if self._packed else self._row_reader.allocate_levels
        return allocate(size, pinned)


@dataclass(frozen=True)
class _Reading:
    """A block that is being read: its tasks, and for each batch the futures that give its unreadable rows."""

    tasks: list[Future]
    results: list[list[Future]]


def _read_each(
    source: HeldRows | RowReader,
    block: list[np.ndarray],
    buffer: torch.Tensor | PackedBatch,
    skip: bool,
    futures: list[Future],
) -> None:
    """Read the batches of a block one after another; an error belongs to its batch."""
    first = 0
    for rows, future in zip(block, futures, strict=True):
        try:
            future.set_result(source.read(rows.tolist(), buffer, first, skip))
        except Exception as error:  # raised where the batch is yielded
            future.set_exception(error)
        first += len(rows)


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
