"""`build_store` after kills and damage at awkward places: the bytes of a build that had none."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.folders import assert_same_files, read_files
from helpers.make_store import SMALL_BUILD
from helpers.pictures import make_kaggle_dir
from zarr.storage import LocalStore

from data_cards.core.errors import StoreError, UsageError, UserError
from pipeline.builder import metadata as tables
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.execution.tasks import run_tasks
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import commit_shard, create_record_folder, read_shard_records, write_attributes, write_shard

pytestmark = pytest.mark.usefixtures("small_shards")


def flip_a_bit(path: Path, shard: int) -> None:
    file = path / shard_file(shard)
    data = bytearray(file.read_bytes())
    data[40] ^= 1
    file.write_bytes(data)


def kill_in_card(monkeypatch, group):
    """Half of the card is there, as after a kill."""
    monkeypatch.undo()
    group.create_array("card", shape=(9,), dtype="uint8", overwrite=True)[:] = np.frombuffer(b'{"half": ', np.uint8)
    raise KeyboardInterrupt


@pytest.mark.parametrize("grown", [False, True])
def test_build_killed_in_its_card_ends_in_the_same_bytes(build, kaggle_dir, tmp_path, monkeypatch, grown):
    sources = [kaggle_dir, make_kaggle_dir(tmp_path / "more", first_seed=50)] if grown else [kaggle_dir]
    for out in ("a.zarr", "b.zarr"):
        if grown:
            build(out=out)
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 6)
    wanted = read_files(Path(build(*sources, out="b.zarr").path))
    monkeypatch.setattr(tables, "write_card", lambda group, *_: kill_in_card(monkeypatch, group))
    with pytest.raises(KeyboardInterrupt):
        build(*sources)
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 6)
    assert_same_files(Path(build(*sources).path), wanted)


def test_attributes_are_written_at_once(tmp_path, monkeypatch):
    written, put = [], LocalStore.set

    async def watch(self, key, value):
        written.append(json.loads(value.to_bytes())["attributes"])
        await put(self, key, value)

    monkeypatch.setattr(LocalStore, "set", watch)
    storage = Storage(tmp_path / "a.zarr.partial")
    write_attributes(storage, {"one": 1, "two": 2})
    write_attributes(storage, {"three": 3, "four": 4})
    assert written == [{"one": 1, "two": 2}, {"three": 3, "four": 4}]


def test_a_damaged_shard_is_made_again_when_the_store_grows(build, kaggle_dir, tmp_path):
    path = Path(build().path)
    flip_a_bit(path, 0)
    (path / shard_file(1)).unlink()
    more = make_kaggle_dir(tmp_path / "more", first_seed=50)
    with pytest.raises(UserError, match=r"1 of .* shards are damaged .*: 0.*Run the same build again"):
        build(kaggle_dir, more)
    build(kaggle_dir, more)
    assert verify_store(str(path)).sound


def test_lost_checksums_are_not_taken_for_zeros(build, kaggle_dir, tmp_path):
    path = Path(build().path)
    shutil.rmtree(path / "checksums" / "c")
    more = make_kaggle_dir(tmp_path / "more", first_seed=50)
    with pytest.raises(StoreError, match=r"checksums are damaged.*verify .* --repair"):
        build(kaggle_dir, more)
    assert repair_store(verify_store(str(path))) == []
    build(kaggle_dir, more)
    assert zarr.open_array(path / "checksums", mode="r")[:].any(axis=1).all()
    assert verify_store(str(path)).sound


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("features/zarr.json", b"{", b"", id="features that are none"),
        pytest.param("features/zarr.json", b'"fill_value": 0', b'"fill_value": 8', id="features that are others"),
        pytest.param("statistics/zarr.json", b"{", b"", id="a group that is none"),
        pytest.param("statistics/zarr.json", b"attributes", b"attributer", id="a group that is another"),
        pytest.param("zarr.json", b'"roots"', b'"rootr"', id="another attribute"),
        pytest.param("zarr.json", b'"real"', b'"ream"', id="another class"),
    ],
)
def test_a_build_mends_metadata(build, name, old, new):
    path = Path(build().path)
    before = read_files(path)
    assert old in before[name]
    (path / name).write_bytes(before[name].replace(old, new, 1))
    build()
    assert_same_files(path, before)


def read_all(path):
    store = open_store(path)
    return store.mean, store.card


@pytest.mark.parametrize("name", ["label/c/0", "split/c/0", "statistics/mean/c/0/0/0", "card/c/0"])
def test_a_part_that_is_missing_is_not_read_as_zeros(build, name):
    path = Path(build().path)
    before = read_files(path)
    (path / name).unlink()
    with pytest.raises(StoreError, match=rf"{name.split('/c/')[0]}: a part is missing"):
        read_all(path)
    build()
    assert_same_files(path, before)


@pytest.mark.parametrize(("left", "grown"), [(0, False), (100, True), (-1, False)])
def test_build_replaces_truncated_shards(build, kaggle_dir, tmp_path, left, grown):
    path = Path(build().path)
    for shard in (0, 5):
        file = path / shard_file(shard)
        file.write_bytes(file.read_bytes()[:left])
    assert build(*[kaggle_dir, make_kaggle_dir(tmp_path / "more", first_seed=50)][: 1 + grown]).made >= 2
    assert verify_store(str(path)).sound


def test_build_and_verify_ignore_files_of_a_file_manager(build):
    path = Path(build().path)
    for folder in ("", "features", "features/c", "label"):
        (path / folder / ".DS_Store").write_bytes(b"icons")
    (path / "features/c/backup/0/0").mkdir(parents=True)
    (path / "features/c/backup/0/0/0").write_bytes(b"of someone")
    assert verify_store(str(path)).sound
    (path / shard_file(0)).unlink()
    assert build().made == 1
    assert verify_store(str(path)).sound


def test_a_shards_old_record_goes_before_its_file(tmp_path):
    storage = Storage(tmp_path / "a.zarr")
    create_record_folder(storage)
    commit_shard(storage, write_shard(storage, 3, "old", {"features": [b"old"]}), ["features"])
    assert set(read_shard_records(storage)) == {3}
    write_shard(storage, 3, "new", {"features": [b"new"]})
    assert read_shard_records(storage) == {}


def test_the_disk_has_a_shard_before_its_record(tmp_path, monkeypatch):
    storage, seen, fsync = Storage(tmp_path / "a.zarr"), [], os.fsync
    create_record_folder(storage)

    def look(file):
        fsync(file)
        seen.append((os.fstat(file).st_size, read_shard_records(storage)))

    monkeypatch.setattr(os, "fsync", look)
    commit_shard(storage, write_shard(storage, 3, "key", {"features": [b"some", b"bytes"]}), ["features"])
    assert seen == [(9, {})]
    assert set(read_shard_records(storage)) == {3}


@pytest.mark.parametrize("left", [b"", bytes(100), b'{"shard": 1'])
def test_truncated_record_after_a_power_cut_counts_as_missing(kaggle_dir, build, left):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.builder.build.write_metadata", stop)
        with pytest.raises(KeyboardInterrupt):
            build()
    record = sorted(kaggle_dir.parent.glob("a.zarr.partial/build/done/*.json"))[1]
    record.write_bytes(left)
    assert build().made == 1


def test_build_replaces_a_shard_that_a_late_worker_overwrote(kaggle_dir, tmp_path, monkeypatch):
    partial = Storage(tmp_path / "a.zarr.partial")

    def run_beside_another(*arguments, **options):
        yield from run_tasks(*arguments, **options)
        commit_shard(partial, write_shard(partial, 0, "of other pictures", {"features": [b"old"]}), ["features"])

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.builder.build.run_tasks", run_beside_another)
        with pytest.raises(UserError, match=r"a\.zarr: shard 0 was overwritten"):
            build_store([str(kaggle_dir)], tmp_path / "a.zarr", SMALL_BUILD, workers=0)
    assert build_store([str(kaggle_dir)], tmp_path / "a.zarr", SMALL_BUILD, workers=0).made == 1
    assert verify_store(str(tmp_path / "a.zarr")).sound


def test_too_little_memory_for_a_worker_is_refused(kaggle_dir, tmp_path):
    with pytest.raises(UsageError, match=r"--max-memory 900\.0 MB \(in Python: max_memory\): a worker needs 600\.0 MB"):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", SMALL_BUILD, workers=2, max_memory=900_000_000)


def test_file_written_in_parts_is_whole_or_absent(tmp_path):
    storage = Storage(tmp_path)
    parts = [bytes([number]) * size for number, size in enumerate((5, 2**20, 0, 3 * 2**20, 7))]
    storage.write_stream("whole", iter(parts))
    assert (tmp_path / "whole").read_bytes() == b"".join(parts)
    assert os.stat(tmp_path / "whole").st_blocks * 512 < 5 * 2**20  # what was reserved ahead is given back

    def break_off():
        yield bytes(2**21)
        raise UserError("a picture is damaged")

    with pytest.raises(UserError, match="a picture is damaged"):
        storage.write_stream("half", break_off())
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_build_removes_partial_files_of_a_kill_first(kaggle_dir, build):
    store = kaggle_dir.parent / "a.zarr.partial"

    def stop(_):
        assert not list(store.rglob("*.partial"))
        raise KeyboardInterrupt

    (store / "features/c/0/0/0").mkdir(parents=True)
    left = store / "features/c/0/0/0/0.0123456789abcdef0123456789abcdef.partial"
    left.write_bytes(b"half")
    with pytest.raises(KeyboardInterrupt):
        build(shard_function=stop)
    assert not left.exists()
