"""Zarr codec that stores the independent half of a mirrored chunk.

This array-to-bytes codec detects whether a chunk is even or odd under k -> -k in its last two axes. It writes only the
independent part of such a chunk (`pipeline.features.symmetry`), and any other chunk whole. It is lossless for every
input and independent of the meaning of channels. The symmetry halves the DFT of a real picture; general codecs cannot
use it.

Encoding: one byte (0 whole, 1 even, 2 odd), then little-endian values. For even and odd chunks these are the columns
right of the middle, row by row, for each leading index; then the columns that are their own mirror image (the middle,
and the first if the width is even). Of each of these columns, the rows from the middle on are stored, and the first if
the height is even.

Zarr finds the codec through the entry point group `zarr.codecs` when this package is installed.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON

from pipeline.features.symmetry import fill_mirror_images, is_mirrored, self_mirrored_columns

CODEC_NAME = "spectral-detector.mirror"
WHOLE, EVEN, ODD = 0, 1, 2


def pack(chunk: np.ndarray) -> np.ndarray:
    """Encode a chunk (..., H, W) of a signed, unsigned or floating type: uint8 (bytes,).

    Raises
    ------
    ValueError : the chunk has no rows or no columns
    """
    if chunk.ndim < 2 or 0 in chunk.shape[-2:]:
        raise ValueError(f"chunk of shape {chunk.shape}: expected (..., rows, columns), at least one of each")
    chunk = np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("<"))
    width = chunk.shape[-1]
    for kind in (EVEN, ODD):
        if is_mirrored(chunk, odd=kind == ODD):
            own = [_independent_rows(chunk[..., column]) for column in self_mirrored_columns(width)]
            return _with_header(kind, [chunk[..., width // 2 + 1 :], *own])
    return _with_header(WHOLE, [chunk])


def unpack(data: np.ndarray, shape: tuple[int, ...], dtype: np.dtype, out: np.ndarray | None = None) -> np.ndarray:
    """Decode the uint8 (bytes,) of `pack` to a chunk, into `out` if given; raises `ValueError` for other bytes."""
    kind, values = int(data[0]) if len(data) else None, data[1:]
    dtype = np.dtype(dtype).newbyteorder("<")
    half = count_independent(shape)
    expected = {WHOLE: int(np.prod(shape)), EVEN: half, ODD: half}.get(kind)
    if expected is None or len(values) != expected * dtype.itemsize:
        raise ValueError(f"packed chunk of {len(data)} bytes, kind {kind}: damaged, or not of shape {shape} {dtype}")
    values = values.view(dtype)
    if kind == WHOLE and out is None:
        return values.reshape(shape)
    chunk = np.empty(shape, dtype=dtype) if out is None else out
    if kind == WHOLE:
        chunk[...] = values.reshape(shape)
    else:
        unpack_halves(values[None], chunk[None], odd=kind == ODD)
    return chunk


def count_independent(shape: tuple[int, ...]) -> int:
    """Return the number of values in the independent half of a mirrored chunk (..., H, W)."""
    *leading, height, width = shape
    return int(np.prod(leading)) * (height * ((width - 1) // 2) + len(self_mirrored_columns(width)) * (height // 2 + 1))


def unpack_halves(values: np.ndarray, chunks: np.ndarray, odd: bool) -> None:
    """Fill mirrored chunks (N, ..., H, W), all even or all odd, from their independent halves (N, values)."""
    *leading, height, width = chunks.shape
    right = (width - 1) // 2
    planes = int(np.prod(leading[1:]))
    start = planes * height * right
    chunks[..., width // 2 + 1 :] = values[:, :start].reshape(*leading, height, right)
    for column in self_mirrored_columns(width):
        length = planes * (height // 2 + 1)
        rows = values[:, start : start + length].reshape(*leading, height // 2 + 1)
        start += length
        chunks[..., height // 2 :, column] = rows[..., : height - height // 2]
        if height % 2 == 0:
            chunks[..., 0, column] = rows[..., -1]
    fill_mirror_images(chunks, odd)


def _independent_rows(column: np.ndarray) -> np.ndarray:
    """Return the independent rows of a self-mirrored column (..., H): from the middle, and the first if H is even."""
    height = column.shape[-1]
    below = column[..., height // 2 :]
    return below if height % 2 else np.concatenate([below, column[..., :1]], axis=-1)


def _with_header(kind: int, parts: list[np.ndarray]) -> np.ndarray:
    encoded = np.empty(1 + sum(part.nbytes for part in parts), dtype=np.uint8)
    encoded[0] = kind
    position = 1
    for part in parts:
        encoded[position : position + part.nbytes] = np.ascontiguousarray(part).reshape(-1).view(np.uint8)
        position += part.nbytes
    return encoded


@dataclass(frozen=True)
class MirrorCodec(ArrayBytesCodec):
    """Zarr v3 codec of `pack` and `unpack`."""

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        if data["name"] != CODEC_NAME:
            raise ValueError(f"codec {data['name']!r}: expected {CODEC_NAME!r}")
        if data.get("configuration"):
            raise ValueError(f"codec {CODEC_NAME}: expected no configuration, got {data['configuration']}")
        return cls()

    def to_dict(self) -> dict[str, JSON]:
        return {"name": CODEC_NAME}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, **_: Any) -> None:
        if len(shape) < 2:
            raise ValueError(f"codec {CODEC_NAME}: expected an array of two axes or more, got shape {shape}")
        native = dtype.to_native_dtype()
        if native.kind not in "iuf":
            raise ValueError(f"codec {CODEC_NAME}: expected integers or floating-point numbers, got {native}")

    async def _encode_single(self, chunk_array: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return chunk_spec.prototype.buffer.from_array_like(pack(chunk_array.as_numpy_array()))

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype = chunk_spec.dtype.to_native_dtype()
        chunk = unpack(chunk_bytes.as_numpy_array(), chunk_spec.shape, dtype)
        return chunk_spec.prototype.nd_buffer.from_ndarray_like(chunk.astype(dtype, copy=False))

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("the size depends on the values")
