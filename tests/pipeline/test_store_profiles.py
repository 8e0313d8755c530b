"""Profiles of a store: one of each sample, written beside the planes, read in any order, verified and repaired."""

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.damage import flip_bit
from helpers.folders import assert_same_files, read_files
from helpers.make_store import make_store

from data_cards.archives.place import read_file
from data_cards.core.errors import StoreError
from data_cards.image.decode import decode_picture
from pipeline.cli.main import main
from pipeline.features.degradations import apply_steps
from pipeline.features.profile_vectors import PROFILE_VECTORS
from pipeline.features.profiles import compute_profile
from pipeline.features.settings import MAX_PIXELS
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import open_store


def test_every_row_has_the_profile_of_its_changed_picture(store):
    opened = open_store(store)
    rows = np.arange(len(opened))
    profiles = opened.read_profiles(rows)
    assert (profiles.shape, profiles.dtype) == ((len(opened), 755), np.float32)
    settings = opened.settings
    for row in rows.tolist():
        picture = decode_picture(read_file(opened.picture_path(row)), MAX_PIXELS)
        variants = settings.draw_variants(bytes.fromhex(opened.columns["sha256"][row]))
        (variant,) = (one for one in variants if one.name == opened.columns["variant"][row])
        np.testing.assert_array_equal(profiles[row], compute_profile(apply_steps(picture, variant.steps)))


def test_plain_zarr_reads_the_same(store):
    array = zarr.open_group(store, mode="r")["profiles"]
    assert array.attrs["vectors"] == PROFILE_VECTORS
    assert array.metadata.dimension_names == ("sample", "value")
    opened = open_store(store)
    np.testing.assert_array_equal(array[:], opened.read_profiles(np.arange(len(opened))))


@pytest.mark.parametrize("rows", [[], [5], [30, 2, 2, 17, 31], range(31, -1, -1)])
def test_rows_are_read_in_any_order(tmp_path, rows):
    opened = open_store(make_store(tmp_path / "a.zarr"))
    rows = np.array(rows, dtype=int)
    np.testing.assert_array_equal(opened.read_profiles(rows), opened.profiles[:][rows])


def test_rows_of_several_stores_are_read_as_one(tmp_path):
    paths = [make_store(tmp_path / f"{seed}.zarr", seed=seed, first=100 * seed) for seed in (1, 2)]
    both, own = open_stores(paths), [open_store(path).profiles[:] for path in paths]
    rows = np.random.default_rng(0).permutation(len(both))
    assert both.has_profiles
    np.testing.assert_array_equal(both.read_profiles(rows), np.concatenate(own)[rows])


def flip(data):
    return data[:2000] + bytes([data[2000] ^ 8]) + data[2001:]


@pytest.mark.parametrize(
    "damage", [flip, lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", lambda data: bytes(10**7)],
    ids=["a flipped bit", "cut off", "lengthened", "empty", "zeros"],
)  # fmt: skip
def test_damage_is_found_named_and_repaired(store, damage):
    before = read_files(store)
    file = store / "profiles/c/3/0"
    file.write_bytes(damage(file.read_bytes()))
    opened = open_store(store)
    with pytest.raises(StoreError, match=rf"row 19 \({opened.columns['image'][19]}\) cannot be read .*--repair"):
        opened.read_profiles(np.array([2, 19, 20]))
    assert len(opened.read_profiles(np.array([2, 30]))) == 2
    found = verify_store(str(store))
    (bad,) = found.bad
    assert (bad.name, bad.rows, found.damage) == ("profiles/c/3/0", tuple(range(18, 24)), ())
    result = CliRunner().invoke(main, ["verify", str(store)])
    assert (result.exit_code, "profiles/c/3/0" in result.stdout) == (3, True)
    assert repair_store(found) == []
    assert_same_files(store, before)


def test_missing_file_is_not_read_as_zeros(store):
    (store / "profiles/c/0/0").unlink()
    with pytest.raises(StoreError, match=r"row 1 .*--repair"):
        open_store(store).read_profiles(np.array([1]))


def test_damaged_metadata_is_found_and_repaired(store):
    before = read_files(store)
    flip_bit(store / "profiles/zarr.json", 8 * 400)
    found = verify_store(str(store))
    assert (found.damage, found.bad) == (("profiles",), ())
    assert repair_store(found) == []
    assert_same_files(store, before)


def test_lost_file_is_made_again_by_the_same_build(store, kaggle_dir, build):
    before = read_files(store)
    (store / "profiles/c/2/0").unlink()
    assert build().made == 1
    assert_same_files(store, before)
