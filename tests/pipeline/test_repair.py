"""`repair_store`: the bytes of the sound store, or a line for each obstacle and the rest repaired."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import zarr
from click.testing import CliRunner
from helpers.damage import flip_bit, shard_file
from helpers.folders import assert_same_files, read_files
from helpers.make_store import SMALL_BUILD
from helpers.pictures import draw_noise, make_kaggle_dir

from data_cards.core.errors import UserError
from pipeline.builder.build import build_store
from pipeline.cli.main import main
from pipeline.features.settings import FeatureSettings
from pipeline.maintenance.repair import Cause, Problem, repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.lock import writer_lock
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import write_attributes


def test_repair_names_and_leaves_what_cannot_be_restored(store, kaggle_dir):
    flip_bit(shard_file(store, 0), 4000)
    damaged = shard_file(store, 0).read_bytes()
    shutil.move(kaggle_dir, kaggle_dir.with_name("elsewhere"))
    result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    assert result.exit_code == 3
    assert "shard 0: " in result.output
    assert "gone or have changed" in result.output
    assert shard_file(store, 0).read_bytes() == damaged
    assert not (store / "build").exists()


def test_pictures_that_moved_repair_a_store_after_the_build_that_the_error_names(store, kaggle_dir):
    file = store / "profiles/c/0/0"
    before = file.read_bytes()
    flip_bit(file, 4000)
    moved = kaggle_dir.rename(kaggle_dir.with_name("elsewhere"))
    refused = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    command = f"pipeline build --src FOLDER --out {store}"
    assert f"first run `{command}` with their new folder, then repair again" in refused.stderr
    built = CliRunner().invoke(main, [*command.replace("FOLDER", str(moved)).split()[1:], "--workers", "0"])
    assert built.exit_code == 0, built.output
    assert CliRunner().invoke(main, ["verify", str(store), "--repair"]).exit_code == 0
    assert file.read_bytes() == before


def test_statistics_wait_for_the_shards(store, kaggle_dir):
    before = read_files(store)
    flip_bit(store / "statistics/mean/c/0/0/0", 999)
    flip_bit(shard_file(store, 0), 4000)
    shutil.move(kaggle_dir, kaggle_dir.with_name("elsewhere"))
    shard, statistics = repair_store(verify_store(str(store)))
    assert (shard.part, shard.cause) == ("shard 0", Cause.LOST_PICTURES)
    assert statistics == Problem("statistics/mean", Cause.DAMAGED_SHARDS)
    shutil.move(kaggle_dir.with_name("elsewhere"), kaggle_dir)
    assert repair_store(verify_store(str(store))) == []
    assert_same_files(store, before)


def test_repair_with_damaged_checksums_names_the_unknown_shard(store):
    flip_bit(store / "checksums/c/0/0", 200)
    flip_bit(shard_file(store, 0), 4000)
    assert repair_store(verify_store(str(store))) == [Problem("checksums", Cause.UNKNOWN_SHARD)]


def test_checksums_statistics_and_a_shard(store):
    flip_bit(store / "checksums/c/0/0", 200)
    flip_bit(store / "statistics/mean/c/0/0/0", 999)
    flip_bit(shard_file(store, 0), 4000)
    assert repair_store(verify_store(str(store))) == [
        Problem("checksums", Cause.UNKNOWN_SHARD),
        Problem("statistics/mean", Cause.DAMAGED_SHARDS),
    ]


@pytest.mark.parametrize("shards", [1, 6, 9])
def test_sound_shards_are_not_blamed_where_their_checksums_are_damaged(store, kaggle_dir, shards):
    before = read_files(store)
    zarr.open_group(store, mode="r+")["checksums"][0] = 0
    described = json.loads((store / "checksums/zarr.json").read_text())
    described["shape"][0] = shards
    (store / "checksums/zarr.json").write_text(json.dumps(described))
    flip_bit(store / "statistics/mean/c/0/0/0", 999)
    shutil.move(kaggle_dir, kaggle_dir.with_name("elsewhere"))  # so that no shard can be built again
    assert repair_store(verify_store(str(store))) == []
    assert_same_files(store, before)


def test_wrong_checksums_and_a_shard_that_the_pictures_mend(store):
    before = read_files(store)
    zarr.open_group(store, mode="r+")["checksums"][1] = 0
    flip_bit(shard_file(store, 0), 4000)
    assert repair_store(verify_store(str(store))) == []
    assert_same_files(store, before)


def test_a_repair_leaves_the_attributes(store, kaggle_dir):
    """What the folders were is not asked again, when they are gone."""
    before = dict(zarr.open_group(store, mode="r").attrs)
    (store / "card/c/0").unlink()
    shutil.move(kaggle_dir, kaggle_dir.with_name("elsewhere"))
    assert repair_store(verify_store(str(store))) == []
    assert verify_store(str(store)).sound
    after = dict(zarr.open_group(store, mode="r").attrs)
    assert {name for name in before if before[name] != after[name]} <= {"arrays", "digest"}


@pytest.mark.parametrize("kills", range(0, 12, 3))
def test_a_repair_that_is_killed_goes_on(store, monkeypatch, kills):
    before = read_files(store)
    flip_bit(shard_file(store, 1), 4000)
    for name in ("label/c/0", "source/zarr.json", "statistics/std/c/0/0/0", "card/c/0", "plane/c/0", "class/zarr.json"):
        flip_bit(store / name, 99)
    left = [kills]
    replace = os.replace

    def kill(old, new):
        if str(new).startswith(str(store)) and not left[0]:
            raise KeyboardInterrupt
        left[0] -= str(new).startswith(str(store))
        replace(old, new)

    (store / "label/c/0.0123456789abcdef0123456789abcdef.partial").write_bytes(b"cut off")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", kill)
        with suppress(KeyboardInterrupt):
            repair_store(verify_store(str(store)))
    assert repair_store(verify_store(str(store))) == []
    assert_same_files(store, before)


def test_repair_names_missing_pictures_and_repairs_the_rest(store, kaggle_dir):
    before = read_files(store)
    for name in ("features/c/0/0/0/0", "features/c/1/0/0/0", "label/c/0"):
        flip_bit(store / name, 99)
    images = [kaggle_dir / image for image in zarr.open_array(store / "image", mode="r")[:6]]
    images[1].unlink()
    draw_noise(5).save(images[4])
    lost = (str(images[1]), str(images[4]))
    assert repair_store(verify_store(str(store))) == [Problem("shard 0", Cause.LOST_PICTURES, lost)]
    after = read_files(store)
    assert [name for name in before if before[name] != after[name]] == ["features/c/0/0/0/0"]


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC])
def test_repair_in_an_unwritable_store_is_one_line(store, monkeypatch, code):
    for name in ("features/c/0/0/0/0", "label/c/0", "card/c/0"):
        flip_bit(store / name, 99)
    before = read_files(store)
    replace = os.replace

    def refuse(old, new):
        if str(new).startswith(str(store)):
            raise OSError(code, os.strerror(code), str(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", refuse)
    result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    assert result.exit_code == 3
    for name, file in (("shard 0", "features/c/0/0/0/0"), ("label", "label/c/0"), ("card", "card/c/0")):
        assert f"{name}: {store}/{file}: {os.strerror(code)}" in result.output
    assert_same_files(store, before)


def test_a_store_that_is_written_to_is_left_alone(store, kaggle_dir, tmp_path):
    flip_bit(store / "label/c/0", 99)
    found = verify_store(str(store))
    with writer_lock(Storage(store)), pytest.raises(UserError, match="is writing there"):
        repair_store(found)
    store.rename(store.with_name("a.zarr.partial"))
    with pytest.raises(UserError, match=r"a\.zarr: a build changed the store since"):
        repair_store(found)
    assert not store.exists()
    store.with_name("a.zarr.partial").rename(store)
    build_store(
        [str(kaggle_dir), str(make_kaggle_dir(tmp_path / "more", first_seed=50))], store, SMALL_BUILD, workers=0
    )
    before = read_files(store)
    with pytest.raises(UserError, match=r"a\.zarr: a build changed the store since"):
        repair_store(found)
    assert_same_files(store, before)


def test_repair_rejects_an_array_with_other_bytes(store):
    attributes = dict(zarr.open_group(store, mode="r").attrs)
    attributes["arrays"]["label"] = "of another"
    write_attributes(Storage(store), add_digests(Storage(store), attributes, []))
    before = read_files(store)
    assert repair_store(verify_store(str(store))) == [Problem("label", Cause.DIFFERS)]
    assert_same_files(store, before)


@pytest.mark.slow
def test_a_repair_killed_at_any_moment_and_run_again(tmp_path):
    source, store = make_kaggle_dir(tmp_path / "kaggle", per_source=12), tmp_path / "a.zarr"
    build_store([str(source)], store, BuildSettings(FeatureSettings(size=64)), workers=0)
    before = read_files(store)
    moments, command = random.Random(3), [sys.executable, "-m", "pipeline", "verify", str(store), "--repair"]

    def damage():
        for name in before:
            if not name.startswith(("zarr.json", "provenance", "checksums")):
                flip_bit(store / name, moments.randrange(8 * len(before[name])))

    damage()
    began = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    seconds = time.monotonic() - began
    assert_same_files(store, before)
    for _ in range(12):
        damage()
        for _ in range(3):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moments.uniform(0.3, 1) * seconds)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run(command, capture_output=True, check=True)
        assert_same_files(store, before)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("zarr.json", b'"settings"', b'"settingz"'), ("provenance/c/0", None, b"no list of pictures")],
)
def test_what_cannot_be_made_again_is_named(store, name, old, new):
    file = store / name
    file.write_bytes(file.read_bytes().replace(old, new) if old else new)
    assert repair_store(verify_store(str(store))) == [Problem(name.split("/")[0], Cause.IS_ORIGINAL)]
