"""Direct reader of a local store's shard files: one `pread` and a decoder, without Zarr.

A shard's index is read once; one call decodes a row's chunks into the caller's buffer. The result equals Zarr's to the
last bit; chunks of packed stores stay packed. Checksums are those of the format: CRC-32C of each index, and
zstd's in every chunk, which the decoder verifies. Only layouts that `pipeline build` writes are supported;
`open_shard_reader` returns None for others, and for stores that are not local.

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

import math
import os
import resource
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from shlex import quote

import numpy as np
from numcodecs.zstd import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.codecs.sharding import ShardingCodecIndexLocation

from data_cards.core.contained import open_contained
from data_cards.core.errors import StoreError
from pipeline.features.settings import PLANES_PER_KIND
from pipeline.store.mirror_codec import MirrorCodec
from pipeline.store.reader import FeatureStore
from pipeline.store.shard_format import ABSENT, decode_index, index_length, read_decoded_size, shard_file

_MAX_OPEN_FILES = 4096  # opening a file again costs more than reading a small row

Stamp = tuple[int, int, int]  # of a file: inode, size, time of change


@dataclass(frozen=True)
class _Shard:
    chunks: np.ndarray  # uint64 (rows, kinds, 3): offset, length and decoded size; size 0: not read yet
    stamp: Stamp


@dataclass(frozen=True)
class _OpenFile:
    descriptor: int

    def __del__(self) -> None:  # when neither the cache nor a reading thread references it
        os.close(self.descriptor)


FileOpener = Callable[[str, str], _OpenFile]  # of a store's folder and the name of a file in it


@dataclass(frozen=True)
class EncodedChunks:
    """Encoded chunks, concatenated, and the decoded size of each in bytes."""

    data: memoryview
    sizes: tuple[int, ...]


class ShardReader:
    """Reader of the shard files of a store's features; threads may share it.

    Parameters
    ----------
    packed : bool
        Whether the store holds halves of mirrored planes.
    open_file : callable
        Opens shard files; stores that are read together share it.
    """

    def __init__(self, store: FeatureStore, packed: bool, open_file: FileOpener):
        features = store.features
        self._path = store.path
        self.packed = packed
        self._rows_a_shard = features.shards[0]
        self._kinds = features.shape[1] // PLANES_PER_KIND
        whole = math.prod(features.chunks)
        self._longest = whole + (whole >> 8) + 1024  # of a chunk, even if zstd cannot compress it
        self._count = -(-features.shape[0] // self._rows_a_shard)
        self._known: dict[int, _Shard] = {}
        self._open_file = open_file
        self._thread_local = threading.local()

    def check_complete(self) -> None:
        """Raise `StoreError` unless every shard's file exists."""
        missing = [shard for shard in range(self._count) if not os.path.exists(self._file(shard))]
        if missing:
            first = missing[0] * self._rows_a_shard
            raise StoreError(
                f"{self._path}: the store is damaged: {len(missing)} of {self._count} files of its features are "
                f"missing (the first, of the rows from {first} on: {self._file(missing[0])}); "
                f"`pipeline verify {quote(self._path)} --repair` rebuilds them"
            )

    def check_unchanged(self) -> None:
        """Raise `StoreError` if a file changed since it was first read: a replaced file that is open stays readable."""
        for shard, known in list(self._known.items()):
            with suppress(OSError):  # removed or unreachable
                if _stamp(os.stat(self._file(shard))) == known.stamp:
                    continue
            raise self._change_error(shard)

    def fetch(self, rows: Sequence[int], kinds: Sequence[int]) -> EncodedChunks:
        """Read the undecoded chunks of rows, of these kinds of planes (indices into the store's).

        The result is valid until this thread calls `fetch` again.

        Raises
        ------
        ValueError, OSError : a file is damaged or missing
        StoreError : a file was written to since its index was read
        """
        opened: dict[int, tuple[_OpenFile, _Shard]] = {}  # so that each file's time is read once
        runs, sizes, total = [], [], 0
        for row in rows:
            shard, place = divmod(row, self._rows_a_shard)
            if shard not in opened:
                file = self._open_file(self._path, shard_file(shard))
                opened[shard] = file, self._load_index(shard, file.descriptor)
            file, known = opened[shard]
            chunks = known.chunks[place].tolist()
            offsets, lengths, decoded = zip(*(chunks[kind] for kind in kinds), strict=True)
            runs += [(file, *run) for run in _merge_ranges(offsets, lengths, known.stamp[1])]
            if max(lengths) > self._longest:  # before allocating
                raise ValueError(f"a chunk of {max(lengths)} bytes, more than its planes can have")
            sizes.append((known, place, lengths, decoded))
            total += sum(lengths)
        data = memoryview(self._buffer(total))
        start = 0
        for file, offset, length in runs:
            if os.preadv(file.descriptor, [data[start : start + length]], offset) != length:
                raise ValueError("the file is too short")
            start += length
        start, found = 0, []
        for known, place, lengths, decoded in sizes:
            if 0 in decoded:
                bounds = pairwise(accumulate(lengths, initial=start))
                decoded = [read_decoded_size(data[first:end]) for first, end in bounds]
                known.chunks[place, kinds, 2] = decoded
            start += sum(lengths)
            found += decoded
        return EncodedChunks(data, tuple(found))

    def decode(self, fetched: EncodedChunks, target: np.ndarray) -> None:
        """Decode fetched chunks, concatenated, into uint8 (sum of sizes,); raises ValueError or RuntimeError.

        One call decodes all chunks, because releasing and acquiring Python's lock takes longer than decoding a small
        chunk. The decoder does not detect a result that is too short, so `fetch` checks each frame, once until the
        file's size or time changes.
        """
        if sum(fetched.sizes) != target.nbytes:
            raise ValueError(f"chunks of {sum(fetched.sizes)} bytes, expected {target.nbytes}")
        if not hasattr(self._thread_local, "zstd"):
            self._thread_local.zstd = Zstd()
        self._thread_local.zstd.decode(fetched.data, target)

    def _buffer(self, length: int) -> np.ndarray:
        """Return this thread's reusable buffer, uint8 (length,): fresh memory is slow."""
        buffer = getattr(self._thread_local, "buffer", None)
        if buffer is None or buffer.nbytes < length:
            buffer = self._thread_local.buffer = np.empty(length, dtype=np.uint8)
        return buffer[:length]

    def _load_index(self, shard: int, descriptor: int) -> _Shard:
        stamp = _stamp(os.fstat(descriptor))
        known = self._known.get(shard)
        if known is None:
            # Two threads may both read it, with the same result.
            known = self._known[shard] = _Shard(self._read_index(descriptor, stamp[1]), stamp)
        if known.stamp != stamp:
            raise self._change_error(shard)
        return known

    def _change_error(self, shard: int) -> StoreError:
        file = self._file(shard)
        return StoreError(
            f"{file}: was changed while it was being read; restore the file and resume, or start a new run"
        )

    def _read_index(self, descriptor: int, size: int) -> np.ndarray:
        chunks = self._rows_a_shard * self._kinds
        length = index_length(chunks)
        index = decode_index(os.pread(descriptor, length, max(size - length, 0)), chunks)
        if index is None:
            raise ValueError("its index is damaged or cut off")
        return np.pad(index.reshape(-1, self._kinds, 2), ((0, 0), (0, 0), (0, 1)))

    def _file(self, shard: int) -> str:
        return f"{self._path}/{shard_file(shard)}"


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_ino, status.st_size, status.st_mtime_ns


