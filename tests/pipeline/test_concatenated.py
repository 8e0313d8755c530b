"""Several stores as one: rows, statistics, pictures that two of them hold, and runs on them."""

import json

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.make_store import make_store
from helpers.pictures import make_kaggle_dir
from PIL import Image

from data_cards.core.errors import UserError
from eval.report.report import make_report
from pipeline.builder.build import build_store
from pipeline.features.settings import FeatureSettings
from pipeline.store.concatenated import LEFT_OUT, format_left_out, open_stores
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.cli import cli
from train.data.loader import read_batches
from train.run.folder import load_detector, open_run

SMALL = ["--batch-size", "8", "--device", "cpu", "--precision", "float32", "--epochs", "2", "--threads", "2",
         "--network", "small", "--experts", "off"]  # fmt: skip


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("joined")
    counts = {"train": (9, 7), "val": (3, 3), "test": (3, 3)}
    one = make_store(folder / "one.zarr", size=16, pictures=counts, variants=("clean", "jpeg-1"))
    counts = {"train": (2, 3), "val": (2, 2), "test": (2, 2)}
    return [str(one), str(make_store(folder / "two.zarr", size=16, pictures=counts, seed=1, first=100, shard=5))]


def replace_column(path: str, name: str, rows: np.ndarray, values: object) -> None:
    """Write other values into some rows of a store's column."""
    array = zarr.open_array(f"{path}/{name}", mode="r+")
    column = array[:]
    column[rows] = values
    array[:] = column


def test_rows_stand_one_store_after_the_other(paths):
    joined, parts = open_stores(paths), [open_store(path) for path in paths]
    assert len(joined) == sum(map(len, parts)) == 56 + 13
    features = np.concatenate([part.features[:] for part in parts])
    rows = np.array([0, 55, 56, 68, 3])
    for row in rows.tolist():
        np.testing.assert_array_equal(joined.features[row], features[row])
    np.testing.assert_array_equal(joined.features[60, :3], features[60, :3])
    (batch,) = read_batches(joined, [rows], kinds=["magnitude", "dct"])
    np.testing.assert_array_equal(batch.numpy(), features[rows][:, [0, 1, 2, 6, 7, 8]])
    for name in ("label", "split", "image", "variant"):
        assert joined.columns[name].tolist() == [value for part in parts for value in part.columns[name]]
    assert len(np.unique(joined.columns["picture"])) == 28 + 13
    assert joined.rows("train").tolist() == [*parts[0].rows("train"), *(56 + parts[1].rows("train"))]


