"""The arrays of a store, opened to read: a table of their formats, and a parser that takes nothing else.

A store may be a stranger's. Zarr alone would read any version of its format, call any codec that is installed, and take
the memory that a file asks for. So the metadata are read here first: each array must be as `ARRAYS` says, of Zarr's
format 3, with the codecs that a build writes, and with lengths that agree with those of the others. Its chunks are
decoded by `pipeline.store.bounded_codecs`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.codec import Codec
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec
from zarr.storage import StorePath

from data_cards.core.bounded_json import parse_json
from data_cards.core.files import ZARR_METADATA
from data_cards.core.labels import CLASS_NAMES
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import PLANES_PER_KIND
from pipeline.store.attributes import expect
from pipeline.store.bounded_codecs import RATIO, BoundedZstdCodec
from pipeline.store.filesystem import Storage
from pipeline.store.mirror_codec import CODEC_NAME, MirrorCodec
from pipeline.store.schema import (
    CARD,
    CHECKSUMS,
    CLASS_COORDINATE,
    FEATURES,
    MEAN,
    PLANE_COORDINATE,
    PROFILES,
    PROVENANCE,
    SAMPLE_COLUMNS,
    STD,
)

TEXT = "string"
_MOST_LENGTH = 2**31 - 1  # of an axis: numbers of pictures are int32
_MOST_CHUNKS = 2**18  # of an array: so many shards, too
_MOST_IN_SHARD = 2**14  # chunks of a shard; a build makes 1536 at most
_MOST_CHUNK_BYTES = 2**26
_LARGE = 2**28  # bytes of an array: larger ones must be well filled
_MOST_TEXTS = 2**16  # of a chunk
_FEW_ROWS = 2**16  # are believed before their shards were counted
_MOST_METADATA = 2**16  # bytes of an array's metadata


@dataclass(frozen=True)
class ArrayFormat:
    """The format of an array of a store.

    Attributes
    ----------
    data_type : str, Zarr's name
    axes : tuple of str, the name of each axis; axes of one name have one length in all arrays of a store
    sharded : whether a file holds a shard of many chunks, of a row each
    packed : whether mirrored chunks may be stored by halves (`pipeline.store.mirror_codec`)
    """

    data_type: str
    axes: tuple[str, ...]
    sharded: bool = False
    packed: bool = False


# Axes of a plane: rows and columns of the transform.
PLANE_AXES = ("frequency_y", "frequency_x")
# Every array of a store.
ARRAYS = {
    FEATURES: ArrayFormat("uint8", ("sample", "plane", *PLANE_AXES), sharded=True, packed=True),
    PROFILES: ArrayFormat("float32", ("sample", "profile_number")),
    **{name: ArrayFormat(kind, ("sample",)) for name, (kind, _) in SAMPLE_COLUMNS.items()},
    CHECKSUMS: ArrayFormat("uint8", ("shard", "checksum_byte")),
    PROVENANCE: ArrayFormat("uint8", ("provenance_byte",)),
    CARD: ArrayFormat("uint8", ("card_byte",)),
    MEAN: ArrayFormat("float32", ("plane", *PLANE_AXES)),
    STD: ArrayFormat("float32", ("plane", *PLANE_AXES)),
    PLANE_COORDINATE: ArrayFormat(TEXT, ("plane",)),
    CLASS_COORDINATE: ArrayFormat(TEXT, ("class",)),
}
_FIXED_LENGTHS = {"profile_number": PROFILE_LENGTH, "class": len(CLASS_NAMES)}
# The names in stores of format versions 2 and 3, in which several lengths have one name.
_EARLIER_NAMES = {
    "frequency_y": "row",
    "frequency_x": "column",
    "profile_number": "value",
    "checksum_byte": "byte",
    "provenance_byte": "byte",
    "card_byte": "byte",
}


class StoredArrays(Mapping):
    """The arrays of a store by name, opened to read when asked for; missing ones raise `KeyError`.

    Attributes
    ----------
    storage : Storage
    attrs : dict, attributes of the store's group
    lengths : dict, the known length of each axis, by the axis' name
    """

    def __init__(self, storage: Storage, attributes: dict, lengths: Mapping[str, int] | None = None):
        self.storage, self.attrs = storage, attributes
        self.lengths = {**_FIXED_LENGTHS, **(lengths or {})}

    def __getitem__(self, name: str) -> zarr.Array:
        """Open an array; raises `ValueError` where it is not what `ARRAYS` says, or too large for its files."""
        try:
            document = parse_json(self.storage.read(f"{name}/{ZARR_METADATA}", _MOST_METADATA))
        except FileNotFoundError as error:
            raise KeyError(name) from error
        form = ARRAYS[name]
        codecs, shape, files = _parse_array(document, form)
        self._check_lengths(form, shape)
        if name in (FEATURES, PROFILES) and shape[0] > _FEW_ROWS:
            self._check_shards(name, -(-shape[0] // files[0]))
        values = {**document, "codecs": codecs, "attributes": {}}
        metadata = zarr.core.metadata.ArrayV3Metadata.from_dict(values)
        place = StorePath(self.storage.zarr_store(), name)
        return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=place))

    def __iter__(self):
        return (name for name in ARRAYS if self.storage.exists(f"{name}/{ZARR_METADATA}"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _check_lengths(self, form: ArrayFormat, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` where a length differs from the known one of its axis; record the others as known."""
        for axis, length in zip(form.axes, shape, strict=True):
            expect(axis != "shard" or length <= _MOST_CHUNKS, "too many shards")
            if length != (known := self.lengths.setdefault(axis, length)):
                raise ValueError(f"its length is {length}, expected {known}")

    def _check_shards(self, name: str, wanted: int) -> None:
        """Raise `ValueError` where most shards are missing: then the number of rows is nothing to rely on."""
        there = len(self.storage.list_entries(f"{name}/c"))
        if there < wanted // 2:
            raise ValueError(f"{wanted - there} of {wanted} files of its shards are missing")


