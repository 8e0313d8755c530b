"""Store writer: arrays, shards one at a time, columns, and the clean-up of a finished build.

A shard consists of one file of the same rows for each array in shards (`pipeline.store.schema.list_shard_arrays`).

A store is built under its partial name and renamed when it is complete. Object storage cannot rename, so there the
store has its own name from the start, with `complete` false. A shard is done when its record exists; the record is
written last. Two writers never share a file, because a shard belongs to one task, which writes all of it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.core.bounded_json import parse_json
from data_cards.core.errors import UnsafeFileError
from data_cards.core.files import ZARR_METADATA, is_temporary
from pipeline.features.profile_vectors import PROFILE_LENGTH, PROFILE_VECTORS
from pipeline.features.settings import PLANES_PER_KIND
from pipeline.store.arrays import TEXT, StoredArrays, name_dimensions, read_values
from pipeline.store.checksum import CHECKSUM_BYTES, Checksum
from pipeline.store.filesystem import Storage
from pipeline.store.schema import (
    CHECKSUMS,
    FEATURES,
    FORMAT_VERSION,
    MEAN,
    PROFILES,
    SAMPLE_COLUMNS,
    STATISTICS,
    STD,
)
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import (
    create_chunk_codecs,
    decode_index,
    index_length,
    read_decoded_size,
    shard_file,
    shard_folder,
)

RECORD_FOLDER = "build"  # folder inside a store until it is complete
_DONE = f"{RECORD_FOLDER}/done"
_COLUMN_CHUNK = 65_536
_MOST_PROFILES = 2**26  # maximum bytes of a shard's profiles
_RECORD_BYTES = 2**12  # maximum bytes of a shard's record
_SHARDS_AT_ONCE = 64  # shards whose indexes are read together
_ALL_CHUNKS = {"write_empty_chunks": True}
_COORDINATES = {"coordinates": "label split source variant"}  # columns that xarray shows beside each sample


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: the key of its content and the joined checksums of its files, both hexadecimal."""

    shard: int
    key: str
    checksum: str


def create_arrays(
    storage: Storage,
    rows: int,
    shard_rows: int,
    settings: BuildSettings,
    arrays: Sequence[str] = (FEATURES, PROFILES),
    format_version: int = FORMAT_VERSION,
) -> None:
    """Create the arrays in shards (`arrays`) of a new or grown store for `rows` rows; keep existing shards.

    The arrays' metadata is rewritten, in case it was damaged.
    """
    group = storage.open_group("a")
    for array in arrays:
        storage.remove(f"{array}/{ZARR_METADATA}")
    if FEATURES in arrays:
        _create_features(group, rows, shard_rows, settings, format_version)
    if PROFILES in arrays:
        _create_profiles(group, rows, shard_rows, format_version)


def _create_features(
    group: zarr.Group, rows: int, shard_rows: int, settings: BuildSettings, format_version: int
) -> None:
    planes, size = settings.features.planes, settings.features.side
    serializer, compressor = create_chunk_codecs(settings.packing)
    group.create_array(
        FEATURES,
        shape=(rows, planes, size, size),
        dtype="uint8",
        chunks=(1, PLANES_PER_KIND, size, size),
        shards=(shard_rows, planes, size, size),
        filters=None,
        serializer=serializer,
        compressors=compressor,
        fill_value=0,
        dimension_names=name_dimensions(FEATURES, format_version),
        attributes={} if format_version < 4 else {"description": "levels of the planes of each sample", **_COORDINATES},
        config=_ALL_CHUNKS,
    )


def _create_profiles(group: zarr.Group, rows: int, shard_rows: int, format_version: int) -> None:
    serializer, compressor = create_chunk_codecs()
    group.create_array(
        PROFILES,
        shape=(rows, PROFILE_LENGTH),
        dtype="float32",
        chunks=(shard_rows, PROFILE_LENGTH),
        filters=None,
        serializer=serializer,
        compressors=compressor,
        fill_value=0,
        dimension_names=name_dimensions(PROFILES, format_version),
        attributes={
            "description": "the vectors of each profile, one after the other",
            "vectors": PROFILE_VECTORS,
            **({} if format_version < 4 else _COORDINATES),
        },
        config=_ALL_CHUNKS,
    )


