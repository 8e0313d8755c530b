"""Batches of a store's rows: the same whatever the number of threads, and errors that surface."""

import errno
import os
import resource
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import zarr
from helpers.make_store import make_store
from numcodecs.zstd import Zstd

from data_cards.core.errors import StoreError
from pipeline.features.settings import FeatureSettings
from pipeline.features.symmetry import fill_mirror_images
from pipeline.store.reader import open_store
from pipeline.store.shard_format import create_chunk_codecs, encode_sample, encode_shard
from train.data import loader as loader_module
from train.data.loader import BatchLoader, move_batches, read_batches
from train.data.packed_batch import PackedBatch
from train.data.shard_reader import ShardReader, create_file_opener, open_shard_reader

KINDS = FeatureSettings(size=16).kinds


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("batches") / "features.zarr"
    return open_store(make_store(path, size=17, variants=("clean", "jpeg-1"), shard=5))


@pytest.fixture(params=["together", "one by one"])
def chunks(request, monkeypatch):
    """How a row's chunks are read: large ones one by one."""
    if request.param == "one by one":
        monkeypatch.setattr("train.data.row_reader.SMALL_CHUNK", 0)


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
    addresses = {batch.untyped_storage().data_ptr() for batch in read_batches(store, many, threads=2, ahead=2)}
    assert len(addresses) == 3


def test_a_reader_serves_one_epoch_after_another(store):
    plain = zarr.open_array(f"{store.path}/features", mode="r")[:]
    with BatchLoader(store, threads=3) as reader:
        abandoned = reader.read(BATCHES)
        next(abandoned)
        abandoned.close()
        addresses = []
        for batches in (BATCHES, BATCHES[1:3], [np.arange(40)] * 4, BATCHES):  # fewer, and larger ones
            for batch, rows in zip(reader.read(batches), batches, strict=True):
                np.testing.assert_array_equal(batch.numpy(), plain[rows])
                addresses.append(batch.untyped_storage().data_ptr())
    assert set(addresses[-len(BATCHES) :]) <= set(addresses[-len(BATCHES) - 4 : -len(BATCHES)])  # the larger ones' room


def test_a_batch_stands_until_the_next_is_asked_for(store):
    plain = zarr.open_array(f"{store.path}/features", mode="r")[:]
    reading = read_batches(store, BATCHES, threads=4, ahead=3)
    first = next(reading)
    list(store.features[:10])  # time for the threads to run ahead
    np.testing.assert_array_equal(first.numpy(), plain[BATCHES[0]])
    reading.close()


def test_loader_without_rows_gives_no_batches(store):
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


# --- layouts: every way a store may be laid out gives what plain Zarr gives, to the last bit


