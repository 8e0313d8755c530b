"""Writing a store: its arrays, one shard at a time, and the finish.

A store is made under its partial name and takes its own name when it is complete. A shard is
done when its record is there; the record is written last, to a temporary name, then renamed.
No two writers meet, because a shard belongs to one task, which always writes it whole.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.errors import UserError
from pipeline.store import COLUMNS, KINDS, PLANES

RECORDS = "build"  # folder inside the partial store; gone when the store is complete
_ALL_CHUNKS = {"write_empty_chunks": True}


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard: its rows, its file's size and sha256."""

    shard: int
    start: int
    stop: int
    bytes: int
    sha256: str


def create_arrays(folder: Path, rows: int, shard_rows: int, size: int) -> None:
    """Lay out an empty store: group and features array. Does nothing to chunks already there."""
    group = zarr.create_group(folder, overwrite=False)
    group.create_array(
        "features",
        shape=(rows, len(PLANES), size, size),
        dtype="uint8",
        chunks=(1, len(PLANES) // len(KINDS), size, size),
        shards=(shard_rows, len(PLANES), size, size),
        filters=None,
        compressors=ZstdCodec(level=1),
        fill_value=0,
        dimension_names=("sample", "plane", "row", "column"),
        config=_ALL_CHUNKS,
    )


def write_shard(folder: Path, shard: int, start: int, samples: np.ndarray) -> ShardRecord:
    """Write rows `start` onwards, uint8 (rows, 9, H, W), as one whole shard, then its record."""
    path = shard_path(folder, shard)
    _clear_shard(path)
    features = zarr.open_array(folder / "features", mode="r+", config=_ALL_CHUNKS)
    features[start : start + len(samples)] = samples
    data = path.read_bytes()
    record = ShardRecord(shard, start, start + len(samples), len(data), hashlib.sha256(data).hexdigest())
    write_json(record_path(folder, shard), asdict(record))
    return record


def read_record(folder: Path, shard: int) -> ShardRecord | None:
    """The record of a finished shard; None while it is not finished."""
    try:
        return ShardRecord(**json.loads(record_path(folder, shard).read_text()))
    except FileNotFoundError:
        return None


def write_columns(folder: Path, columns: dict[str, np.ndarray], records: list[ShardRecord]) -> None:
    """Write the per-sample columns and, per shard, the checksums."""
    group = zarr.open_group(folder, mode="r+")
    for name, (kind, meaning) in COLUMNS.items():
        _write_array(group, name, columns[name], kind, ("sample",), {"description": meaning})
    checksums = np.array([list(bytes.fromhex(record.sha256)) for record in records], dtype=np.uint8)
    _write_array(
        group, "checksums", checksums, "uint8", ("shard", "byte"), {"description": "sha256 of every shard's file"}
    )


def write_statistics(folder: Path, mean: np.ndarray, std: np.ndarray) -> None:
    """Write mean and standard deviation, float32 (9, H, W), in levels."""
    group = zarr.open_group(folder, mode="r+").require_group("statistics")
    for name, values in (("mean", mean), ("std", std)):
        _write_array(group, name, values, "float32", ("plane", "row", "column"), {})


def finish(folder: Path, path: Path, attributes: dict) -> None:
    """Set the attributes, `complete` among them, and give the store its own name."""
    group = zarr.open_group(folder, mode="r+")
    group.attrs.update({**attributes, "complete": True})
    shutil.rmtree(folder / RECORDS)
    for leftover in folder.rglob("*.partial"):  # of writes that a kill cut off
        leftover.unlink()
    os.rename(folder, path)


def shard_path(folder: Path, shard: int) -> Path:
    """The file of a shard of `features`."""
    return folder / "features" / "c" / str(shard) / "0" / "0" / "0"


def record_path(folder: Path, shard: int) -> Path:
    """The record of a shard."""
    return folder / RECORDS / "done" / f"{shard:08}.json"


def write_json(path: Path, value: dict) -> None:
    """Write JSON so that the file is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(json.dumps(value, indent=1, sort_keys=True))
    os.replace(temporary, path)


def check_writable(path: Path) -> None:
    """Refuse a place where no store can be written; raises `UserError`."""
    parent = path.parent
    if parent.exists() and not parent.is_dir():
        raise UserError(f"{parent}: is a file; --out needs a folder to write into")
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{parent}: cannot be made ({error.strerror}); choose another --out") from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{parent}: no permission to write there; choose another --out")


def _clear_shard(path: Path) -> None:
    # Zarr reads a ragged last shard before it writes it, so a torn one must go first.
    if path.parent.exists():
        for leftover in path.parent.iterdir():
            leftover.unlink()


def _write_array(
    group: zarr.Group, name: str, values: np.ndarray, kind: str, dimensions: tuple[str, ...], attributes: dict
) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=kind,
        chunks=values.shape,
        compressors=ZstdCodec(level=3),
        dimension_names=dimensions,
        attributes=attributes,
        overwrite=True,
        config=_ALL_CHUNKS,
    )
    array[...] = values
