"""`build_store` on unusual names, files and places."""

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from helpers.folders import assert_same_files, read_files
from helpers.pictures import draw_noise

from data_cards.archives.place import read_file
from data_cards.core.errors import PictureError, UsageError, UserError
from data_cards.core.files import MAX_BYTES
from data_cards.dataset.scan import scan_sources
from pipeline.builder.build import build_store
from pipeline.execution.cluster import LEAST_MEMORY
from pipeline.execution.tasks import choose_workers
from pipeline.features.settings import MAX_PIXELS, FeatureSettings
from pipeline.maintenance.verify import verify_store
from pipeline.store.settings import BuildSettings

SETTINGS = BuildSettings(FeatureSettings(size=32), variants="clean")


@pytest.fixture
def pictures(kaggle_dir, tmp_path):
    return Path(shutil.copytree(kaggle_dir, tmp_path / "pictures"))


@pytest.fixture
def a_picture(pictures):
    return next(pictures.rglob("*.jpg"))


def build(src, out, settings=SETTINGS, **options):
    return build_store([str(src)], out, settings, workers=0, **options)


@pytest.mark.parametrize("cache", [True, False])
def test_a_file_whose_name_is_no_text_is_set_aside(pictures, a_picture, tmp_path, cache):
    strange = os.path.join(os.fsencode(a_picture.parent), b"caf\xe9.jpg")
    try:
        shutil.copy(os.fsencode(a_picture), strange)
    except OSError:
        pytest.skip("this file system takes no such name")
    plan = build(pictures, tmp_path / "a.zarr", cache=cache).plan
    assert [(Path(one.path).name, one.reason) for one in plan.set_aside] == [
        (r"caf\xe9.jpg", "its name is not UTF-8; rename it")
    ]
    assert verify_store(str(tmp_path / "a.zarr")).sound


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"caf\\xe9: its name is not UTF-8; rename the folder"):
        scan_sources([str(tmp_path / os.fsdecode(b"caf\xe9"))], max_pixels=MAX_PIXELS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_regular_file_is_set_aside(pictures, a_picture):
    os.mkfifo(a_picture.with_name("pipe.jpg"))
    os.symlink("/dev/zero", a_picture.with_name("device.jpg"))
    found = scan_sources([str(pictures)], max_pixels=MAX_PIXELS).set_aside
    assert {(Path(one.path).name, one.reason) for one in found} == {
        ("pipe.jpg", "not a regular file"),
        ("device.jpg", "not a regular file"),
    }


def test_a_file_too_large_to_be_a_picture_is_not_read(tmp_path):
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(PictureError, match="too large: 1,073,741,825 bytes, at most 1,073,741,824"):
        read_file(tmp_path / "large.jpg")


@pytest.mark.parametrize("name", ["features.zarr", "store"])
def test_a_store_among_the_pictures_is_none_of_them(pictures, name):
    out = pictures / name
    before = build(pictures, out)
    files = read_files(out)
    os.rename(out / "zarr.json", out / "elsewhere")  # as it is of a build that has just begun
    out.rename(f"{out}.partial")
    assert len(scan_sources([str(pictures)], max_pixels=MAX_PIXELS).pictures) == len(before.plan.pictures)
    Path(f"{out}.partial").rename(out)
    os.rename(out / "elsewhere", out / "zarr.json")
    assert build(pictures, out).made == 0
    assert_same_files(out, files)


@pytest.mark.parametrize("name", ["", ".", "..", "deep/..", "x::y.zarr", "dangling", os.fsdecode(b"caf\xe9.zarr")])
def test_a_place_for_no_store_is_refused_before_any_work(pictures, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("deep").mkdir()
    Path("dangling").symlink_to("nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"a folder that can be created|not UTF-8, or holds '::'|a broken link"):
        build(pictures, name)
    assert sorted(tmp_path.iterdir()) == before


def test_home_and_file_addresses_are_folders(pictures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    build(pictures, "~/a.zarr")
    build(pictures, f"file://{tmp_path}/b.zarr")
    for store in ("home/a.zarr", "b.zarr"):
        assert verify_store(str(tmp_path / store)).sound


def test_store_that_is_only_read_is_current_where_nothing_is_to_be_done(pictures, a_picture, tmp_path, monkeypatch):
    out = tmp_path / "a.zarr"
    build(pictures, out)
    before = read_files(out)
    # The system's part: root may write everywhere.
    monkeypatch.setattr("pipeline.builder.resume.os.access", lambda path, mode: False)
    assert build(pictures, out).made == 0
    with pytest.raises(UserError, match="no permission to write there; choose another --out"):
        build(pictures, tmp_path / "b.zarr")
    draw_noise(77).save(a_picture.with_name("more.png"))
    with pytest.raises(UserError, match="no permission to write there; choose another --out"):
        build(pictures, out)
    assert_same_files(out, before)


def test_other_settings_are_refused_before_the_pictures_are_read(pictures, tmp_path):
    build(pictures, tmp_path / "a.zarr")
    with pytest.raises(UserError, match="max_pixels is 120000000, 100 was asked for"):
        build(pictures, tmp_path / "a.zarr", BuildSettings(SETTINGS.features, variants="clean", max_pixels=100))


def test_as_many_workers_as_memory_goes_round_for():
    assert choose_workers(None, None, None, cores=16) == 16
    assert choose_workers(None, None, 3 * LEAST_MEMORY + 1, cores=16) == 3
    assert choose_workers(None, None, 100 * LEAST_MEMORY, cores=16) == 16


def test_another_order_of_the_file_system_gives_the_same_bytes(pictures, a_picture, tmp_path, monkeypatch):
    for name in ("one.jpg", "other.jpg"):  # set aside, in an order too
        a_picture.with_name(name).write_text("no picture")
    scandir, seen = os.scandir, []

    def list_in_order(backwards):
        def scan_in_order(*arguments):
            with scandir(*arguments) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=backwards)
            seen.extend(found)
            return nullcontext(iter(found))

        # The system's part, not ours: it lists a folder in whatever order it likes.
        monkeypatch.setattr(os, "scandir", scan_in_order)

    list_in_order(backwards=False)
    build(pictures, tmp_path / "a.zarr", cache=False)
    list_in_order(backwards=True)
    build(pictures, tmp_path / "b.zarr", cache=False)
    assert seen
    assert_same_files(tmp_path / "b.zarr", tmp_path / "a.zarr")


@pytest.mark.parametrize("address", ["foo", "tcp://host", "http://host/8786"])
def test_scheduler_without_a_port_is_refused_at_once(address):
    with pytest.raises(UsageError, match=rf"--scheduler {address} \(in Python: scheduler\): expected an address"):
        choose_workers(None, address, None)
    assert choose_workers(None, "host:8786", None) == choose_workers(None, "tcp://[::1]:8786", None)