def write_features(store, path, *, packing="none", size=16, shard=4, rows=11, sharded=True):
    """A store beside `store` whose features are mirrored (magnitude), odd (phase) and neither (DCT)."""
    rng = np.random.default_rng(size)
    samples = rng.integers(0, 256, (rows, 9, size, size), dtype=np.uint8)
    fill_mirror_images(samples[:, :3], odd=False)
    fill_mirror_images(samples[:, 3:6], odd=True)
    if size % 2 == 0:  # an odd plane is zero where k and -k are one frequency
        for row, column in ((0, 0), (0, size // 2), (size // 2, 0)):
            samples[:, 3:6, row, column] = 0
    samples[:, 3:6, size // 2, size // 2] = 0
    serializer, compressor = create_chunk_codecs(packing)
    features = zarr.create_array(
        path / "features",
        shape=samples.shape,
        dtype="uint8",
        chunks=(1, 3, size, size),
        shards=(shard, 9, size, size) if sharded else None,
        serializer=serializer,
        compressors=compressor,
        config={"write_empty_chunks": True},
    )
    features[...] = samples
    return replace(store, path=str(path), features=features), samples


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("packing", ["none", "mirror"])
@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("shard", [1, 4, 64])
def test_all_layouts_are_read_as_plain_zarr_reads_them(store, tmp_path, packing, size, shard):
    built, samples = write_features(store, tmp_path, packing=packing, size=size, shard=shard)
    assert open_shard_reader(built, create_file_opener()) is not None
    rows = [np.array([10, 0, 3]), np.array([7, 7])]
    for batch, wanted in zip(read_batches(built, rows, threads=2), rows, strict=True):
        assert batch.numpy().tobytes() == samples[wanted].tobytes() == built.features[:][wanted].tobytes()


def test_other_layouts_go_through_zarr(store, tmp_path):
    built, samples = write_features(store, tmp_path, sharded=False)
    assert open_shard_reader(built, create_file_opener()) is None
    (batch,) = read_batches(built, [np.array([2, 9])], kinds=["dct", "magnitude"])
    np.testing.assert_array_equal(batch.numpy(), samples[[2, 9]][:, [6, 7, 8, 0, 1, 2]])


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("kinds", [["magnitude"], ["phase", "dct"], ["dct", "magnitude"]])
def test_only_the_kinds_asked_for_are_read(store, tmp_path, kinds):
    built, samples = write_features(store, tmp_path, packing="mirror")
    planes = [plane for kind in kinds for plane in range(3 * KINDS.index(kind), 3 * KINDS.index(kind) + 3)]
    # Chunks of the kinds that are not asked for are made unreadable: nothing may miss them.
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    index = np.frombuffer(shard.read_bytes()[-4 - 16 * 12 : -4], "<u8").reshape(4, 3, 2)
    data = bytearray(shard.read_bytes())
    for unwanted in set(range(3)) - {KINDS.index(kind) for kind in kinds}:
        for offset, length in index[:, unwanted].tolist():
            data[offset : offset + length] = bytes(length)
    shard.write_bytes(data)
    (batch,) = read_batches(built, [np.array([3, 1])], kinds=kinds)
    np.testing.assert_array_equal(batch.numpy(), samples[[3, 1]][:, planes])


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="the system does not list a process's open files there")
@pytest.mark.parametrize("allowed", [0, 16, resource.RLIM_INFINITY])  # which leaves one, two or all of them open
def test_few_files_stay_open_and_none_when_the_reader_is_gone(store, tmp_path, monkeypatch, allowed):
    built, samples = write_features(store, tmp_path, rows=40)
    monkeypatch.setattr("train.data.shard_reader.resource.getrlimit", lambda _: (allowed, allowed))
    before, order = len(os.listdir("/proc/self/fd")), np.random.default_rng(0).permutation(40)
    with BatchLoader(built, threads=3) as reader:
        for batch, start in zip(reader.read(list(order.reshape(10, 4))), range(0, 40, 4), strict=True):
            np.testing.assert_array_equal(batch.numpy(), samples[order[start : start + 4]])
        assert len(os.listdir("/proc/self/fd")) - before == {0: 1, 16: 2}.get(allowed, 10)
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("packing", ["none", "mirror"])
@pytest.mark.parametrize("packed", [False, True])
def test_small_rows_are_decoded_together(store, tmp_path, monkeypatch, packing, packed):
    built, samples = write_features(store, tmp_path, packing=packing, rows=40)
    decode, decoded = ShardReader.decode, []
    monkeypatch.setattr(ShardReader, "decode", lambda *of: decoded.append(len(of[1].sizes)) or decode(*of))
    (batch,) = read_batches(built, [np.arange(39, -1, -1)], packed=packed)
    np.testing.assert_array_equal(batch.to(torch.device("cpu")).numpy(), samples[::-1])
    assert decoded == [3 * 40]


# --- damage


@pytest.mark.parametrize("packing", ["none", "mirror"])
def test_one_wrong_bit_is_noticed_by_the_checksum(store, tmp_path, packing):
    built, _ = write_features(store, tmp_path, packing=packing)
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * 12 : -4]), "<u8").reshape(4, 3, 2)
    data[int(index[2, 0].sum()) - 20] ^= 1  # in the random values of row 2's first chunk, which zstd stores as they are
    shard.write_bytes(data)
    assert len(next(read_batches(built, [np.array([0, 1, 3])]))) == 3
    with pytest.raises(StoreError, match=r"row 2 .* cannot be read \(.*checksum"):
        next(read_batches(built, [np.array([0, 2])]))


def test_a_wrong_index_is_noticed(store, tmp_path):
    built, _ = write_features(store, tmp_path)
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[-20] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="its index is damaged or cut off"):
        next(read_batches(built, [np.array([0])]))


