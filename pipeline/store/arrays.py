"""Read access to the arrays of an untrusted store: a table of their formats, and a parser that accepts nothing else.

Zarr alone would read any version of its format, call any installed codec, and allocate the memory that a file declares.
This parser reads the metadata first. Each array must match `ARRAYS`, use Zarr's format 3 and the codecs that a build
writes, and agree with the other arrays on the lengths of shared axes. `pipeline.store.bounded_codecs` decodes the
chunks.
"""

import errno
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.abc.codec import Codec
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, VLenUTF8Codec
from zarr.storage import StorePath, WrapperStore

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
_MOST_CHUNKS = 2**18  # of an array; also the most shards
_MOST_IN_SHARD = 2**14  # chunks of a shard; a build writes at most 1536
_MOST_CHUNK_BYTES = 2**26
_LARGE = 2**28  # bytes of an array; for larger ones `RATIO` limits decoded to stored bytes
_MOST_TEXTS = 2**16  # of a chunk
_FEW_ROWS = 2**16  # accepted without counting the shards
_MOST_METADATA = 2**16  # bytes of an array's metadata


@dataclass(frozen=True)
class ArrayFormat:
    """The format of an array of a store.

    Attributes
    ----------
    data_type : str, Zarr's name
    axes : tuple of str, the name of each axis; axes with the same name have the same length in all arrays of a store
    sharded : bool, whether a file holds a shard of many chunks, each of one row
    packed : bool, whether half of a mirrored chunk may be stored (`pipeline.store.mirror_codec`)
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
# Axis names in stores of format versions 2 and 3, where axes of different lengths share a name.
_EARLIER_NAMES = {
    "frequency_y": "row",
    "frequency_x": "column",
    "profile_number": "value",
    "checksum_byte": "byte",
    "provenance_byte": "byte",
    "card_byte": "byte",
}


class _WholeStore(WrapperStore):
    """A Zarr store in which a missing file is an error; Zarr alone reads zeros in its place."""

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "the file is missing", key)
        return found


class StoredArrays(Mapping):
    """The arrays of a store by name, opened for reading on access; a missing array raises `KeyError`.

    Attributes
    ----------
    storage : Storage
    attrs : dict, attributes of the store's group
    lengths : dict of str to int, the known lengths of axes, by axis name
    """

    def __init__(self, storage: Storage, attributes: dict, lengths: Mapping[str, int] | None = None):
        self.storage, self.attrs = storage, attributes
        self.lengths = {**_FIXED_LENGTHS, **(lengths or {})}

    def __getitem__(self, name: str) -> zarr.Array:
        """Open an array; raises `ValueError` if it does not match `ARRAYS`, or is too large for its files."""
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
        place = StorePath(_WholeStore(self.storage.zarr_store()), name)
        return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=place))

    def __iter__(self):
        return (name for name in ARRAYS if self.storage.exists(f"{name}/{ZARR_METADATA}"))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _check_lengths(self, form: ArrayFormat, shape: tuple[int, ...]) -> None:
        """Raise `ValueError` if a length differs from the known length of its axis; record new lengths."""
        for axis, length in zip(form.axes, shape, strict=True):
            expect(axis != "shard" or length <= _MOST_CHUNKS, "too many shards")
            if length != (known := self.lengths.setdefault(axis, length)):
                raise ValueError(f"length {length} of axis {axis}; expected {known}")

    def _check_shards(self, name: str, wanted: int) -> None:
        """Raise `ValueError` if most shards are missing, because the declared number of rows is then not credible."""
        there = len(self.storage.list_entries(f"{name}/c"))
        if there < wanted // 2:
            raise ValueError(f"{wanted - there} of {wanted} shard files are missing")


def name_dimensions(array: str, format_version: int) -> tuple[str, ...]:
    """Return the names of an array's axes in the metadata of a store of the given format version."""
    axes = ARRAYS[array].axes
    return axes if format_version > 3 else tuple(_EARLIER_NAMES.get(axis, axis) for axis in axes)


def read_values(arrays: StoredArrays, name: str) -> np.ndarray:
    """Read an array's values.

    Raises
    ------
    FileNotFoundError : a chunk is missing; Zarr would read zeros in its place
    ValueError : the array is far larger than its files
    """
    array = arrays[name]
    if array.nchunks_initialized < array.nchunks:
        raise FileNotFoundError("a part is missing")
    if ARRAYS[name].data_type != TEXT and array.nbytes > _LARGE:
        stored = arrays.storage.count_bytes(name)
        expect(
            array.nbytes <= RATIO * stored,
            f"{array.nbytes:,} bytes; expected at most {RATIO} * {stored:,}, of its files",
        )
    return array[:]


