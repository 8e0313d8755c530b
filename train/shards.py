"""Samples straight from a local store's shard files: one `pread` and a decoder, no Zarr in between.

A shard's index is read once, its chunks are decoded into the caller's buffer. What comes out is
what plain Zarr gives, to the last bit. Checksums are those of the format: CRC-32C of each index,
and zstd's own in every chunk, which the decoder verifies. Only layouts that `pipeline build`
writes are read so; `open_shards` says None for others, and for stores that are not local.

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

import math
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.codecs.sharding import ShardingCodecIndexLocation

from data_cards.errors import StoreError
from pipeline.packing import MirrorCodec, unpack
from pipeline.settings import PLANES_A_KIND
from pipeline.store import FeatureStore

_CHECKSUM = 4  # bytes behind an index
_ABSENT = 2**64 - 1  # offset and length of a chunk that is not there

Stamp = tuple[int, int, int]  # of a file: inode, size, time of change


@dataclass(frozen=True)
class _Shard:
    index: np.ndarray  # uint64 (rows, kinds, 2): offset and length of every chunk
    stamp: Stamp


class Shards:
    """The shard files of a store's features; threads may share it. `packed`: whether halves are stored."""

    def __init__(self, store: FeatureStore, packed: bool):
        features = store.features
        self._path = store.path
        self.packed = packed
        self._dtype = features.dtype
        self._rows_a_shard = features.shards[0]
        self._chunk = features.chunks[1:]
        self._kinds = features.shape[1] // PLANES_A_KIND
        self._count = -(-features.shape[0] // self._rows_a_shard)
        self._known: dict[int, _Shard] = {}
        self._of_thread = threading.local()

    def check_all_there(self) -> None:
        """Raise `StoreError` unless every shard's file is there."""
        missing = sum(not os.path.exists(self._file(shard)) for shard in range(self._count))
        if missing:
            raise StoreError(
                f"{self._path}: the store is damaged: {missing} of {self._count} files of its features are missing; "
                "build it again"
            )

    def read(self, row: int, kinds: Sequence[int], target: np.ndarray) -> None:
        """Read kinds of planes (indices into the store's) of a row into `target` (3 * kinds, H, W), C-contiguous.

        Raises
        ------
        ValueError, OSError, RuntimeError : the file is damaged or gone
        StoreError : it was changed since its index was read
        """
        for number, data in enumerate(self._read_chunks(row, kinds)):
            first = PLANES_A_KIND * number
            self._decode(data, target[first : first + PLANES_A_KIND])

    def read_packed(self, row: int, kinds: Sequence[int]) -> Iterator[np.ndarray]:
        """Kinds of planes of a row as `pipeline.packing.pack` made them, uint8 (bytes,); raises as `read`.

        Each stands until the next one is asked for.
        """
        whole = math.prod(self._chunk) * self._dtype.itemsize
        for data in self._read_chunks(row, kinds):
            size = _decoded_size(data)
            if not 1 < size <= whole + 1:  # before memory is asked for
                raise ValueError(f"a chunk of {size} bytes, expected at most {whole + 1}")
            yield self._decode_packed(data, size)

    def _read_chunks(self, row: int, kinds: Sequence[int]) -> Iterator[memoryview]:
        """The chunks of a row; each stands until the next one is asked for."""
        shard, place = divmod(row, self._rows_a_shard)
        descriptor = os.open(self._file(shard), os.O_RDONLY)
        try:
            known = self._open(shard, descriptor)
            chunks = [tuple(map(int, known.index[place, kind])) for kind in kinds]
            size = known.stamp[1]
            for lengths, offset in _join_neighbours(chunks, size):
                data = self._read_into_room(descriptor, offset, sum(lengths))
                for length in lengths:
                    yield data[:length]
                    data = data[length:]
        finally:
            os.close(descriptor)

    def _read_into_room(self, descriptor: int, offset: int, length: int) -> memoryview:
        """Bytes of a file in this thread's own room."""
        data = memoryview(self._room("read", length))
        if os.preadv(descriptor, [data], offset) != length:
            raise ValueError("the file is too short")
        return data

    def _room(self, purpose: str, length: int) -> np.ndarray:
        """uint8 (length,) of this thread's own, which is used again: fresh memory is slow."""
        room = getattr(self._of_thread, purpose, None)
        if room is None or room.nbytes < length:
            room = np.empty(length, dtype=np.uint8)
            setattr(self._of_thread, purpose, room)
        return room[:length]

    def _open(self, shard: int, descriptor: int) -> _Shard:
        status = os.fstat(descriptor)
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(shard)
        if known is None:
            # Two threads may both read it: they find the same.
            known = self._known[shard] = _Shard(self._read_index(descriptor, status.st_size), stamp)
        if known.stamp != stamp:
            raise StoreError(
                f"{self._file(shard)}: was changed while it was being read; bring it back as it was and go on, "
                "or begin anew"
            )
        return known

    def _read_index(self, descriptor: int, size: int) -> np.ndarray:
        length = 16 * self._rows_a_shard * self._kinds
        if size < length + _CHECKSUM:
            raise ValueError("the file is too short")
        data = os.pread(descriptor, length + _CHECKSUM, size - length - _CHECKSUM)
        if len(data) != length + _CHECKSUM:
            raise ValueError("the file is too short")
        if google_crc32c.value(data[:length]).to_bytes(_CHECKSUM, "little") != data[length:]:
            raise ValueError("checksum of the shard's index does not match")
        return np.frombuffer(data[:length], dtype="<u8").reshape(-1, self._kinds, 2)

    def _decode(self, data: memoryview, target: np.ndarray) -> None:
        size = _decoded_size(data)  # before memory is asked for
        if self.packed and size <= target.nbytes + 1:
            unpack(self._decode_packed(data, size), self._chunk, self._dtype, out=target)
        elif size == target.nbytes:
            self._decoder().decode(data, target)
        else:
            raise ValueError(f"a chunk of {size} bytes, expected {target.nbytes}")

    def _decode_packed(self, data: memoryview, size: int) -> np.ndarray:
        packed = self._room("packed", size)
        self._decoder().decode(data, packed)
        return packed

    def _decoder(self) -> Zstd:
        if not hasattr(self._of_thread, "zstd"):
            self._of_thread.zstd = Zstd()
        return self._of_thread.zstd

    def _file(self, shard: int) -> str:
        return f"{self._path}/features/c/{shard}/0/0/0"


def open_shards(store: FeatureStore) -> Shards | None:
    """The shard files of a local store, or None where its layout is not one that is read here."""
    features = store.features
    if "://" in store.path or sys.byteorder != "little" or not isinstance(features.metadata.codecs[0], ShardingCodec):
        return None
    sharding = features.metadata.codecs[0]
    sides = features.shape[1:]
    expected = (
        len(features.metadata.codecs) == 1
        and features.chunks == (1, PLANES_A_KIND, *sides[1:])
        and features.shards[1:] == sides
        and features.metadata.chunk_key_encoding.encode_chunk_key((0, 0)) == "c/0/0"
        and sharding.index_location == ShardingCodecIndexLocation.end
        and [type(codec) for codec in sharding.index_codecs] == [BytesCodec, Crc32cCodec]
        and len(sharding.codecs) == 2
        and isinstance(sharding.codecs[1], ZstdCodec)
    )
    if not expected:
        return None
    if isinstance(sharding.codecs[0], MirrorCodec):
        return Shards(store, packed=True)
    return Shards(store, packed=False) if isinstance(sharding.codecs[0], BytesCodec) else None


def _join_neighbours(chunks: Sequence[tuple[int, int]], size: int) -> list[tuple[list[int], int]]:
    """Chunks (offset, length) of a file of that size as (lengths, offset) of what one reading gives."""
    joined: list[tuple[list[int], int]] = []
    for offset, length in chunks:
        if _ABSENT in (offset, length):
            raise ValueError("the shard does not hold it")
        if offset + length > size:  # before memory is asked for
            raise ValueError("the file is too short")
        if joined and joined[-1][1] + sum(joined[-1][0]) == offset:
            joined[-1][0].append(length)
        else:
            joined.append(([length], offset))
    return joined


def _decoded_size(frame: memoryview) -> int:
    """The size that a zstd frame's header tells (RFC 8878, 3.1.1.1); writers that know it always tell it."""
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 14:
        raise ValueError("not a chunk that zstd compressed")
    flags, alone = frame[4] >> 6, frame[4] >> 5 & 1
    start = 5 + (not alone) + (0, 1, 2, 4)[frame[4] & 3]  # behind the window and the dictionary's number
    length = (alone, 2, 4, 8)[flags]
    if length == 0:
        raise ValueError("a chunk without its size")
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)
