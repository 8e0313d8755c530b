"""Byte layout of a shard's files.

The file of `features` has the layout of Zarr's sharding codec: consecutive chunks, then their index. This module
replaces Zarr 3.1.6's writer, which awaits coroutines for every chunk (a shard of small planes has thousands) and holds
three copies of the shard in memory. On two cores Zarr's writer needs 17 times as long for planes of 32 px, and 6 to 8
times for 256 to 1024 px (`python benchmarks/shard_writer.py`). The tests read shards back with Zarr. The file of
`profiles` is one chunk.

Format: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BytesCodec, ZstdCodec

from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import PLANES_PER_KIND, plane_slice
from pipeline.store.mirror_codec import MirrorCodec, pack
from pipeline.store.schema import FEATURES, PROFILES

# Higher levels are slower and save nothing. Every reader that decodes a chunk verifies its checksum.
_ZSTD = {"level": 1, "checksum": True}
ABSENT = 2**64 - 1  # offset and length of a missing chunk
_PLACES = {FEATURES: "0/0/0", PROFILES: "0"}  # position of a shard's file along the other axes


def shard_folder(array: str) -> str:
    """Return the folder of the shards of an array."""
    return f"{array}/c"


def shard_file(shard: int, array: str = FEATURES) -> str:
    """Return the file of a shard of an array."""
    return f"{shard_folder(array)}/{shard}/{_PLACES[array]}"


def create_chunk_codecs(packing: str = "none") -> tuple[ArrayBytesCodec, BytesBytesCodec]:
    """Create a chunk's codecs for Zarr's metadata: array to bytes, and the compressor. Profiles are not packed."""
    return MirrorCodec() if packing == "mirror" else BytesCodec(endian="little"), ZstdCodec(**_ZSTD)


def encode_sample(planes: np.ndarray, packing: str) -> list[bytes]:
    """Encode one sample (planes, H, W) with the codecs of `create_chunk_codecs`: one chunk for each kind of plane."""
    planes = planes.astype(planes.dtype.newbyteorder("<"), copy=False)
    kinds = [planes[plane_slice(kind)] for kind in range(len(planes) // PLANES_PER_KIND)]
    encode = Zstd(**_ZSTD).encode
    return [encode(pack(kind) if packing == "mirror" else np.ascontiguousarray(kind)) for kind in kinds]


def encode_shard(chunks: Iterable[bytes], capacity: int) -> Iterator[bytes]:
    """Yield the parts of a shard: each chunk in turn, then the index with its checksum.

    Parameters
    ----------
    chunks : iterable of bytes
        Encoded chunks in order, from the first place of the shard.
    capacity : int
        Chunks of a full shard; places after the last chunk are marked as missing.
    """
    index, offset = np.full((capacity, 2), ABSENT, dtype="<u8"), 0
    for place, chunk in enumerate(chunks):
        index[place] = offset, len(chunk)
        offset += len(chunk)
        yield chunk
    yield index.tobytes() + _checksum(index.tobytes())


def index_length(capacity: int) -> int:
    """Return the length in bytes of the index and its checksum, at the end of a shard's file."""
    return capacity * 16 + 4


def decode_index(tail: bytes, capacity: int) -> np.ndarray | None:
    """Decode a file's last bytes to offset and length of each chunk: uint64 (capacity, 2).

    Returns None for bytes that are not an index, such as the end of a file that was cut off or lengthened.
    """
    if len(tail) != index_length(capacity) or _checksum(tail[:-4]) != tail[-4:]:
        return None
    return np.frombuffer(tail[:-4], dtype="<u8").reshape(capacity, 2)


def encode_profiles(profiles: np.ndarray) -> bytes:
    """Encode the file of a shard's profiles, float32 (rows of a whole shard, 755), with zeros after the last row."""
    return Zstd(**_ZSTD).encode(np.ascontiguousarray(profiles, dtype="<f4"))


def longest_profiles(rows: int) -> int:
    """Return the maximum size in bytes of the file of profiles of a shard with `rows` rows."""
    raw = rows * PROFILE_LENGTH * 4
    return raw + (raw >> 8) + 1024  # zstd's bound for incompressible data


def decode_profiles(data: bytes, rows: int) -> np.ndarray:
    """Invert `encode_profiles`; raises `ValueError` or `RuntimeError` for other bytes."""
    profiles = np.empty((rows, PROFILE_LENGTH), dtype="<f4")
    size = read_decoded_size(memoryview(data))
    if size != profiles.nbytes:  # checked first, because the decoder does not detect a short result
        raise ValueError(f"a chunk of {size} bytes; expected {profiles.nbytes}")
    Zstd().decode(data, profiles)
    if not np.isfinite(profiles).all():
        raise ValueError("values that are not finite numbers")
    return profiles.astype(np.float32, copy=False)


def read_decoded_size(frame: memoryview) -> int:
    """Read the decoded size from a zstd frame's header (RFC 8878, 3.1.1.1).

    Raises
    ------
    ValueError : the bytes are not exactly one frame that declares its size
    """
    if frame[:4] != b"\x28\xb5\x2f\xfd" or len(frame) < 14:
        raise ValueError("not a zstd frame")
    flags, alone = frame[4] >> 6, frame[4] >> 5 & 1
    start = 5 + (not alone) + (0, 1, 2, 4)[frame[4] & 3]  # after the window and the dictionary's number
    length = (alone, 2, 4, 8)[flags]
    if length == 0:
        raise ValueError("a zstd frame without its decoded size")
    end, last = start + length, 0
    while not last and end < len(frame):  # skip the blocks by their headers (3.1.1.2)
        header = int.from_bytes(frame[end : end + 3], "little")
        last, repeated = header & 1, header >> 1 & 3 == 1
        end += 3 + (1 if repeated else header >> 3)
    if end + 4 * (frame[4] >> 2 & 1) != len(frame):  # the checksum, if any
        raise ValueError("not exactly one zstd frame")
    return int.from_bytes(frame[start : start + length], "little") + (256 if length == 2 else 0)


def _checksum(index: bytes) -> bytes:
    return google_crc32c.value(index).to_bytes(4, "little")
