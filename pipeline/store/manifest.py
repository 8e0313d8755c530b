"""Manifest of a store's pictures, in the order of its rows: file and facts of each, as gzipped JSON lines.

A complete store holds it as the array `provenance`, a running build as a file. Growing a store and rebuilding damaged
shards read it.
"""

import gzip
import io
import json
from collections.abc import Iterable

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.dataset.table import Picture, PictureTable
from pipeline.store.schema import PROVENANCE

PLANNED_MANIFEST = "build/pictures.jsonl.gz"  # file of a running build; without it none was begun
_CHUNK = 16 * 2**20


def encode_manifest(pictures: Iterable[Picture]) -> bytes:
    """Encode pictures as gzipped JSON lines; the same pictures give the same bytes."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as lines:
        for picture in pictures:
            lines.write(json.dumps(picture.to_dict(), ensure_ascii=False).encode() + b"\n")
    return packed.getvalue()


def decode_manifest(data: bytes) -> PictureTable:
    """Invert `encode_manifest`."""
    with gzip.open(io.BytesIO(data)) as lines:
        return PictureTable(Picture.from_dict(json.loads(line)) for line in lines)


def write_manifest(group: zarr.Group, data: bytes) -> None:
    """Write the bytes of `encode_manifest` as an array of the store."""
    array = group.create_array(
        PROVENANCE,
        shape=(len(data),),
        dtype="uint8",
        chunks=(_CHUNK,),
        # For its checksum, and because Zarr pads the last chunk.
        compressors=ZstdCodec(level=1, checksum=True),
        dimension_names=("byte",),
        attributes={"description": "the pictures, in the order of their rows, as gzipped JSON lines"},
        overwrite=True,
    )
    for start in range(0, len(data), _CHUNK):  # in one piece, Zarr would need twice the memory
        array[start : start + _CHUNK] = np.frombuffer(data[start : start + _CHUNK], dtype=np.uint8)


def read_manifest(group: zarr.Group) -> PictureTable:
    """Read the pictures of a complete store."""
    return decode_manifest(group[PROVENANCE][:].tobytes())