def create_file_opener() -> FileOpener:
    """Create an opener of files to read, which keeps at most an eighth of the process's limit open.

    Other code opens files, too, and each training has more than one reader.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    count = _MAX_OPEN_FILES if allowed == resource.RLIM_INFINITY else min(max(allowed // 8, 1), _MAX_OPEN_FILES)
    return lru_cache(count)(lambda folder, name: _OpenFile(open_contained(folder, name)))


def open_shard_reader(store: FeatureStore, open_file: FileOpener) -> ShardReader | None:
    """Open the shard files of a local store; None for a layout that is not supported."""
    features = store.features
    if "://" in store.path or sys.byteorder != "little" or not isinstance(features.metadata.codecs[0], ShardingCodec):
        return None
    sharding = features.metadata.codecs[0]
    sides = features.shape[1:]
    expected = (
        len(features.metadata.codecs) == 1
        and features.chunks == (1, PLANES_PER_KIND, *sides[1:])
        and features.shards[1:] == sides
        and features.metadata.chunk_key_encoding.encode_chunk_key((0, 0)) == "c/0/0"
        and sharding.index_location == ShardingCodecIndexLocation.end
        and [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
        and len(sharding.codecs) == 2
        and isinstance(sharding.codecs[1], ZstdCodec)
    )
    if not expected:
        return None
    packed = isinstance(sharding.codecs[0], MirrorCodec)
    if packed or isinstance(sharding.codecs[0], BytesCodec):
        return ShardReader(store, packed, open_file)
    return None


def _merge_ranges(offsets: Sequence[int], lengths: Sequence[int], size: int) -> list[tuple[int, int]]:
    """Merge adjacent chunks of a file into runs (offset, length), each for one read."""
    runs: list[tuple[int, int]] = []
    for offset, length in zip(offsets, lengths, strict=True):
        if ABSENT in (offset, length):
            raise ValueError("missing in its shard")
        if offset + length > size:  # before allocating
            raise ValueError("the file is too short")
        if runs and sum(runs[-1]) == offset:
            runs[-1] = (runs[-1][0], runs[-1][1] + length)
        else:
            runs.append((offset, length))
    return runs