@pytest.mark.parametrize("place", [0, 2, 5])
def test_an_error_is_raised_at_its_own_batch(store, tmp_path, place):
    built, _ = write_features(store, tmp_path)
    (tmp_path / "features/c/2/0/0/0").write_bytes(b"damaged")  # of the rows from 8 on
    batches = [np.array([number]) for number in range(8)]  # one task reads several
    batches[place] = np.array([9])
    reading, read = read_batches(built, batches, threads=2), []
    with pytest.raises(StoreError, match="row 9"):
        read.extend(map(len, reading))
    assert len(read) == place
    skipped = set()
    assert len(list(read_batches(built, batches, threads=2, skipped=skipped))) == len(batches)
    assert skipped == {9}


@pytest.mark.parametrize("skipped", [None, set()])  # it is no bad sample, which might be skipped
def test_a_shard_that_changes_under_the_reader_is_noticed(store, tmp_path, skipped):
    built, _ = write_features(store, tmp_path)
    reading = read_batches(built, [np.array([0]), np.array([1])], ahead=0, skipped=skipped)
    next(reading)
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(StoreError, match="c/0/0/0/0: was changed while it was being read"):
        next(reading)


@pytest.mark.parametrize("skipped", [None, set()])
@pytest.mark.parametrize("shard", [0, 1])
@pytest.mark.parametrize("change", ["replaced", "gone"])
def test_a_shard_that_is_replaced_under_the_reader_is_noticed_at_the_end(store, tmp_path, skipped, shard, change):
    built, _ = write_features(store, tmp_path)
    reading = read_batches(built, [np.array([0]), np.array([4]), np.array([1])], ahead=0, skipped=skipped)
    next(reading), next(reading)
    file = tmp_path / f"features/c/{shard}/0/0/0"
    if change == "replaced":
        (tmp_path / "new").write_bytes(file.read_bytes())
        (tmp_path / "new").replace(file)
    else:
        file.unlink()
    with pytest.raises(StoreError, match=f"c/{shard}/0/0/0: was changed while it was being read"):
        list(reading)


