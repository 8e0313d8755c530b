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


class BatchLoader:
    """Loader of a store's batches, with threads and buffers that serve all epochs: new memory and indexes are slow.

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
        most : bytes that the rows may take
        is_stopped : asked between reads: whether to leave the rest to the store

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
        source = self._held or self._row_reader
        count = min(self._ahead + 1, len(batches))
        buffers = self._allocate_buffers(count, max(map(len, batches)))

        def start(number: int) -> list[Future]:
            buffer, rows = buffers[number % count], batches[number].tolist()
            # As few tasks as keep all threads busy: submitting a small row takes as long as reading it.
            step = len(rows) if self._held else max(-(-len(rows) // self._threads), 1)
            return [
                self._pool.submit(source.read, rows[first : first + step], buffer, first, skipped is not None)
                for first in range(0, len(rows), step)
            ]

        reading = deque()
        try:
            reading.extend(start(number) for number in range(count - 1))
            for number, rows in enumerate(batches):
                # The caller is done with the batch before this one, so its buffer is free again.
                if number + count - 1 < len(batches):
                    reading.append(start(number + count - 1))
                for future in reading[0]:
                    bad = future.result()
                    if bad:  # only where rows may be skipped
                        skipped.update(bad)
                reading.popleft()
                buffer = buffers[number % count]
                yield buffer.first(len(rows)) if isinstance(buffer, PackedBatch) else buffer[: len(rows)]
            self._row_reader.check_unchanged()  # else the rows would come from two different stores
        finally:
            # The next iteration fills the same buffers.
            wait([future for futures in reading for future in futures if not future.cancel()])

    def _allocate_buffers(self, count: int, size: int) -> list[torch.Tensor | PackedBatch]:
        """Return `count` buffers for `size` rows each: the present ones if they suffice, else new ones."""
        if len(self._buffers) < count or len(self._buffers[0]) < size:
            self._buffers = []  # freed before the new ones are allocated
            self._buffers = [self._allocate(size, self._pinned) for _ in range(count)]
        return self._buffers

    def _allocate(self, size: int, pinned: bool) -> torch.Tensor | PackedBatch:
        allocate = self._row_reader.allocate_packed if self._packed else self._row_reader.allocate_levels
        return allocate(size, pinned)


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
