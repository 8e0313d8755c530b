"""Damage anywhere is found and named; what the source pictures can mend is mended to the byte."""

import random
import shutil

import pytest
from click.testing import CliRunner
from conftest import draw_noise

from pipeline import plan as plan_module
from pipeline.build import build_store
from pipeline.cli import main
from pipeline.settings import BuildSettings, FeatureSettings
from pipeline.verify import repair_store, verify_store

SETTINGS = BuildSettings(FeatureSettings(size=16), variants="clean", val_fraction=0.25)


@pytest.fixture
def store(kaggle_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 6)
    build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0)
    return tmp_path / "a.zarr"


def shard_file(store, shard):
    return store / f"features/c/{shard}/0/0/0"


def flip_bit(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_a_sound_store(store, files_of):
    before = files_of(store)
    assert verify_store(store).sound
    result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    assert (result.exit_code, "sound, 6 shards" in result.output) == (0, True)
    assert files_of(store) == before


@pytest.mark.parametrize("seed", range(8))
def test_any_flipped_bit_in_a_shard_is_found_named_and_mended(store, files_of, seed):
    before = files_of(store)
    rng = random.Random(seed)
    shard = rng.randrange(6)
    flip_bit(shard_file(store, shard), rng.randrange(8 * shard_file(store, shard).stat().st_size))
    found = verify_store(store)
    assert [bad.shard for bad in found.bad] == [shard]
    assert found.bad[0].rows
    assert set(found.bad[0].rows) <= set(range(shard * 6, shard * 6 + 6))
    assert repair_store(found) == []
    assert files_of(store) == before


def test_a_bit_in_one_sample_names_that_sample(store):
    flip_bit(shard_file(store, 2), 8 * 40)  # in the first chunk of the shard
    (bad,) = verify_store(store).bad
    assert bad.rows == (12,)
    result = CliRunner().invoke(main, ["verify", str(store)])
    assert result.exit_code == 3
    assert "row 12: " in result.output
    assert "--repair" in result.stderr


@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_missing_and_cut_shards(store, files_of, damage):
    before = files_of(store)
    path = shard_file(store, 3)
    data = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(data[: len(data) // 2] if damage == "short" else b"")
    (bad,) = verify_store(store).bad
    assert bad.rows == tuple(range(18, 24))
    result = CliRunner().invoke(main, ["verify", str(store), "--repair", "--json"])
    assert result.exit_code == 0, result.output
    assert files_of(store) == before


def test_what_cannot_be_mended_is_said_and_left(store, kaggle_dir):
    flip_bit(shard_file(store, 0), 4000)
    damaged = shard_file(store, 0).read_bytes()
    shutil.move(kaggle_dir, kaggle_dir.with_name("elsewhere"))
    result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    assert result.exit_code == 3
    assert "shard 0: " in result.output
    assert "cannot be read" in result.output
    assert shard_file(store, 0).read_bytes() == damaged
    assert not (store / "build").exists()


def test_a_changed_source_picture_is_no_source(store, kaggle_dir):
    flip_bit(shard_file(store, 0), 4000)
    for file in kaggle_dir.rglob("*.png"):
        draw_noise(hash(file.name) % 1000).save(file)
    problems = repair_store(verify_store(store))
    assert len(problems) == 1
    assert "has changed" in problems[0]


@pytest.mark.parametrize("name", ["statistics/mean/c/0/0/0", "provenance/c/0"])
def test_other_arrays(store, files_of, name):
    before = files_of(store)
    if name.startswith("provenance"):
        (store / name).unlink()
        assert verify_store(store).damage == ("provenance",)
        return
    flip_bit(store / name, 999)
    found = verify_store(store)
    assert found.damage == ("statistics/mean",)
    assert repair_store(found) == []
    assert files_of(store) == before