@pytest.mark.parametrize("shard", [4, 5, 48])
def test_loader_of_missing_files_raises(tmp_path, shard):
    path = make_store(tmp_path / "features.zarr", size=16, shard=shard)
    store = open_store(path)
    assert len(next(read_batches(store, [np.array([0])]))) == 1
    (path / "features" / "c" / "0" / "0" / "0" / "0").unlink()
    shards = -(-48 // shard)
    with pytest.raises(StoreError, match=f"damaged: 1 of {shards} files of its features are missing"):
        next(read_batches(store, [np.array([0])]))


def test_rows_of_a_missing_file_may_be_skipped(tmp_path):
    path = make_store(tmp_path / "features.zarr", size=16, shard=4)
    (path / "features" / "c" / "1" / "0" / "0" / "0").unlink()
    skipped = set()
    for _ in read_batches(open_store(path), [np.array([3, 4]), np.array([7, 8])], skipped=skipped):
        pass
    assert skipped == {4, 7}


@pytest.mark.parametrize("skipped", [None, set()])  # no row is at fault, so none may be skipped
@pytest.mark.parametrize("error", [errno.EACCES, errno.EMFILE])
def test_error_of_the_system_is_not_damage(tmp_path, monkeypatch, skipped, error):
    store = open_store(make_store(tmp_path / "features.zarr", size=16, shard=4))

    def refuse(path, *_):
        raise OSError(error, os.strerror(error), path)

    monkeypatch.setattr("train.data.shard_reader.os.open", refuse)
    with pytest.raises(
        StoreError, match=rf"row 5 .* cannot be read .*{os.strerror(error)}.*; fix the cause and resume"
    ):
        next(read_batches(store, [np.array([5])], skipped=skipped))


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


# --- packed batches: half the bytes to the device, the same levels there


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("kinds", [KINDS, ("dct", "phase")])
def test_packed_batches_hold_half_and_give_the_same_levels(store, tmp_path, size, kinds):
    built, _ = write_features(store, tmp_path, packing="mirror", size=size, rows=14)
    rows = [np.array([10, 0, 3]), np.array([7, 7]), np.array([5])]
    plain = [batch.clone() for batch in read_batches(built, rows, kinds=kinds)]
    for batch, wanted in zip(read_batches(built, rows, threads=2, packed=True, kinds=kinds), plain, strict=True):
        assert isinstance(batch, PackedBatch)
        held = batch.data.nbytes
        assert held < (0.72 if len(kinds) == 3 else 0.8) * wanted.nbytes  # two of three, one of two kinds are halves
        levels = batch.to(torch.device("cpu"))
        assert levels.dtype == wanted.dtype
        assert levels.numpy().tobytes() == wanted.numpy().tobytes()


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("packed", [False, True])
def test_packed_chunks_that_are_not_as_the_others(store, tmp_path, packed):
    built, samples = write_features(store, tmp_path, packing="mirror", rows=14)
    samples[9, :3, 2, 3] += 1  # no mirror image any more
    samples[10, 3:6] = 0  # both even and odd
    samples[11, 6:] = 7  # mirrored, which other DCT planes are not
    samples[12, 3:6] = samples[12, 6:]
    fill_mirror_images(samples[12, 3:6], odd=False)  # even, among odd ones
    built.features[...] = samples
    rows = [np.arange(8), np.array([9, 10, 11, 8]), np.array([0, 12, 2, 3]), np.array([11])]
    reading = read_batches(built, rows, packed=packed, threads=1, ahead=0)  # one buffer, used again
    for batch, wanted in zip(reading, rows, strict=True):
        assert batch.to(torch.device("cpu")).numpy().tobytes() == samples[wanted].tobytes()


@pytest.mark.usefixtures("chunks")
def test_a_packed_chunk_of_another_kind_than_its_size_is_damage(store, tmp_path):
    built, samples = write_features(store, tmp_path, packing="mirror")
    chunks = [encode_sample(sample, "mirror") for sample in samples[:4]]
    chunks[2][0] = Zstd().encode(b"\x00" + Zstd().decode(chunks[2][0])[1:])
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    shard.write_bytes(b"".join(encode_shard([chunk for row in chunks for chunk in row], 12)))
    for packed in (False, True):
        skipped = set()
        (batch,) = read_batches(built, [np.array([1, 2])], packed=packed, skipped=skipped)
        assert skipped == {2}
        levels = batch.to(torch.device("cpu"))
        assert levels[0].numpy().tobytes() == samples[1].tobytes()
        with pytest.raises(StoreError, match="packed chunk of kind 0 and another kind's size: damaged"):
            next(read_batches(built, [np.array([1, 2])], packed=packed))


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("packing", ["none", "mirror"])
def test_a_chunk_that_is_not_one_frame_alone_is_never_taken_for_another(store, tmp_path, packing):
    built, samples = write_features(store, tmp_path, packing=packing)
    chunks = [encode_sample(sample, packing) for sample in samples[:4]]
    skippable = b"\x50\x2a\x4d\x18" + len(chunks[2][1]).to_bytes(4, "little")
    for wrong in ([chunks[2][0], b"", chunks[2][2]], [chunks[2][0] + skippable, *chunks[2][1:]]):
        rows = [chunks[0], chunks[1], wrong, chunks[3]]
        (tmp_path / "features/c/0/0/0/0").write_bytes(b"".join(encode_shard([one for row in rows for one in row], 12)))
        for packed in (False, True):
            skipped = set()
            reading = read_batches(built, [np.array([1, 3]), np.array([2, 1])], packed=packed, skipped=skipped, ahead=0)
            *_, last = (batch.to(torch.device("cpu")) for batch in reading)
            assert skipped == {2}
            assert last[1].numpy().tobytes() == samples[1].tobytes()


def test_a_reader_that_is_closed_first_ends_its_reading(store):
    reader = BatchLoader(store, threads=1, ahead=20)
    reading = reader.read([np.arange(40)] * 20)
    next(reading)
    reader.close()
    reading.close()


def test_a_store_that_is_not_packed_is_read_as_it_is(store):
    (batch,) = read_batches(store, [np.array([5, 9])], packed=True)
    np.testing.assert_array_equal(batch.numpy(), store.features[:][[5, 9]])


@pytest.mark.usefixtures("chunks")
def test_damage_to_a_packed_chunk_is_skipped(store, tmp_path):
    built, samples = write_features(store, tmp_path, packing="mirror")
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * 12 : -4]), "<u8").reshape(4, 3, 2)
    data[int(index[2, 0].sum()) - 20] ^= 1
    shard.write_bytes(data)
    skipped = set()
    first, _ = read_batches(built, [np.array([2, 1]), np.array([3])], packed=True, skipped=skipped, ahead=5)
    assert skipped == {2}
    assert first.to(torch.device("cpu"))[1].numpy().tobytes() == samples[1].tobytes()


