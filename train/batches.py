"""Rows of a feature store as batches, read by threads several batches ahead.

Threads are enough: reading and decompressing let go of Python's lock. Each row has its fixed
place in its batch, so the result does not depend on the number of threads. An error in a
thread comes up in the loop, at the batch that it belongs to. Local stores are read by
`train.shards`, all others through Zarr.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from data_cards.errors import StoreError
from pipeline.store import KINDS, FeatureStore
from train.shards import open_shards

_DTYPES = {"uint8": torch.uint8, "float16": torch.float16}  # that a store's features may have

_ReadRow = Callable[[int, np.ndarray], None]  # reads a row into a target (planes, H, W)


def read_batches(
    store: FeatureStore,
    batches: Sequence[np.ndarray],
    *,
    threads: int = 4,
    ahead: int = 2,
    pinned: bool = False,
    kinds: Sequence[str] = KINDS,
    skipped: set[int] | None = None,
) -> Iterator[torch.Tensor]:
    """Read batches of rows, in order.

    Parameters
    ----------
    batches : row numbers of each batch
    threads : that read
    ahead : batches that are read while the caller works on one
    pinned : put the buffers into page-locked memory, from which a GPU copies faster
    kinds : of planes that are read, in this order; the others' bytes stay on the disk
    skipped : takes up the rows that cannot be read, whose places then hold nothing of meaning; None: they end it

    Yields
    ------
    tensor (B, 3 * kinds, H, W) on the CPU, of the store's data type. It is a reused buffer: it holds this batch
    until the next one is asked for.

    Raises
    ------
    StoreError : files of the store are missing, or a row cannot be read; the message names it
    """
    if not batches:
        return
    wanted = [KINDS.index(kind) for kind in kinds]
    readers = {part.path: _choose_reader(part, wanted) for part in store.parts}
    shape = (max(map(len, batches)), 3 * len(kinds), *store.features.shape[2:])
    dtype = _DTYPES[store.features.dtype.name]
    count = min(ahead + 1, len(batches))
    buffers = [torch.empty(shape, dtype=dtype, pin_memory=pinned) for _ in range(count)]
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")

    def start(number: int) -> list[Future]:
        target = buffers[number % count].numpy()
        return [
            pool.submit(_read_row, readers, store, int(row), target[place]) for place, row in enumerate(batches[number])
        ]

    try:
        reading = deque(start(number) for number in range(count - 1))
        for number, rows in enumerate(batches):
            # The caller is done with the batch before this one, so its buffer is free again.
            if number + count - 1 < len(batches):
                reading.append(start(number + count - 1))
            for future in reading.popleft():
                try:
                    future.result()
                except _BadRowError as bad:
                    if skipped is None:
                        raise
                    skipped.add(bad.row)
            yield buffers[number % count][: len(rows)]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def move_batches(batches: Iterator[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """The same batches on `device`; on a CUDA device the copy runs beside the computation.

    A batch is valid until the next one is asked for.
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

    def __init__(self, message: str, row: int):
        super().__init__(message)
        self.row = row


def _choose_reader(store: FeatureStore, kinds: list[int]) -> _ReadRow:
    shards = open_shards(store)
    if shards is not None:
        shards.check_all_there()
        return lambda row, target: shards.read(row, kinds, target)
    _check_all_there(store)
    whole = kinds == list(range(len(KINDS)))

    def read(row: int, target: np.ndarray) -> None:
        # Basic indexing of one row: for Zarr much faster than a batch of rows at once.
        if whole:
            target[...] = store.features[row]
        else:
            for place, kind in enumerate(kinds):
                target[3 * place : 3 * place + 3] = store.features[row, 3 * kind : 3 * kind + 3]

    return read


def _read_row(readers: dict[str, _ReadRow], store: FeatureStore, row: int, target: np.ndarray) -> None:
    part, own = store.locate(row)
    try:
        readers[part.path](own, target)
    except Exception as error:  # codecs and stores raise many kinds
        image = part.columns["image"][own]
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise _BadRowError(
            f"{part.path}: row {own} ({image}) cannot be read ({reason}); the store is damaged, build it again",
            row,
        ) from error
