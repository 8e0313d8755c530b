"""Profiles of a store: one of each sample, written beside the planes, read in any order, verified and repaired."""

import json
import shutil

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.damage import flip_bit
from helpers.folders import assert_same_files, read_files
from helpers.make_store import SMALL_BUILD, make_store
from helpers.pictures import draw_noise

from data_cards.archives.place import read_file
from data_cards.core.errors import StoreError, UserError
from data_cards.core.files import ZARR_METADATA
from data_cards.image.decode import decode_picture
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import build_shard
from pipeline.cli.main import main
from pipeline.features.degradations import apply_steps
from pipeline.features.profile_vectors import PROFILE_VECTORS
from pipeline.features.profiles import compute_profile
from pipeline.features.settings import MAX_PIXELS, FeatureSettings
from pipeline.maintenance.repair import repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import open_store
from pipeline.store.schema import PROFILES
from pipeline.store.settings import BuildSettings
from train.data.dataset import FeatureDataset


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
    assert array.metadata.dimension_names == ("sample", "profile_number")
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


@pytest.mark.parametrize("row", [-1, None], ids=["before the first", "behind the last"])
def test_row_that_is_not_there_is_refused(tmp_path, row):
    path = make_store(tmp_path / "a.zarr")
    other = make_store(tmp_path / "b.zarr", seed=1, first=100)
    for opened in (open_store(path), open_stores([path, other])):
        with pytest.raises(IndexError, match="expected 0 to"):
            opened.read_profiles(np.array([0, row or len(opened)]))


def test_rows_are_numbers_and_no_mask(tmp_path):
    path = make_store(tmp_path / "a.zarr")
    other = make_store(tmp_path / "b.zarr", seed=1, first=100)
    for opened in (open_store(path), open_stores([path, other])):
        np.testing.assert_array_equal(opened.read_profiles([3, 1]), opened.read_profiles(np.array([3, 1])))
        assert opened.read_profiles([]).shape == (0, 755)
        for rows in (opened.columns["split"] == "train", [1.0], 3):
            with pytest.raises(IndexError, match="expected a list of row numbers"):
                opened.read_profiles(rows)


def test_values_that_are_no_numbers_are_damage(tmp_path):
    path = make_store(tmp_path / "a.zarr")
    zarr.open_array(path / "profiles", mode="r+")[9, 700] = np.nan
    with pytest.raises(StoreError, match=r"row 8 .*not finite numbers"):
        open_store(path).read_profiles(np.array([8]))


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


def test_missing_or_damaged_array_is_named_with_the_command_that_repairs(store, tmp_path):
    place = tmp_path / "my store.zarr"
    shutil.copytree(store, place)
    (place / PROFILES / ZARR_METADATA).write_text("{}")
    with pytest.raises(StoreError, match=r"damaged \(profiles: .*; `pipeline verify '.*my store.zarr' --repair`"):
        open_store(place)
    (place / PROFILES / ZARR_METADATA).unlink()
    with pytest.raises(StoreError, match=r"damaged \(profiles: its zarr.json is missing\)"):
        open_store(place)


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


@pytest.mark.parametrize("left", [None, 0, 100, -1], ids=["lost", "empty", "cut off", "short of a byte"])
def test_lost_or_short_file_is_made_again_by_the_same_build(store, kaggle_dir, build, left):
    before = read_files(store)
    file = store / "profiles/c/2/0"
    file.unlink() if left is None else file.write_bytes(file.read_bytes()[:left])
    assert build().made == 1
    assert_same_files(store, before)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 16)


@pytest.fixture
def bare(kaggle_dir, tmp_path, small_shards):
    """A store as built by default, without planes, of eight shards; and the function that builds it again."""

    def build(*sources, out="bare.zarr", **options):
        sources = [str(kaggle_dir), *map(str, sources)]
        return build_store(sources, tmp_path / out, BuildSettings(val_fraction=0.25), **{"workers": 0, **options})

    build()
    return tmp_path / "bare.zarr", build


def test_default_store_has_profiles_of_four_views_and_no_planes(bare):
    path, _ = bare
    store = open_store(path)
    assert (store.has_planes, store.has_profiles, store.features) == (False, True, None)
    assert not (path / "features").exists() and not (path / "statistics").exists()  # noqa: PT018
    assert store.mean.shape == store.std.shape == (0, 0, 0)
    assert set(store.columns["variant"]) == {"clean", "jpeg-75", "web", "shrunk"}
    assert store.profiles.chunks == (16, 755)
    assert len(store) == len(store.columns["label"]) == store.profiles.shape[0] == 128
    assert verify_store(str(path)).sound


def test_profiles_do_not_depend_on_the_planes_beside_them(bare, kaggle_dir, tmp_path):
    settings = BuildSettings(FeatureSettings(size=16), val_fraction=0.25)
    build_store([str(kaggle_dir)], tmp_path / "planes.zarr", settings, workers=0)
    one, other = (open_store(path) for path in (bare[0], tmp_path / "planes.zarr"))
    assert (one.columns["sha256"] == other.columns["sha256"]).all()
    np.testing.assert_array_equal(one.profiles[:], other.profiles[:])


