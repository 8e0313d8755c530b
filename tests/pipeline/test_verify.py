"""`verify_store` and `repair_store`: damage anywhere is found, named, and repaired from the source pictures."""

import errno
import json
import os
import random
import shutil

import pytest
import zarr
from click.testing import CliRunner
from helpers.damage import flip_bit, shard_file
from helpers.folders import assert_same_files, read_files

from data_cards.core.errors import StoreError, UserError
from pipeline.cli.main import main
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import Damage, verify_store
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.writer import write_attributes

OPTIONS = ["--size", "16", "--variants", "clean", "--val-fraction", "0.25", "--workers", "0", "--dry-run"]


def test_verify_of_a_sound_store_finds_nothing(store):
    before = read_files(store)
    assert verify_store(str(store)).sound
    result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
    assert (result.exit_code, "sound, 6 shards" in result.output) == (0, True)
    assert_same_files(store, before)


@pytest.mark.parametrize("seed", range(3))
def test_verify_finds_and_repairs_a_flipped_bit_in_a_shard(store, seed):
    before = read_files(store)
    rng = random.Random(seed)
    shard = rng.randrange(6)
    flip_bit(shard_file(store, shard), rng.randrange(8 * shard_file(store, shard).stat().st_size))
    found = verify_store(str(store))
    assert [bad.shard for bad in found.bad] == [shard]
    assert found.bad[0].rows
    assert set(found.bad[0].rows) <= set(range(shard * 6, shard * 6 + 6))
    assert repair_store(found) == []
    assert_same_files(store, before)


def test_verify_names_the_row_of_a_flipped_bit(store):
    flip_bit(shard_file(store, 2), 8 * 40)  # in the first chunk of the shard
    (bad,) = verify_store(str(store)).bad
    assert bad.rows == (12,)
    result = CliRunner().invoke(main, ["verify", str(store)])
    assert result.exit_code == 3
    assert "row 12: " in result.output
    assert "--repair" in result.stderr


@pytest.mark.parametrize("damage", ["missing", "short", "empty"])
def test_repair_restores_missing_and_truncated_shards(store, damage):
    before = read_files(store)
    path = shard_file(store, 3)
    data = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(data[: len(data) // 2] if damage == "short" else b"")
    (bad,) = verify_store(str(store)).bad
    assert bad.rows == tuple(range(18, 24))
    result = CliRunner().invoke(main, ["verify", str(store), "--repair", "--json"])
    assert result.exit_code == 0, result.output
    assert_same_files(store, before)


def test_verify_unreadable_shard_gives_the_systems_error(store):
    shard_file(store, 3).unlink()
    shard_file(store, 3).mkdir()
    (bad,) = verify_store(str(store)).bad
    assert (bad.shard, bad.damage, bad.details) == (3, Damage.UNREADABLE, os.strerror(errno.EISDIR))
    result = CliRunner().invoke(main, ["verify", str(store), "--json"])
    assert json.loads(result.stdout)["bad_shards"][0]["details"] == bad.details


def list_files(store):
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())


def choose_files(store):
    """The last file of each of `FILES`."""
    return [[name for name in list_files(store) if name.startswith(start)][-1] for start in FILES]


# One file of each kind that verify and repair treat apart; the rest are columns, as "label" is.
FILES = ["zarr.json", "card", "checksums", "features/zarr.json", "features/c/1", "label", "provenance", "statistics"]


@pytest.mark.parametrize("every_file", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_flipped_bit_in_any_file_is_found_and_repaired(store, kaggle_dir, every_file):
    before = read_files(store)
    rng = random.Random(5)
    for name in list_files(store) if every_file else choose_files(store):
        flip_bit(store / name, rng.randrange(8 * len(before[name])))
        result = CliRunner().invoke(main, ["verify", str(store)])
        assert (result.exit_code, type(result.exception)) == (3, SystemExit), name
        array = name.split("/c/")[0].removesuffix("/zarr.json")
        assert array in result.output or (array in ("features", "profiles") and "shard " in result.output), name
        again = CliRunner().invoke(main, ["build", "--src", str(kaggle_dir), "--out", str(store), *OPTIONS])
        assert "up to date" not in again.output or name.startswith(("features/c/", "profiles/c/")), name
        assert type(again.exception) in (SystemExit, type(None)), name
        result = CliRunner().invoke(main, ["verify", str(store), "--repair"])
        if array in ("zarr.json", "provenance"):
            # Some bits of an array's metadata leave it readable, and it is rebuilt.
            assert result.exit_code == 3 or name == "provenance/zarr.json", name
            if result.exit_code == 3:
                (store / name).write_bytes(before[name])
        assert_same_files(store, before)


@pytest.mark.parametrize("every_file", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("garbage", [b"", b"{", b"[1, 2]", b'{"zarr_format": 3, "node_type": "group"}'])
def test_commands_on_garbage_metadata_end_without_a_traceback(store, kaggle_dir, garbage, every_file):
    before = read_files(store)
    names = [name for name in list_files(store) if name.endswith("zarr.json")]
    for name in names if every_file else ("zarr.json", "features/zarr.json", "label/zarr.json"):
        (store / name).write_bytes(garbage)
        for command in (["verify"], ["inspect"], ["build", "--src", str(kaggle_dir), "--size", "16", "--out"]):
            result = CliRunner().invoke(main, [*command, str(store)])
            assert type(result.exception) in (SystemExit, type(None)), (name, command)
        (store / name).write_bytes(before[name])


def test_repair_restores_a_missing_array(store):
    before = read_files(store)
    for name in ("label", "source", "statistics", "card", "checksums"):
        shutil.rmtree(store / name)
        found = verify_store(str(store))
        assert name in found.damage
        assert repair_store(found) == []
        assert_same_files(store, before)


@pytest.mark.parametrize(("old", "new"), [('"zarr_format"', '"zarr_formav"'), (": 3,", ": 2,"), ('"group"', '"array"')])
def test_verify_of_metadata_of_no_store_names_the_file(store, old, new):
    text = (store / "zarr.json").read_text()
    assert old in text
    (store / "zarr.json").write_text(new.join(text.rsplit(old, 1)))
    with pytest.raises(StoreError, match=r"a\.zarr: .*zarr\.json is damaged"):
        verify_store(str(store))


@pytest.mark.parametrize("attribute", ["versions", "roots", "set_aside", "simulated"])
def test_verify_finds_a_renamed_attribute(store, attribute):
    text = (store / "zarr.json").read_text()
    (store / "zarr.json").write_text(text.replace(f'"{attribute}"', f'"{attribute[:-1]}_"'))
    assert verify_store(str(store)).damage == ("zarr.json",)


def test_verify_store_of_removed_option_says_so(store):
    settings = json.loads(json.dumps(zarr.open_group(store, mode="r").attrs["settings"]))
    settings["features"]["dtype"] = "float16"
    storage = Storage(store)
    write_attributes(storage, add_digests(storage, {**zarr.open_group(store, mode="r").attrs, "settings": settings}))
    with pytest.raises(UserError, match="float16, an option that was removed"):
        verify_store(str(store))


def test_verify_finds_settings_other_than_the_fingerprints(store):
    group = zarr.open_group(store, mode="r+")
    settings = json.loads(json.dumps(group.attrs["settings"]))
    settings["seed"] = 7
    storage = Storage(store)
    write_attributes(storage, add_digests(storage, {**group.attrs, "settings": settings}))
    found = verify_store(str(store))
    assert found.damage == ("zarr.json",)
