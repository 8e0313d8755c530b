"""Batches of a store's rows: the same whatever the number of threads, and errors that surface."""

import threading

import numpy as np
import pytest
import torch
import zarr
from make_store import make_store

from data_cards.errors import StoreError
from pipeline.store import open_store
from train.batches import move_batches, read_batches


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("batches") / "features.zarr"
    return open_store(make_store(path, size=17, variants=("clean", "jpeg-1"), shard=5))


BATCHES = [np.array(rows) for rows in ([3, 90, 4], [0, 1], [95], [7, 7, 7], [50, 2])]


@pytest.mark.parametrize("threads", [1, 3, 8])
@pytest.mark.parametrize("ahead", [0, 1, 2, 20])
def test_batches_are_the_rows_of_plain_zarr(store, threads, ahead):
    plain = zarr.open_array(f"{store.path}/features", mode="r")[:]
    got = [batch.clone() for batch in read_batches(store, BATCHES, threads=threads, ahead=ahead)]
    assert [batch.shape[0] for batch in got] == [len(rows) for rows in BATCHES]
    for batch, rows in zip(got, BATCHES, strict=True):
        assert batch.dtype == torch.uint8
        np.testing.assert_array_equal(batch.numpy(), plain[rows])


def test_buffers_are_reused(store):
    many = [np.array([row, row + 1]) for row in range(40)]
    addresses = {batch.data_ptr() for batch in read_batches(store, many, threads=2, ahead=2)}
    assert len(addresses) == 3


def test_a_batch_stands_until_the_next_is_asked_for(store):
    plain = zarr.open_array(f"{store.path}/features", mode="r")[:]
    reading = read_batches(store, BATCHES, threads=4, ahead=3)
    first = next(reading)
    list(store.features[:10])  # time for the threads to run ahead
    np.testing.assert_array_equal(first.numpy(), plain[BATCHES[0]])
    reading.close()


def test_float16_keeps_its_fractions(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr", size=16, dtype="float16"))
    (batch,) = read_batches(store, [np.array([5, 9])])
    assert batch.dtype == torch.float16
    assert (batch % 1 != 0).any()
    np.testing.assert_array_equal(batch.numpy(), store.features[:][[5, 9]])


def test_no_batches(store):
    assert list(read_batches(store, [])) == []


def test_moving_to_the_cpu_changes_nothing(store):
    reading = read_batches(store, BATCHES, threads=2)
    sums = [int(batch.sum()) for batch in move_batches(reading, torch.device("cpu"))]
    assert sums == [int(store.features[:][rows].sum()) for rows in BATCHES]


def test_threads_end_when_the_reader_is_closed(store):
    reading = read_batches(store, BATCHES, threads=3, ahead=1)
    next(reading)
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]


@pytest.mark.parametrize("shard", [4, 5, 48])
def test_missing_files_are_noticed(tmp_path, shard):
    path = make_store(tmp_path / "features.zarr", size=16, shard=shard)
    store = open_store(path)
    assert len(next(read_batches(store, [np.array([0])]))) == 1
    (path / "features" / "c" / "0" / "0" / "0" / "0").unlink()
    shards = -(-48 // shard)
    with pytest.raises(StoreError, match=f"damaged: 1 of {shards} files of its features are missing"):
        next(read_batches(store, [np.array([0])]))


def test_damage_names_the_row_and_the_picture(tmp_path):
    path = make_store(tmp_path / "features.zarr", size=16, shard=4)
    shard = path / "features" / "c" / "1" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)  # the index at the end stays
    shard.write_bytes(data)
    store = open_store(path)
    reading = read_batches(store, [np.array([0, 1]), np.array([4, 2])], threads=2)
    assert len(next(reading)) == 2
    with pytest.raises(StoreError, match=r"features\.zarr: row 4 \(train/real/source-0/004\.jpg\) cannot be read"):
        next(reading)