def name_dimensions(array: str, format_version: int) -> tuple[str, ...]:
    """Return the names of an array's axes, as the metadata of a store of a format version have them."""
    axes = ARRAYS[array].axes
    return axes if format_version > 3 else tuple(_EARLIER_NAMES.get(axis, axis) for axis in axes)


def read_values(arrays: StoredArrays, name: str) -> np.ndarray:
    """Read an array's values.

    Raises
    ------
    FileNotFoundError : a chunk is missing, for which Zarr would read zeros
    ValueError : it is far larger than its files
    """
    array = arrays[name]
    if array.nchunks_initialized < array.nchunks:
        raise FileNotFoundError("a part is missing")
    if ARRAYS[name].data_type != TEXT and array.nbytes > _LARGE:
        stored = arrays.storage.count_bytes(name)
        expect(array.nbytes <= RATIO * stored, f"{array.nbytes:,} bytes in files of {stored:,}")
    return array[:]


def _parse_array(document: Any, form: ArrayFormat) -> tuple[list[Codec], tuple[int, ...], tuple[int, ...]]:
    """Check the metadata of an array, and return its codecs, its shape, and the shape of a file; or raise."""
    expect(isinstance(document, dict), "not metadata of an array")
    expect((document.get("zarr_format"), document.get("node_type")) == (3, "array"), "not an array of Zarr's format 3")
    expect(document.get("data_type") == form.data_type, f"not of type {form.data_type}")
    shape = _parse_shape(document.get("shape"), len(form.axes), least=0)
    files = _parse_shape(_configuration(document.get("chunk_grid"), "regular").get("chunk_shape"), len(shape))
    key = _configuration(document.get("chunk_key_encoding"), "default")
    expect(key.get("separator", "/") == "/", "chunks with other names")
    expect(not document.get("storage_transformers"), "has storage transformers")
    fill = document.get("fill_value")
    expect(fill == "" if form.data_type == TEXT else not isinstance(fill, str) and fill == 0, "another fill value")
    expect(files[1:] == shape[1:], f"chunks of {files}")
    expect(-(-shape[0] // files[0]) <= _MOST_CHUNKS, "too many chunks")
    codecs = document.get("codecs")
    expect(isinstance(codecs, list), "no codecs")
    if not form.sharded:
        return _parse_codecs(codecs, form, files), shape, files
    expect(len(codecs) == 1, "codecs beside its shards'")
    sharding = _configuration(codecs[0], "sharding_indexed")
    chunk = _parse_shape(sharding.get("chunk_shape"), len(shape))
    # A chunk is a row's planes of one kind, or all of a row.
    step = PLANES_PER_KIND if form.packed else shape[1]
    expect(chunk == (1, step, *shape[2:]) and shape[1] % step == 0, f"chunks of {chunk}")
    expect(files[0] * (shape[1] // step) <= _MOST_IN_SHARD, "too many chunks in a shard")
    index = sharding.get("index_codecs")
    expect(isinstance(index, list) and len(index) == 2, "another index of its shards")
    expect(_configuration(index[0], "bytes").get("endian") == "little", "another index of its shards")
    _configuration(index[1], "crc32c")
    expect(sharding.get("index_location", "end") == "end", "another index of its shards")
    inner = _parse_codecs(sharding.get("codecs"), form, chunk)
    codec = ShardingCodec(
        chunk_shape=chunk,
        codecs=inner,
        index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
        index_location="end",
    )
    return [codec], shape, files


def _parse_codecs(codecs: Any, form: ArrayFormat, chunk: tuple[int, ...]) -> list[Codec]:
    """Return the codecs of a chunk: values to bytes, and zstd."""
    expect(isinstance(codecs, list) and len(codecs) == 2, "other codecs")
    if form.data_type == TEXT:
        expect(math.prod(chunk) <= _MOST_TEXTS, f"chunks of {chunk}")
        _configuration(codecs[0], "vlen-utf8")
        serializer = VLenUTF8Codec()
    else:
        size = math.prod(chunk) * np.dtype(form.data_type).itemsize
        # What the settings allow at most is larger than any other chunk: planes of both statistics.
        expect(size <= _MOST_CHUNK_BYTES or form.axes[-2:] == PLANE_AXES, f"chunks of {chunk}")
        if form.packed and isinstance(codecs[0], dict) and codecs[0].get("name") == CODEC_NAME:
            expect(not _configuration(codecs[0], CODEC_NAME), "another codec")
            serializer = MirrorCodec()
        else:
            endian = _configuration(codecs[0], "bytes").get("endian")
            expect(endian in ("little", None), "another order of its bytes")
            serializer = BytesCodec(endian="little")
    zstd = _configuration(codecs[1], "zstd")
    level, checksum = zstd.get("level", 0), zstd.get("checksum", False)
    expect(type(level) is int and -100 <= level <= 22 and type(checksum) is bool, "another compression")
    return [serializer, BoundedZstdCodec(level=level, checksum=checksum)]


def _parse_shape(values: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    expect(isinstance(values, list) and len(values) == axes, f"not of {axes} axes")
    expect(all(type(one) is int and least <= one <= _MOST_LENGTH for one in values), f"its shape is {_shorten(values)}")
    return tuple(values)


def _configuration(entry: Any, name: str) -> dict:
    """Return the configuration of a named part of the metadata."""
    expect(isinstance(entry, dict) and entry.get("name") == name, f"expected {name}, got {_shorten(entry)}")
    configuration = entry.get("configuration") or {}
    expect(isinstance(configuration, dict) and entry.keys() <= {"name", "configuration"}, f"another {name}")
    return configuration


def _shorten(value: Any) -> str:
    return str(value)[:60]