def _parse_array(document: Any, form: ArrayFormat) -> tuple[list[Codec], tuple[int, ...], tuple[int, ...]]:
    """Check an array's metadata; return its codecs, its shape, and the shape of a file. Raises `ValueError`."""
    expect(isinstance(document, dict), "not the metadata of an array")
    expect((document.get("zarr_format"), document.get("node_type")) == (3, "array"), "not an array of Zarr's format 3")
    data_type = document.get("data_type")
    expect(data_type == form.data_type, f"data type {_shorten(data_type)}; expected {form.data_type}")
    shape = _parse_shape(document.get("shape"), len(form.axes), least=0)
    files = _parse_shape(_configuration(document.get("chunk_grid"), "regular").get("chunk_shape"), len(shape))
    key = _configuration(document.get("chunk_key_encoding"), "default")
    expect(key.get("separator", "/") == "/", "unexpected names of chunks")
    expect(not document.get("storage_transformers"), "unexpected storage transformers")
    fill = document.get("fill_value")
    expect(fill == "" if form.data_type == TEXT else not isinstance(fill, str) and fill == 0, "unexpected fill value")
    expect(files[1:] == shape[1:], f"chunks of {files} in an array of {shape}")
    expect(-(-shape[0] // files[0]) <= _MOST_CHUNKS, "too many chunks")
    codecs = document.get("codecs")
    expect(isinstance(codecs, list), "no list of codecs")
    if not form.sharded:
        return _parse_codecs(codecs, form, files), shape, files
    expect(len(codecs) == 1, "more codecs than the one for shards")
    sharding = _configuration(codecs[0], "sharding_indexed")
    chunk = _parse_shape(sharding.get("chunk_shape"), len(shape))
    # A chunk holds one row's planes of one kind, or a whole row.
    step = PLANES_PER_KIND if form.packed else shape[1]
    expect(chunk == (1, step, *shape[2:]) and shape[1] % step == 0, f"chunks of {chunk}")
    expect(files[0] * (shape[1] // step) <= _MOST_IN_SHARD, "too many chunks in a shard")
    index = sharding.get("index_codecs")
    expect(isinstance(index, list) and len(index) == 2, "unexpected index of the shards")
    expect(_configuration(index[0], "bytes").get("endian") == "little", "unexpected index of the shards")
    _configuration(index[1], "crc32c")
    expect(sharding.get("index_location", "end") == "end", "unexpected index of the shards")
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
    expect(isinstance(codecs, list) and len(codecs) == 2, "expected two codecs")
    if form.data_type == TEXT:
        expect(math.prod(chunk) <= _MOST_TEXTS, f"chunks of {chunk}")
        _configuration(codecs[0], "vlen-utf8")
        serializer = VLenUTF8Codec()
    else:
        size = math.prod(chunk) * np.dtype(form.data_type).itemsize
        # Only the planes of the statistics, whose size the settings limit, may be larger than any other chunk.
        expect(size <= _MOST_CHUNK_BYTES or form.axes[-2:] == PLANE_AXES, f"chunks of {chunk}")
        if form.packed and isinstance(codecs[0], dict) and codecs[0].get("name") == CODEC_NAME:
            expect(not _configuration(codecs[0], CODEC_NAME), "unexpected settings of the codec")
            serializer = MirrorCodec()
        else:
            endian = _configuration(codecs[0], "bytes").get("endian")
            expect(endian in ("little", None), "unexpected byte order")
            serializer = BytesCodec(endian="little")
    zstd = _configuration(codecs[1], "zstd")
    level, checksum = zstd.get("level", 0), zstd.get("checksum", False)
    expect(type(level) is int and -100 <= level <= 22 and type(checksum) is bool, "unexpected settings of zstd")
    return [serializer, BoundedZstdCodec(level=level, checksum=checksum)]


def _parse_shape(values: Any, axes: int, least: int = 1) -> tuple[int, ...]:
    expect(isinstance(values, list) and len(values) == axes, f"shape {_shorten(values)}; expected {axes} axes")
    fits = all(type(one) is int and least <= one <= _MOST_LENGTH for one in values)
    expect(fits, f"shape {_shorten(values)}; expected lengths of {least} to {_MOST_LENGTH}")
    return tuple(values)


def _configuration(entry: Any, name: str) -> dict:
    """Return the configuration of a named part of the metadata."""
    expect(isinstance(entry, dict) and entry.get("name") == name, f"got {_shorten(entry)}; expected {name}")
    configuration = entry.get("configuration") or {}
    known = isinstance(configuration, dict) and entry.keys() <= {"name", "configuration"}
    expect(known, f"unexpected settings of {name}")
    return configuration


def _shorten(value: Any) -> str:
    return str(value)[:60]
