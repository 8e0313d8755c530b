"""Shards put together here are what Zarr reads, whole or ragged, and what tensorstore reads without packing."""

import google_crc32c
import numpy as np
import pytest
import tensorstore
import zarr

from pipeline.features.settings import FeatureSettings
from pipeline.store.checksum import Checksum, compute_checksum
from pipeline.store.filesystem import Storage
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_sample, encode_shard
from pipeline.store.writer import create_arrays, create_record_folder, write_shard

ROWS, SHARD = 7, 3


def write_store(path, packing: str, size: int) -> np.ndarray:
    """Write random samples in shards of three, the last one ragged; returns them."""
    storage = Storage(path)
    create_record_folder(storage)
    settings = BuildSettings(FeatureSettings(size=size), packing=packing)
    create_arrays(storage, ROWS, SHARD, settings)
    samples = np.random.default_rng(0).integers(0, 256, (ROWS, 9, size, size), dtype=np.uint8)
    for shard, start in enumerate(range(0, ROWS, SHARD)):
        chunks = [chunk for planes in samples[start : start + SHARD] for chunk in encode_sample(planes, packing)]
        write_shard(storage, shard, "key", {"features": encode_shard(chunks, SHARD * 3)})
    return samples


@pytest.mark.parametrize("packing", ["mirror", "none"])
@pytest.mark.parametrize("size", [8, 9])
def test_plain_zarr_reads_them(tmp_path, packing, size):
    samples = write_store(tmp_path / "a.zarr", packing, size)
    read = zarr.open_array(tmp_path / "a.zarr/features", mode="r")
    assert read.dtype == np.uint8
    assert (read[:] == samples).all()
    assert (read[6, 3:6] == samples[6, 3:6]).all()


def test_zarr_writes_the_same_chunks(tmp_path):
    samples = write_store(tmp_path / "a.zarr", "mirror", 8)
    create_arrays(Storage(tmp_path / "b.zarr"), ROWS, SHARD, BuildSettings(FeatureSettings(size=8)))
    zarr.open_array(tmp_path / "b.zarr/features", mode="r+")[:] = samples
    ours, zarrs = ((tmp_path / name / "features/c/0/0/0/0").read_bytes() for name in ("a.zarr", "b.zarr"))
    assert len(ours) == len(zarrs)
    assert sorted(split_shard(ours, SHARD * 3)) == sorted(split_shard(zarrs, SHARD * 3))


def split_shard(data: bytes, chunks: int) -> list[bytes]:
    index = data[-16 * chunks - 4 : -4]
    assert google_crc32c.value(index) == int.from_bytes(data[-4:], "little")
    return [data[offset : offset + length] for offset, length in np.frombuffer(index, "<u8").reshape(-1, 2).tolist()]


def test_tensorstore_reads_what_is_not_packed(tmp_path):
    samples = write_store(tmp_path / "a.zarr", "none", 8)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(tmp_path / "a.zarr/features")}}
    assert (tensorstore.open(spec, open=True).result().read().result() == samples).all()


def test_a_checksum_does_not_depend_on_the_parts_and_sees_every_bit():
    data = bytearray(np.random.default_rng(0).bytes(2**21 + 77))
    whole, in_parts = compute_checksum(bytes(data)), Checksum()
    for part in (data[:5], b"", data[5 : 2**20 + 3], data[2**20 + 3 :]):
        in_parts.update(bytes(part))
    assert in_parts.hexdigest() == whole
    for bit in (0, 8 * 2**20, 8 * len(data) - 1):
        data[bit // 8] ^= 1 << bit % 8
        assert compute_checksum(bytes(data)) != whole
        data[bit // 8] ^= 1 << bit % 8
    assert compute_checksum(b"") != compute_checksum(b"\0")
