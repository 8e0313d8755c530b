"""`build_store`: the same store however it was run, with the features that a verdict is computed from."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.folders import assert_same_files, read_files
from helpers.pictures import draw_noise, make_kaggle_dir

from data_cards.core.errors import StoreError, UserError
from data_cards.core.labels import CLASS_NAMES
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import build_shard
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import draw_variants
from pipeline.store.reader import open_store, partial_name
from pipeline.store.schema import SAMPLE_COLUMNS
from pipeline.store.settings import BuildSettings
from pipeline.store.statistics import MAX_LEVELS, MAX_ROWS, subsample_rows

SETTINGS = BuildSettings(FeatureSettings(size=16), variants="train", val_fraction=0.25)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 12)


def test_every_row_is_what_its_columns_say(kaggle_dir, tmp_path):
    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0)
    store = open_store(summary.path)
    assert store.features.shape == (128, 9, 16, 16)
    assert store.features.chunks == (1, 3, 16, 16)
    assert store.features.shards == (12, 9, 16, 16)
    columns = store.columns
    for row in range(len(store)):
        path = str(store.picture_path(row))
        assert f"/{CLASS_NAMES[columns['label'][row]]}/{columns['source'][row]}/" in path
        assert ("/test/" in path) == (columns["split"][row] == "test")
        if columns["variant"][row] == "clean":
            assert (store.features[row] == next(compute_features(path, store.settings.features)).levels[0]).all()
        else:
            drawn = {v.name: v for v in draw_variants("train", 0, bytes.fromhex(columns["sha256"][row]))}
            assert columns["parameters"][row] == drawn[columns["variant"][row]].format_parameters()
            assert columns["jpeg_quality"][row] == drawn[columns["variant"][row]].jpeg_quality
    assert set(columns["format"]) == {"JPEG", "PNG"}
    assert set(columns["file_quality"][columns["format"] == "PNG"]) == {-1}


def test_splits_share_no_picture_and_keep_variants_together(kaggle_dir, tmp_path):
    # The same picture once more, re-encoded, in train.
    draw_noise(1, 40).save(kaggle_dir / "train/real/phone/again.jpg", quality=50)
    store = open_store(build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0).path)
    columns = store.columns
    assert set(columns["split"]) == {"train", "val", "test"}
    for group in np.unique(columns["group"]):
        assert len(set(columns["split"][columns["group"] == group])) == 1
    again, first = (np.flatnonzero([name.endswith(end) for name in columns["image"]])
                    for end in ("phone/again.jpg", "train/real/camera/0.jpg"))  # fmt: skip
    assert set(columns["group"][again]) == set(columns["group"][first])


def test_workers_make_the_same_bytes(kaggle_dir, tmp_path):
    build_store([str(kaggle_dir)], tmp_path / "one.zarr", SETTINGS, workers=0)
    build_store([str(kaggle_dir)], tmp_path / "other.zarr", SETTINGS, workers=2)
    assert_same_files(tmp_path / "one.zarr", tmp_path / "other.zarr")


def test_plain_zarr_reads_it(kaggle_dir, tmp_path):
    build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0)
    group = zarr.open(tmp_path / "a.zarr", mode="r")
    assert set(SAMPLE_COLUMNS) < set(group)
    assert group.attrs["complete"] is True
    kinds = ("magnitude", "phase", "dct")
    assert group.attrs["planes"] == [f"{kind}_{colour}" for kind in kinds for colour in "rgb"]
    assert group["features"][:].any(axis=(1, 2, 3)).all()


def test_statistics_are_those_of_the_training_rows(kaggle_dir, tmp_path):
    store = open_store(build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0).path)
    rows = store.features[:][store.rows("train")].astype(np.float64)
    assert np.allclose(store.mean, rows.mean(0), atol=1e-4)
    assert np.allclose(store.std, rows.std(0), atol=1e-3)


def test_a_stopped_build_goes_on(kaggle_dir, tmp_path):
    build_store([str(kaggle_dir)], tmp_path / "whole.zarr", SETTINGS, workers=0)
    victim = kaggle_dir / "test/fake/gan/0.jpg"
    data = victim.read_bytes()
    out = tmp_path / "stopped.zarr"

    def stop(task):
        if task.shard == 5:
            raise KeyboardInterrupt
        return build_shard(task)

    with pytest.raises(KeyboardInterrupt):
        build_store([str(kaggle_dir)], out, SETTINGS, workers=0, shard_function=stop)
    assert not out.exists()
    with pytest.raises(StoreError, match="not finished"):
        open_store(out)
    # Torn leftovers of a kill.
    shard = Path(partial_name(out)) / "features/c/5/0/0"
    shard.mkdir(parents=True, exist_ok=True)
    (shard / "0").write_bytes(b"torn")
    (shard / "0.0123456789abcdef0123456789abcdef.partial").write_bytes(b"torn")
    summary = build_store([str(kaggle_dir)], out, SETTINGS, workers=0)
    assert (summary.kept, summary.made) == (5, summary.plan.shards - 5)
    assert victim.read_bytes() == data
    assert_same_files(out, tmp_path / "whole.zarr")


def test_building_again_does_nothing_or_names_the_difference(kaggle_dir, tmp_path):
    out = tmp_path / "a.zarr"
    build_store([str(kaggle_dir)], out, SETTINGS, workers=0)
    before = read_files(out)
    assert build_store([str(kaggle_dir)], out, SETTINGS, workers=0).made == 0
    with pytest.raises(UserError, match="seed is 0, 1 was asked for; to add to it, "):
        build_store([str(kaggle_dir)], out, BuildSettings(FeatureSettings(size=16), val_fraction=0.25, seed=1))
    assert_same_files(out, before)


def test_bad_files_are_set_aside_and_named(kaggle_dir, tmp_path):
    (kaggle_dir / "train/real/camera/text.jpg").write_text("no picture")
    cut = (kaggle_dir / "train/fake/gan/0.jpg").read_bytes()[:500]
    (kaggle_dir / "train/fake/gan/cut.jpg").write_bytes(cut)
    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0)
    reasons = {one.path.rsplit("/", 1)[1]: one.reason for one in summary.plan.set_aside}
    assert set(reasons) == {"text.jpg", "cut.jpg"}
    assert open_store(summary.path).attributes["set_aside"][0]["path"].endswith("cut.jpg")


def test_crop_sets_small_pictures_aside(kaggle_dir, tmp_path):
    for number in range(3):
        draw_noise(100 + number, 20, 60).save(kaggle_dir / f"train/real/camera/small{number}.png")
    settings = BuildSettings(FeatureSettings(size=24, fit="crop"), variants="clean")
    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", settings, workers=0)
    assert len(summary.plan.set_aside) == 3
    assert "20 x 60 pixels, smaller than the crop of 24" in summary.plan.set_aside[0].reason


@pytest.mark.parametrize(
    ("variants", "side", "said"),
    [
        (
            "views",
            65_501,
            "65501 x 3 pixels, too large for the variants, which are saved as JPEG; expected at most 65500 a side",
        ),
        (
            "stress",
            16_384,
            "16384 x 3 pixels, too large for the variants, which are saved as WEBP; expected at most 16383 a side",
        ),
        ("views", 65_500, None),
        ("clean", 65_501, None),
    ],
)
def test_pictures_too_long_for_a_codec_are_set_aside(kaggle_dir, tmp_path, variants, side, said):
    draw_noise(100, side, 3).save(kaggle_dir / "test/real/camera/long.png")
    settings = BuildSettings(variants=variants, val_fraction=0.25)
    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", settings, workers=0, dry_run=True)
    assert [one.reason.startswith(said) for one in summary.plan.set_aside] == ([True] if said else [])


def test_a_picture_that_vanishes_is_named_and_the_rest_is_kept(kaggle_dir, tmp_path):
    def lose_a_picture(task):
        (kaggle_dir / "train/real/camera/0.jpg").unlink(missing_ok=True)
        return build_shard(task)

    with pytest.raises(UserError, match=r"camera/0\.jpg: cannot be read"):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0, shard_function=lose_a_picture)
    assert not (tmp_path / "a.zarr").exists()
    assert Path(partial_name(tmp_path / "a.zarr")).exists()


def test_several_sources_and_one_class_only(tmp_path):
    make_kaggle_dir(tmp_path / "kaggle", per_source=2)
    own = tmp_path / "own"
    own.mkdir()
    draw_noise(77).save(own / "me.jpg")
    sources = [str(tmp_path / "kaggle"), f"real={own}"]
    store = open_store(build_store(sources, tmp_path / "a.zarr", SETTINGS, workers=0).path)
    assert "own" in store.columns["source"]
    with pytest.raises(UserError, match=r"no picture of class fake, \d+ of class real;"):
        build_store([f"real={own}"], tmp_path / "b.zarr", SETTINGS, workers=0)


def test_the_place_of_the_pictures_does_not_matter_for_the_features(tmp_path):
    make_kaggle_dir(tmp_path / "kaggle")
    build_store([str(tmp_path / "kaggle")], tmp_path / "a.zarr", SETTINGS, workers=0)
    shutil.move(tmp_path / "kaggle", tmp_path / "moved" / "kaggle")
    build_store([str(tmp_path / "moved/kaggle")], tmp_path / "b.zarr", SETTINGS, workers=0)
    one, other = open_store(tmp_path / "a.zarr"), open_store(tmp_path / "b.zarr")
    assert one.fingerprint == other.fingerprint
    assert (one.features[:] == other.features[:]).all()


def test_statistics_of_many_rows_take_some_of_all_parts():
    assert subsample_rows(np.arange(7), 100).tolist() == [0, 1, 2, 3, 4, 5, 6]
    rows = subsample_rows(np.arange(1, 5000, 2), 100)
    assert len(rows) == MAX_ROWS
    assert rows[0] == 1
    assert rows[-1] >= 4993
    assert set(np.diff(rows)) == {2, 4}
    assert subsample_rows(np.arange(1000), MAX_LEVELS // 4).tolist() == [0, 250, 500, 750]
    assert len(subsample_rows(np.arange(0), 100)) == 0
