"""Stores of strangers: nothing is read, written or deleted through a link, and only names of ours are cleaned up."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.folders import read_files
from helpers.make_store import SMALL_BUILD, make_store
from helpers.pictures import draw_noise

from data_cards.core.errors import UnsafeFileError, UserError
from pipeline.builder.build import build_store
from pipeline.maintenance.inspect import inspect_place
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store
from pipeline.store.writer import remove_build_files
from train.data.loader import read_batches

LEFT = "0.0123456789abcdef0123456789abcdef.partial"  # of a writer that was killed
# Entries of a store that are, one by one, replaced by a link to what they were, moved out of the store.
LINKS = ["zarr.json", "features", "features/c", "features/c/0", "features/c/0/0/0/0", "label", "label/c/0", "card/c"]


@pytest.fixture
def outside(tmp_path):
    """A folder of somebody's own, with names like those that a build makes and removes."""
    folder = tmp_path / "outside"
    for name in ("1/0/0/0", "99/0/0/0", "notes.txt", f"deep/{LEFT}", LEFT, "zarr.json", "done/00000000.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def link_out(store: Path, name: str) -> None:
    """Move an entry of a store out of it, and put a link to it in its place."""
    away = store.with_name("away") / name
    away.parent.mkdir(parents=True)
    (store / name).rename(away)
    (store / name).symlink_to(away)


def grow(store: Path, kaggle_dir: Path) -> object:
    (more := kaggle_dir.parent / "more/train/fake/gan").mkdir(parents=True, exist_ok=True)
    draw_noise(500).save(more / "0.png")
    sources = [str(kaggle_dir), str(kaggle_dir.parent / "more")]
    return build_store(sources, store, SMALL_BUILD, workers=0)


def test_build_that_grows_a_store_with_a_linked_folder_of_shards_deletes_nothing(store, kaggle_dir, outside):
    before = read_files(outside)
    shutil.rmtree(store / "features/c")
    (store / "features/c").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match=r"features/c: a link that leads out of .*a\.zarr"):
        grow(store, kaggle_dir)
    assert read_files(outside) == before


@pytest.mark.parametrize("where", ["extra", "build", "features/c/7", "label/d"])
def test_build_and_repair_leave_linked_folders_alone(store, kaggle_dir, outside, where):
    before = read_files(outside)
    (store / where).symlink_to(outside)
    os.remove(store / "label/c/0")
    for act in (lambda: grow(store, kaggle_dir), lambda: verify_store(str(store))):
        with pytest.raises(UnsafeFileError, match=f"{where}: a link that leads out"):
            act()
    assert read_files(outside) == before


@pytest.mark.parametrize("name", LINKS)
def test_link_out_of_a_store_is_named_and_nothing_is_read_through_it(tmp_path, name):
    path = make_store(tmp_path / "a.zarr")
    link_out(path, name)

    def read():
        store = open_store(path)
        assert store.card
        list(read_batches(store, [np.arange(2)]))

    for act in (read, lambda: verify_store(str(path)), lambda: inspect_place(str(path))):
        with pytest.raises(UnsafeFileError, match=f"{name}.*: a link that leads out of"):
            act()


def test_repair_begun_before_a_link_came_stops(store, outside):
    os.remove(store / "label/c/0")
    found = verify_store(str(store))
    before = read_files(outside)
    (store / "extra").symlink_to(outside)
    with pytest.raises(UnsafeFileError, match="extra: a link"):
        repair_store(found)
    assert read_files(outside) == before


@pytest.mark.parametrize("name", ["zarr.json", "features/zarr.json", "label/c/0", "features/c/0/0/0/0"])
@pytest.mark.timeout(30)
def test_pipe_in_a_store_is_named_and_nobody_waits_for_it(tmp_path, name):
    path = make_store(tmp_path / "a.zarr")
    os.remove(path / name)
    os.mkfifo(path / name)

    def read():
        list(read_batches(open_store(path), [np.arange(2)]))

    for act in (read, lambda: verify_store(str(path))):
        with pytest.raises(UserError, match=f"{name}: not a file or folder"):
            act()


def test_link_inside_a_store_is_read(tmp_path):
    path = make_store(tmp_path / "a.zarr")
    (path / "label/c/0").rename(path / "elsewhere")
    (path / "label/c/0").symlink_to("../../elsewhere")
    assert set(open_store(path).columns["label"].tolist()) == {0, 1}


def test_store_that_is_itself_a_link_is_welcome(store, kaggle_dir, tmp_path):
    link = tmp_path / "link.zarr"
    store.rename(tmp_path / "moved.zarr")
    link.symlink_to(tmp_path / "moved.zarr")
    assert grow(link, kaggle_dir).plan.growth.added == 1
    assert verify_store(str(link)).sound


def test_clean_up_removes_only_names_that_a_build_makes(tmp_path):
    path = make_store(tmp_path / "a.zarr")
    shards = len(os.listdir(path / "features/c"))
    keep = ["features/c/notes", "features/c/007/0", f"features/c/٩٩/0/{shards}", "label/c/0.partial", "label/mine.txt"]
    made = [f"features/c/{shards}/0/0/0", "build/done/00000000.json", f"label/c/{LEFT}"]
    for name in (*keep, *made):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("")
    remove_build_files(Storage(path), shards)
    assert [name for name in keep if not (path / name).exists()] == []
    assert [name for name in made if (path / name).exists()] == []


def test_partial_name_that_is_a_folder_of_pictures_is_not_taken_for_a_build(kaggle_dir, tmp_path, outside):
    before = read_files(outside)
    (tmp_path / "new.zarr.partial").symlink_to(outside)
    with pytest.raises(UserError, match=r"new\.zarr\.partial: "):
        build_store([str(kaggle_dir)], tmp_path / "new.zarr", SMALL_BUILD, workers=0)
    assert read_files(outside) == before


def test_record_of_a_shard_is_written_through_no_link(tmp_path, outside):
    before = read_files(outside)
    path = make_store(tmp_path / "a.zarr")
    (path / "build").symlink_to(outside)
    for write in (Storage.remove, Storage.create_folder, lambda storage, name: storage.write(name, b"")):
        with pytest.raises(UnsafeFileError):
            write(Storage(path), "build/done/00000000.json")
    assert read_files(outside) == before
    assert json.loads((path / "zarr.json").read_text())["node_type"] == "group"