def test_statistics_are_those_of_all_training_rows(paths):
    joined = open_stores(paths)
    values = np.stack([joined.features[row] for row in joined.rows("train").tolist()]).astype(np.float64)
    np.testing.assert_allclose(joined.mean, values.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(joined.std, values.std(axis=0), rtol=1e-4)


def test_a_store_without_training_rows_has_no_say_in_the_statistics(paths, tmp_path):
    other = make_store(tmp_path / "test.zarr", size=16, pictures={"test": (4, 4)}, seed=2, first=200)
    np.testing.assert_allclose(open_stores([paths[0], str(other)]).mean, open_store(paths[0]).mean, rtol=1e-6)


def test_open_stores_of_one_store_is_that_store(paths):
    assert open_stores(paths[:1]).fingerprint == open_store(paths[0]).fingerprint


@pytest.mark.parametrize("shared", ["split", "label"])
def test_a_picture_in_two_splits_or_classes_is_refused(paths, tmp_path, shared):
    other = str(make_store(tmp_path / "other.zarr", size=16, pictures={"train": (2, 2)}, seed=3, first=300))
    one = open_store(paths[0]).columns
    row = np.flatnonzero((one["split"] == ("val" if shared == "split" else "train")) & (one["label"] == 0))[0]
    replace_column(other, "sha256", np.array([0 if shared == "split" else 3]), one["sha256"][row])
    what = "train here, but val in" if shared == "split" else "fake here, but real in"
    with pytest.raises(UserError, match=rf"other\.zarr: train/.*\.jpg is {what} .*one\.zarr \(1 in all\)"):
        open_stores([paths[0], other])


def test_a_picture_that_both_hold_is_one(paths, tmp_path):
    other = str(make_store(tmp_path / "other.zarr", size=16, pictures={"train": (2, 2)}, seed=3, first=300))
    one = open_store(paths[0]).columns
    row = np.flatnonzero((one["split"] == "train") & (one["label"] == 0))[0]
    replace_column(other, "sha256", np.array([1]), one["sha256"][row])
    columns = open_stores([paths[0], other]).columns
    same = columns["picture"] == columns["picture"][row]
    assert np.flatnonzero(same).tolist() == [row, row + 1, 56 + 1]
    assert len(set(columns["group"][same])) == 1
    assert len(np.unique(columns["group"])) == 28 + 4 - 1


def test_near_duplicates_of_another_stores_held_out_pictures_are_left_out(tmp_path):
    stores = []
    for name, first in (("one", 0), ("two", 100)):
        folder = make_kaggle_dir(tmp_path / name, per_source=2, first_seed=first)
        if name == "two":  # the same scene as a test picture of the first, saved anew
            with Image.open(tmp_path / "one" / "test" / "fake" / "gan" / "1.png") as picture:
                picture.save(folder / "train" / "fake" / "gan" / "again.jpg", quality=90)
        settings = BuildSettings(FeatureSettings(size=16), variants="clean", val_fraction=0)
        stores.append(build_store([str(folder)], tmp_path / f"{name}.zarr", settings, workers=0).path)
    columns = open_stores(stores).columns
    left = np.flatnonzero(columns["split"] == LEFT_OUT)
    assert columns["image"][left].tolist() == ["train/fake/gan/again.jpg"]
    alike = np.flatnonzero(columns["group"] == columns["group"][left[0]])
    assert sorted(columns["image"][alike]) == ["test/fake/gan/1.png", "train/fake/gan/again.jpg"]
    assert columns["root"].tolist() == [0] * 16 + [1] * 17
    joined = open_stores(stores)
    (line,) = format_left_out(joined)
    assert line.startswith(f"{tmp_path / 'two.zarr'}: 1 picture (1 sample) left out: near-duplicates of validation or ")
    assert format_left_out(joined.parts[1]) == []
    assert joined.roots == (str(tmp_path / "one"), str(tmp_path / "two"))
    assert joined.picture_path(left[0]) == tmp_path / "two/train/fake/gan/again.jpg"
    assert [card["pictures"] for card in joined.cards] == [16, 17]
    assert not joined.is_simulated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"size": 32}, r"other\.zarr: built with size 32 instead of 16", id="size"),
        pytest.param({"fingerprint": f"{0:064x}"}, r"other\.zarr: named twice", id="a copy"),
    ],
)
def test_open_stores_of_different_settings_is_refused(paths, tmp_path, change, message):
    other = make_store(tmp_path / "other.zarr", **{"size": 16, "seed": 5, "first": 300, **change})
    with pytest.raises(UserError, match=message):
        open_stores([paths[0], str(other)])


def test_a_run_on_two_stores_is_recorded_resumed_and_reported(paths, tmp_path):
    run = tmp_path / "run"
    arguments = ["run", "--run", str(run), *SMALL, *(word for path in paths for word in ("--store", path))]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "21 training pictures" in result.stderr
    opened = open_run(run)
    assert opened.store_paths == tuple(paths)
    record = json.loads((run / "settings.json").read_text())["store"]
    assert record["fingerprints"] == [open_store(path).fingerprint for path in paths]
    assert opened.store_fingerprint == open_stores(paths).fingerprint
    mean = load_detector(opened, "cpu").plane_detector.normalise.mean
    np.testing.assert_array_equal(mean.numpy(), open_stores(paths).mean)
    assert CliRunner().invoke(cli, ["run", "--resume", "--run", str(run)]).exit_code == 0
    result = CliRunner().invoke(cli, ["run", "--resume", "--run", str(run), "--store", paths[0]])
    assert result.exit_code == 1
    assert "not the store that" in result.stderr
    figures = make_report(run, device="cpu", progress=False, explain_pictures=0, swap_pictures=0).contents
    assert len(figures["rows"]) == 12 + 4
    assert not any("changed since" in warning for warning in figures["warnings"])
    # Judged on one of its stores, the run has seen that one's validation pictures.
    figures = make_report(
        run, paths[1], "val", device="cpu", progress=False, explain_pictures=0, swap_pictures=0
    ).contents
    warning = next(one for one in figures["warnings"] if "4 of 4 pictures were in the run's training" in one)
    assert warning.endswith("the scores can be too high")  # there are none without leaked pictures
