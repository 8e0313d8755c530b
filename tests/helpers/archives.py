"""Sets of pictures as archives: what a folder holds, packed into one zip, tar or Parquet file."""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest


def list_files(folder: Path) -> list[tuple[str, bytes]]:
    """List the files below a folder by relative path, with their bytes."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(file.relative_to(folder).as_posix(), file.read_bytes()) for file in files]


def pack_zip(path: Path, files: Iterable[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as packed:
        for name, data in files:
            packed.writestr(name, data)
    return path


def pack_tar(path: Path, files: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as packed:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return path


def pack_parquet(
    path: Path,
    files: Iterable[tuple[str, bytes]],
    classes: tuple[str, ...] = ("fake", "real"),
    group_rows: int = 5,
    with_names: bool = True,
) -> Path:
    """Write files called CLASS/SOURCE/... or CLASS/... as Hugging Face's `to_parquet` does; skips without pyarrow."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [(name.split("/"), data) for name, data in files]
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pictures = [{"bytes": data, "path": parts[-1] if with_names else None} for parts, data in rows]
    columns = {
        "image": pa.array(pictures, picture),
        "label": pa.array([classes.index(parts[0]) for parts, _ in rows], pa.int64()),
    }
    if any(len(parts) > 2 for parts, _ in rows):
        columns["source"] = pa.array([parts[1] for parts, _ in rows])
    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=group_rows)
    return path
