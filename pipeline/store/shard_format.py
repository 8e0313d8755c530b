"""A shard's bytes as Zarr's sharding codec lays them out: chunks one after the other, then their index.

Made here because Zarr 3.1.6's own writer awaits coroutines for every chunk, of which a shard of small planes has
thousands, and holds the shard three times in memory: it takes 7.5 times as long for planes of 32 px, 1.9 times for
256 px, 1.3 times for 1024 px (`python benchmarks/shard_writer.py`). Zarr reads them back in the tests, and
anybody's Zarr may.

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BytesCodec, ZstdCodec

from pipeline.features.settings import PLANES_PER_KIND
from pipeline.store.mirror_codec import MirrorCodec, pack

# Higher levels take longer and save nothing. The checksum is verified by every reader that decodes a chunk.
_ZSTD = {"level": 1, "checksum": True}
ABSENT = 2**64 - 1  # offset and length of a chunk that is not there


SHARDS = "features/c"  # the folder that holds them


def shard_folder(shard: int) -> str:
    """The folder of a shard of `features`."""
    return f"{SHARDS}/{shard}"


def shard_file(shard: int) -> str:
    """The file of a shard of `features`."""
    return f"{shard_folder(shard)}/0/0/0"


def create_chunk_codecs(packing: str) -> tuple[ArrayBytesCodec, BytesBytesCodec]:
    """The codecs of a chunk, for Zarr's metadata: to bytes, and the compressor."""
    return MirrorCodec() if packing == "mirror" else BytesCodec(endian="little"), ZstdCodec(**_ZSTD)


def encode_sample(planes: np.ndarray, packing: str) -> list[bytes]:
    """The chunks of one sample (planes, H, W), one a kind of plane, as those codecs encode them."""
    planes = planes.astype(planes.dtype.newbyteorder("<"), copy=False)
    kinds = np.split(planes, len(planes) // PLANES_PER_KIND)
    encode = Zstd(**_ZSTD).encode
    return [encode(pack(kind) if packing == "mirror" else np.ascontiguousarray(kind)) for kind in kinds]


def encode_shard(chunks: Iterable[bytes], capacity: int) -> Iterator[bytes]:
    """The parts of a shard, as its chunks come: those, then the index with its checksum.

    Parameters
    ----------
    chunks : encoded, from the shard's first on, in the order of their place
    capacity : chunks of a whole shard; those behind the last are marked as not there
    """
    index, offset = np.full((capacity, 2), ABSENT, dtype="<u8"), 0
    for place, chunk in enumerate(chunks):
        index[place] = offset, len(chunk)
        offset += len(chunk)
        yield chunk
    yield index.tobytes() + _checksum(index.tobytes())


def index_length(capacity: int) -> int:
    """Bytes at the end of a shard's file that its index takes, with the checksum."""
    return capacity * 16 + 4


def decode_index(tail: bytes, capacity: int) -> np.ndarray | None:
    """Offset and length of each chunk, uint64 (capacity, 2), from a file's last bytes; None where they are no index.

    Of a file that is cut off or lengthened they are none.
    """
    if len(tail) != index_length(capacity) or _checksum(tail[:-4]) != tail[-4:]:
        return None
    return np.frombuffer(tail[:-4], dtype="<u8").reshape(capacity, 2)


def _checksum(index: bytes) -> bytes:
    return google_crc32c.value(index).to_bytes(4, "little")