def write_shard(storage: Storage, shard: int, key: str, parts: Mapping[str, Iterable[bytes]]) -> ShardRecord:
    """Stream a shard's files, given as parts by array, and return its record. Removes a previous record first.

    The files are written one after the other. Locally only one part is in memory at a time, because allocating a whole
    shard is slow.
    """
    storage.remove(_record_name(shard))
    checksums = []
    for array, own in parts.items():
        file, whole = shard_file(shard, array), Checksum()
        storage.create_folder(file.rpartition("/")[0])
        storage.write_stream(file, _update_checksum(own, whole))
        checksums.append(whole.hexdigest())
    return ShardRecord(shard, key, "".join(checksums))


def commit_shard(storage: Storage, record: ShardRecord, arrays: Sequence[str]) -> None:
    """Write a shard's record once its files are on the disk, so that a power cut cannot leave a wrong record."""
    for array in arrays:
        storage.flush(shard_file(record.shard, array))
    write_shard_record(storage, record)


def checksum_shard(storage: Storage, shard: int, arrays: Sequence[str]) -> str:
    """Compute the joined checksums of a shard's files; raises `OSError`."""
    return "".join(checksum_file(storage, shard_file(shard, array)) for array in arrays)


def _update_checksum(parts: Iterable[bytes], whole: Checksum) -> Iterator[bytes]:
    for part in parts:
        whole.update(part)
        yield part


def write_shard_record(storage: Storage, record: ShardRecord) -> None:
    """Record that a shard is done."""
    storage.write(_record_name(record.shard), json.dumps(asdict(record), sort_keys=True).encode())


def read_shard_records(storage: Storage) -> dict[int, ShardRecord]:
    """Read the records of all finished shards, by shard; skip records that were removed or damaged meanwhile."""
    records = {}
    for name in storage.list_files(_DONE):
        if name.endswith(".json"):
            with suppress(FileNotFoundError, ValueError, TypeError):
                record = ShardRecord(**parse_json(storage.read(name), _RECORD_BYTES))
                bytes.fromhex(record.checksum)
                records[int(record.shard)] = record
    return records


def remove_damaged_records(storage: Storage, records: dict[int, ShardRecord], arrays: Sequence[str]) -> list[int]:
    """Remove the records of shards that lack a file or have another checksum; return the numbers of those shards."""
    damaged = []
    for shard, record in records.items():
        try:
            sound = checksum_shard(storage, shard, arrays) == record.checksum
        except FileNotFoundError:
            sound = False
        if not sound:
            storage.remove(_record_name(shard))
            damaged.append(shard)
    return damaged


def checksum_file(storage: Storage, name: str) -> str:
    """Compute the checksum of a shard's file, read in parts; raises `OSError`."""
    whole = Checksum()
    for block in storage.read_blocks(name):
        whole.update(block)
    return whole.hexdigest()


def create_record_folder(storage: Storage) -> None:
    """Create the folder of the records, and the store's own if missing."""
    storage.create_folder()
    storage.create_folder(_DONE)


def write_columns(storage: Storage, rows: int, blocks: Iterable[dict[str, np.ndarray]]) -> None:
    """Write the per-sample columns in blocks of rows, so that memory does not grow with the number of rows."""
    group = storage.open_group("r+")
    arrays = {
        name: _create_column(group, name, (rows,), kind, meaning) for name, (kind, meaning) in SAMPLE_COLUMNS.items()
    }
    start = 0
    for block in blocks:
        stop = start + len(next(iter(block.values())))
        for name, values in block.items():
            arrays[name][start:stop] = values
        start = stop


def write_coordinates(storage: Storage, coordinates: Mapping[str, Sequence[str]]) -> None:
    """Write coordinate arrays (`pipeline.store.schema.list_coordinates`)."""
    group = storage.open_group("r+")
    for name, values in coordinates.items():
        array = _create_column(group, name, (len(values),), TEXT, f"name of each {name}", chunk=len(values))
        array[:] = np.array(values, dtype=object)


