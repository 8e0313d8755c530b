"""Zarr's zstd codec for untrusted arrays: allocates no more memory than a chunk of the array can need."""

import math
from dataclasses import dataclass

from zarr.codecs import ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer

from pipeline.store.shard_format import read_decoded_size

TEXT_BYTES = 256  # mean size of a text that is always accepted
RATIO = 64  # largest accepted ratio of decoded to stored bytes where no other limit applies
_LARGE = 2**28  # bytes of a chunk; for larger ones `RATIO` applies, too
_COUNT_BYTES = 4  # number of texts, at the start of a chunk of texts


@dataclass(frozen=True)
class BoundedZstdCodec(ZstdCodec):
    """Zarr's zstd codec for single frames that declare a decoded size which their chunk can have."""

    def __init__(self, *, level: int = 0, checksum: bool = False) -> None:
        super().__init__(level=level, checksum=checksum)

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _check_size(chunk_bytes, chunk_spec)
        decoded = await super()._decode_single(chunk_bytes, chunk_spec)
        _check_count(decoded, chunk_spec)
        return decoded

    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _check_size(chunk_bytes, chunk_spec)
        decoded = super()._decode_sync(chunk_bytes, chunk_spec)
        _check_count(decoded, chunk_spec)
        return decoded


def _check_size(chunk_bytes: Buffer, chunk_spec: ArraySpec) -> None:
    """Raise `ValueError` if a frame declares more bytes than its chunk can have."""
    frame = memoryview(chunk_bytes.as_numpy_array()).cast("B")
    size, items = read_decoded_size(frame), math.prod(chunk_spec.shape)
    if _is_text(chunk_spec):
        most = max(_COUNT_BYTES + items * TEXT_BYTES, RATIO * len(frame))
    else:
        most = items * chunk_spec.dtype.to_native_dtype().itemsize + 1  # 1: the header of a packed chunk
    if size > _LARGE:
        most = min(most, RATIO * len(frame))
    if size > most:
        raise ValueError(f"a chunk of {size:,} bytes; expected at most {most:,}")


def _check_count(decoded: Buffer, chunk_spec: ArraySpec) -> None:
    """Raise `ValueError` if a chunk declares a wrong number of texts, for which the next decoder allocates memory."""
    if not _is_text(chunk_spec):
        return
    items, count = math.prod(chunk_spec.shape), int.from_bytes(decoded.as_numpy_array()[:_COUNT_BYTES], "little")
    if count != items:
        raise ValueError(f"a chunk of {count:,} texts; expected {items:,}")


def _is_text(chunk_spec: ArraySpec) -> bool:
    return chunk_spec.dtype.to_native_dtype().kind in "OT"