# --- rows held in memory: the same batches and errors as of streamed ones


def read_all(loader, batches, skipped=None):
    return [batch.to(torch.device("cpu")).numpy().copy() for batch in loader.read(batches, skipped)]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("packing", ["none", "mirror"])
def test_held_rows_give_the_batches_of_streamed_ones_without_the_store(store, tmp_path, packing, packed):
    built, samples = write_features(store, tmp_path, packing=packing, rows=70)
    samples[9, :3, 2, 3] += 1  # not mirrored, unlike other rows
    built.features[...] = samples
    rows = [np.array([69, 3, 9]), np.array([0]), np.array([40, 9, 5, 3]), np.array([3, 69])]
    with BatchLoader(built, threads=3, packed=packed, kinds=("magnitude", "dct")) as loader:
        held = np.setdiff1d(np.arange(70), [40])
        assert loader.hold(held, most=1e9) > 0
        for got, wanted in zip(read_all(loader, rows), rows, strict=True):
            np.testing.assert_array_equal(got, samples[wanted][:, [0, 1, 2, 6, 7, 8]])
        # Damage to the files no longer matters, except to the rows that are not held.
        for file in (tmp_path / "features" / "c").rglob("0"):
            if file.is_file():
                file.write_bytes(bytes(file.stat().st_size))
        got = next(loader.read([rows[0][:2]])).to(torch.device("cpu"))
        np.testing.assert_array_equal(got.numpy(), samples[[69, 3]][:, [0, 1, 2, 6, 7, 8]])
        with pytest.raises(StoreError):
            read_all(loader, [np.array([3, 40])])


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("block_bytes", [1, 10**9])
def test_only_a_first_small_batch_is_read_by_the_caller(store, monkeypatch, block_bytes, is_held):
    monkeypatch.setattr(loader_module, "_BLOCK_BYTES", block_bytes)
    with BatchLoader(store, threads=2) as loader:
        if is_held:
            assert loader.hold(np.arange(90), most=1e9) > 0
        source = loader._held or loader._row_reader
        readers, read = [], source.read
        monkeypatch.setattr(source, "read", lambda *of: readers.append(threading.current_thread()) or read(*of))
        read_all(loader, [np.arange(30), np.arange(30, 60), np.arange(60, 90)])
    assert readers.count(threading.main_thread()) == (block_bytes > 1)


def test_rows_are_held_only_if_all_fit(store):
    with BatchLoader(store, threads=2) as loader:
        rows, of_row = np.arange(90), 9 * 17 * 17
        assert loader.hold(rows, most=90 * of_row - 1) == 0
        assert loader.hold(rows[:0], most=1e9) == 0
        assert loader.hold(rows, most=90 * of_row) == 90 * of_row


def test_damaged_rows_are_not_held_and_are_reported_when_requested(store, tmp_path):
    built, samples = write_features(store, tmp_path)
    shard = tmp_path / "features" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * 12 : -4]), "<u8").reshape(4, 3, 2)
    data[int(index[2, 0].sum()) - 20] ^= 1
    shard.write_bytes(data)
    with BatchLoader(built, threads=2) as loader:
        assert loader.hold(np.arange(11), most=1e9)
        np.testing.assert_array_equal(read_all(loader, [np.array([1, 3])])[0], samples[[1, 3]])
        with pytest.raises(StoreError, match="row 2 "):
            read_all(loader, [np.array([1, 3]), np.array([2, 3])])
        skipped = set()
        np.testing.assert_array_equal(read_all(loader, [np.array([2, 1])], skipped)[0][1], samples[1])
        assert skipped == {2}


def test_holding_ends_when_it_is_asked_to_and_the_rest_is_streamed(store):
    plain = zarr.open_array(f"{store.path}/features", mode="r")[:]
    with BatchLoader(store, threads=1) as loader:
        asked = iter([False, True])
        assert loader.hold(np.arange(96), 1e9, lambda: next(asked))
        np.testing.assert_array_equal(read_all(loader, [np.arange(96)])[0], plain)
