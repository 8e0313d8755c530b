"""Manifest of a store's pictures, in the order of the rows: file and facts of each, as gzipped JSON lines.

A complete store holds the manifest as the array `provenance`, a running build as a file. Builds that add pictures and
repairs of shards read it.
"""

import gzip
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import IO

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.core.bounded_json import parse_json
from data_cards.core.labels import CLASS_NAMES, SPLITS
from data_cards.dataset.table import HASH_BYTES, Picture, PictureTable
from data_cards.image.low_frequency import FREQUENCIES, THUMBNAIL
from pipeline.store.arrays import StoredArrays, name_dimensions, read_values
from pipeline.store.attributes import expect
from pipeline.store.schema import FORMAT_VERSION, PROVENANCE

PLANNED_MANIFEST = "build/pictures.jsonl.gz"  # file of a running build, written before any shard
_CHUNK = 16 * 2**20
_LONGEST_LINE = 2**18  # bytes of a picture's facts; 1000 are usual
_RATIO = 64  # largest ratio of unpacked to packed bytes; 3 is usual


def encode_manifest(pictures: Iterable[Picture]) -> bytes:
    """Encode pictures, without `PictureFacts.unused`, as gzipped JSON lines; equal pictures give equal bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as lines:
        for picture in pictures:
            values = picture.to_dict()
            values["facts"].pop("unused", None)  # only a scan reports it, and earlier stores do not have it
            lines.write(json.dumps(values, ensure_ascii=False).encode() + b"\n")
    return packed.getvalue()


def decode_manifest(data: bytes) -> PictureTable:
    """Decode the bytes of `encode_manifest`.

    Raises
    ------
    ValueError and other errors : other bytes, or they unpack to too many
    """
    with gzip.open(io.BytesIO(data)) as lines:
        return PictureTable(_read_picture(line) for line in _read_lines(lines, _most_unpacked(data)))


def _read_picture(line: bytes) -> Picture:
    """Read a line; raises `ValueError` and other errors for values that a picture of a store cannot have."""
    picture = Picture.from_dict(parse_json(line))
    file, facts = picture.file, picture.facts
    for one in (file, facts):
        for field in fields(one):
            expect(type(getattr(one, field.name)) is field.type, f"{field.name} is not {field.type.__name__}")
    known = file.label in CLASS_NAMES and file.split in SPLITS
    expect(known, f"class {file.label[:20]} or split {file.split[:20]} is unknown")
    expect(len(facts.sha256) == len(facts.phash) == HASH_BYTES, f"a hash without {HASH_BYTES} bytes")
    expect(len(facts.thumbnail) in (0, THUMBNAIL**2 * 3), "a thumbnail of a wrong size")
    expect(len(facts.profile) in (0, 2 * FREQUENCIES), "a profile of a wrong length")
    expect(bool(np.isfinite(np.frombuffer(facts.profile, "<f2")).all()), "a profile with numbers that are not finite")
    expect(min(facts.width, facts.height) >= 1 and facts.bytes >= 0, "an impossible size of a picture")
    expect(type(picture.group) is int and picture.group >= 0, "an impossible number of a group")
    return picture


def _most_unpacked(data: bytes) -> int:
    return _RATIO * len(data) + _LONGEST_LINE


def _read_lines(lines: IO[bytes], most: int) -> Iterator[bytes]:
    """Yield the lines of a file; raises `ValueError` after `most` bytes, or for a line that is too long."""
    while line := lines.readline(_LONGEST_LINE + 1):
        most -= len(line)
        if len(line) > _LONGEST_LINE or most < 0:
            raise ValueError("unpacks to more bytes than a list of pictures can have")
        yield line


def write_manifest(group: zarr.Group, data: bytes, format_version: int = FORMAT_VERSION) -> None:
    """Write the bytes of `encode_manifest` as an array of the store."""
    array = group.create_array(
        PROVENANCE,
        shape=(len(data),),
        dtype="uint8",
        chunks=(_CHUNK,),
        # Compressed for the checksum, and because Zarr pads the last chunk.
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=name_dimensions(PROVENANCE, format_version),
        attributes={"description": "the pictures, in the order of their rows, as gzipped JSON lines"},
        overwrite=True,
    )
    for start in range(0, len(data), _CHUNK):  # Zarr needs twice the memory to write all at once
        array[start : start + _CHUNK] = np.frombuffer(data[start : start + _CHUNK], dtype=np.uint8)


def read_manifest(arrays: StoredArrays) -> PictureTable:
    """Read the pictures of a complete store."""
    return decode_manifest(read_values(arrays, PROVENANCE).tobytes())