def test_workers_make_the_same_bytes(bare, tmp_path):
    path, build = bare
    build(out="workers.zarr", workers=2)
    assert_same_files(tmp_path / "workers.zarr", path)


def test_growing_keeps_its_shards_and_gives_what_one_build_gives(bare, tmp_path):
    path, build = bare
    (more := tmp_path / "more/train/fake/gan").mkdir(parents=True)
    for number in range(3):
        draw_noise(700 + number, 40).save(more / f"{number}.png")
    before = open_store(path).profiles[:]
    grown = build(tmp_path / "more")
    assert (grown.kept, grown.plan.growth.added) == (8, 3)
    after = open_store(path).profiles[:]
    assert len(after) == len(before) + 12
    np.testing.assert_array_equal(after[: len(before)], before)
    assert verify_store(str(path)).sound


@pytest.mark.parametrize("stopped_after", [0, 3, 6])
def test_stopped_build_goes_on_and_gives_the_same_bytes(bare, tmp_path, stopped_after):
    path, build = bare
    made = []

    def stop(task):
        if len(made) > stopped_after:
            raise KeyboardInterrupt
        made.append(task.shard)
        return build_shard(task)

    with pytest.raises(KeyboardInterrupt):
        build(out="stopped.zarr", shard_function=stop)
    summary = build(out="stopped.zarr")
    assert summary.made < 8 - stopped_after + 1
    assert_same_files(tmp_path / "stopped.zarr", path)


def test_damage_to_a_store_without_planes_is_repaired(bare):
    path, _ = bare
    before = read_files(path)
    flip_bit(path / "profiles/c/3/0", 8 * 1000)
    (path / "profiles/c/5/0").unlink()
    (path / "checksums/c/0/0").write_bytes(b"")
    left = repair_store(verify_store(str(path)))
    assert [(one.part, one.cause.value) for one in left] == [("checksums", "unknown shard")]
    (path / "checksums/c/0/0").write_bytes(before["checksums/c/0/0"])
    found = verify_store(str(path))
    assert [bad.name for bad in found.bad] == ["profiles/c/3/0", "profiles/c/5/0"]
    assert repair_store(found) == []
    assert_same_files(path, before)


def test_many_samples_of_a_damaged_file_are_counted(bare, monkeypatch):
    path, _ = bare
    flip_bit(path / "profiles/c/3/0", 8 * 1000)
    monkeypatch.setattr("pipeline.cli.summary._NAMED", 5)
    lines = CliRunner().invoke(main, ["verify", str(path)]).stdout.splitlines()
    assert [line.startswith("  row ") for line in lines] == [False, *[True] * 5, False]
    assert lines[-1].strip() == "and 11 more (--json names all)"


def test_file_lost_during_the_build_is_made_again(bare, tmp_path):
    path, build = bare

    def lose(task):
        record = build_shard(task)
        if task.shard == 6:
            (tmp_path / "lost.zarr.partial/profiles/c/2/0").unlink()
        return record

    with pytest.raises(UserError, match=r"1 of 8 shards are damaged \(the first: 2\)"):
        build(out="lost.zarr", shard_function=lose)
    assert build(out="lost.zarr").made == 1
    assert_same_files(tmp_path / "lost.zarr", path)


def test_inspect_says_what_is_there(bare, store, tmp_path):
    path, _ = bare
    facts = json.loads(CliRunner().invoke(main, ["inspect", str(path), "--json"]).stdout)
    assert (facts["samples"], facts["shape"], facts["profiles"]["shape"]) == (128, None, [128, 755])
    assert facts["compression"].keys() == {"profiles"}
    assert 0.2 < facts["compression"]["profiles"] < 1
    assert 700 < facts["bytes_per_sample"] < 20_000
    text = CliRunner().invoke(main, ["inspect", str(path)]).stdout
    assert "755, float32" in text
    drawn = CliRunner().invoke(main, ["inspect", str(path), "--png", str(tmp_path / "planes.png")])
    assert (drawn.exit_code, "--size 1024 --out planes.zarr`" in drawn.stderr) == (2, True)
    with pytest.raises(UserError, match=r"has no planes; use the features profile, or .* --out planes\.zarr`"):
        FeatureDataset(path, features="levels")
    with_planes = json.loads(CliRunner().invoke(main, ["inspect", str(store), "--json"]).stdout)
    assert with_planes["shape"][1:] == [9, 16, 16]
    assert list(with_planes["compression"]) == ["magnitude", "phase", "dct", "profiles"]


def test_estimate_foresees_the_size(kaggle_dir, tmp_path, small_shards):
    plain = {"settings": SMALL_BUILD, "workers": 0}
    for settings in (BuildSettings(), SMALL_BUILD):
        plain["settings"] = settings
        out = tmp_path / settings.variants
        foreseen = build_store([str(kaggle_dir)], out, dry_run=True, **plain).estimate
        made = build_store([str(kaggle_dir)], out, **plain)
        samples = sum(file.stat().st_size for name in ("features", "profiles") for file in out.rglob(f"{name}/c/**/0"))
        assert 0.7 * samples < foreseen.bytes - foreseen.tables < 1.8 * samples
        assert made.bytes < 2 * foreseen.bytes
