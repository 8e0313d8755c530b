"""The pictures of a store, in the order of its rows: where each came from and what it is.

Gzipped JSON lines. A complete store holds them as its array `provenance`, a build under way as a
file. From them a store grows, and damaged shards are made again.
"""

import gzip
import io
import json
from collections.abc import Iterable

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.dataset.table import Picture, PictureTable

MANIFEST_ARRAY = "provenance"
PLANNED_MANIFEST = "build/pictures.jsonl.gz"  # of the build under way; without it none was begun
_CHUNK = 16 * 2**20


def encode_manifest(pictures: Iterable[Picture]) -> bytes:
    """The pictures as gzipped JSON lines; the same pictures give the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as lines:
        for picture in pictures:
            lines.write(json.dumps(picture.to_dict(), ensure_ascii=False).encode() + b"\n")
    return packed.getvalue()


def decode_manifest(data: bytes) -> PictureTable:
    """The inverse of `encode_manifest`."""
    with gzip.open(io.BytesIO(data)) as lines:
        return PictureTable(Picture.from_dict(json.loads(line)) for line in lines)


def write_manifest(group: zarr.Group, data: bytes) -> None:
    """Write `encode_manifest`'s bytes as an array of the store."""
    array = group.create_array(
        MANIFEST_ARRAY,
        shape=(len(data),),
        dtype="uint8",
        chunks=(_CHUNK,),
        # For its checksum, and because Zarr fills up the last chunk.
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=("byte",),
        attributes={"description": "the pictures, in the order of their rows, as gzipped JSON lines"},
        overwrite=True,
    )
    for start in range(0, len(data), _CHUNK):  # all at once, Zarr would hold them all twice
        array[start : start + _CHUNK] = np.frombuffer(data[start : start + _CHUNK], dtype=np.uint8)


def read_manifest(group: zarr.Group) -> PictureTable:
    """The pictures of a complete store."""
    return decode_manifest(group[MANIFEST_ARRAY][:].tobytes())