def write_checksums(storage: Storage, checksums: list[str], format_version: int = FORMAT_VERSION) -> None:
    """Write the checksums of all shards as an array, uint8 (shards, 32 for each file)."""
    group = storage.open_group("r+")
    shape = (len(checksums), len(checksums[0]) // 2)
    files = "file" if shape[1] == CHECKSUM_BYTES else "files"
    array = _create_column(
        group, CHECKSUMS, shape, "uint8", f"of every shard's {files}: sha256 over CRC-32Cs", format_version
    )
    array[:] = np.frombuffer(bytes.fromhex("".join(checksums)), dtype=np.uint8).reshape(shape)


def read_checksums(storage: Storage) -> list[str]:
    """Read the checksums of all shards; returns an empty list if the array is damaged."""
    try:
        return [row.tobytes().hex() for row in read_values(StoredArrays(storage, {}), CHECKSUMS)]
    except UnsafeFileError:
        raise
    except Exception:  # decoders raise many types
        return []


def list_shards(storage: Storage, chunks: int, arrays: Sequence[str]) -> set[int]:
    """Return the numbers of the shards whose files exist and are whole: not cut off and not empty.

    A whole file of features ends with a valid index of `chunks` chunks; a whole file of profiles is one zstd frame.
    """
    return set.intersection(*(_list_whole(storage, chunks, array) for array in arrays))


def _list_whole(storage: Storage, chunks: int, array: str) -> set[int]:
    folder = shard_folder(array)
    files = {name: name.removeprefix(f"{folder}/").partition("/")[0] for name in storage.list_files(folder)}
    there = [
        int(shard) for name, shard in files.items() if _is_shard_number(shard) and name == shard_file(int(shard), array)
    ]
    if array == PROFILES:
        return {shard for shard in there if _is_frame(storage, shard_file(shard, PROFILES))}
    whole = set()
    for first in range(0, len(there), _SHARDS_AT_ONCE):
        few = there[first : first + _SHARDS_AT_ONCE]
        tails = storage.read_ends([shard_file(shard) for shard in few], index_length(chunks))
        whole |= {shard for shard, tail in zip(few, tails, strict=True) if decode_index(tail, chunks) is not None}
    return whole


def _is_frame(storage: Storage, name: str) -> bool:
    try:
        read_decoded_size(memoryview(storage.read(name, _MOST_PROFILES)))
    except (OSError, ValueError):  # removed meanwhile, or not whole
        return False
    return True


def write_statistics(storage: Storage, mean: np.ndarray, std: np.ndarray, format_version: int = FORMAT_VERSION) -> None:
    """Write mean and standard deviation: float32 (planes, H, W), in levels."""
    group = storage.open_group("r+")
    group.create_group(STATISTICS, overwrite=True)
    for name, values in ((MEAN, mean), (STD, std)):
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="float32",
            chunks=values.shape,
            compressors=ZstdCodec(level=1, checksum=True),
            dimension_names=name_dimensions(name, format_version),
            overwrite=True,
            config=_ALL_CHUNKS,
        )
        array[...] = values


def write_attributes(storage: Storage, attributes: dict) -> None:
    """Replace all attributes of the store's group, created if missing, in one write.

    A build that was killed between two writes would be mistaken for one with other settings.
    """
    if storage.exists(ZARR_METADATA):
        storage.open_group("r+").attrs.put(attributes)
    else:
        zarr.create_group(storage.zarr_store(read_only=False), attributes=attributes)


def remove_build_files(storage: Storage, shards: int) -> None:
    """Remove records, shards after the last, and partial files of a finished build."""
    for array in (FEATURES, PROFILES):
        for shard in storage.list_entries(shard_folder(array)):
            if _is_shard_number(shard) and int(shard) >= shards:
                storage.remove(f"{shard_folder(array)}/{shard}")
    remove_partial_files(storage)
    storage.remove(RECORD_FOLDER)


def remove_partial_files(storage: Storage) -> None:
    """Remove partial files of a killed writer; object storage has none."""
    if not storage.is_local:
        return
    for name in list(storage.list_files()):
        if is_temporary(name.rpartition("/")[2]):
            storage.remove(name)


def _is_shard_number(name: str) -> bool:
    """Return whether a name in the shards' folder is the canonical number of a shard."""
    return name.isdecimal() and name == str(int(name))


def _record_name(shard: int) -> str:
    return f"{_DONE}/{shard:08}.json"


def _create_column(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    kind: str,
    meaning: str,
    format_version: int = FORMAT_VERSION,
    chunk: int = _COLUMN_CHUNK,
) -> zarr.Array:
    return group.create_array(
        name,
        shape=shape,
        dtype=kind,
        chunks=(chunk, *shape[1:]),
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=name_dimensions(name, format_version),
        attributes={"description": meaning},
        overwrite=True,
        config=_ALL_CHUNKS,
    )
