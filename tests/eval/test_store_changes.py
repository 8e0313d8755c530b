"""Reports on a store that has changed since the run was trained."""

import json
import shutil

import pytest
import zarr
from helpers.make_run import make_experts_run
from helpers.make_store import SMALL_BUILD, make_store
from helpers.pictures import make_kaggle_dir

from data_cards.core.files import RUN_SETTINGS
from eval.report.report import make_report
from eval.scores.store_changes import format_store_changes
from pipeline.builder.build import build_store
from pipeline.builder.card import write_card
from pipeline.features.settings import FeatureSettings
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.run.folder import read_run
from train.run.run_stores import find_training_store

QUIET = {"device": "cpu", "progress": False, "swap_pictures": 0}


@pytest.fixture
def run(store, tmp_path):
    """A run on the store of `kaggle_dir`."""
    return make_experts_run(tmp_path / "run", store)


def grow(store, tmp_path, first_seed=100):
    """Add four training and four test pictures of each class to a store."""
    more = make_kaggle_dir(tmp_path / f"more-{first_seed}", per_source=2, first_seed=first_seed)
    build_store([str(more)], store, SMALL_BUILD, workers=0)


def report_on(run, store=None, split="test"):
    return make_report(run, store, split, **QUIET).contents


def test_report_on_a_grown_store_counts_the_added_pictures(run, store, tmp_path):
    before = open_store(store)
    columns, hashes = before.columns, before.perceptual_hashes
    grow(store, tmp_path)
    report = report_on(run)
    [warning] = report["warnings"]
    assert f"<code>train run --store {store}</code>" in (run / "report.html").read_text()
    assert f"{store}: 16 pictures were added since {run} was trained" in warning
    assert f"`train run --store {store}`" in warning
    assert (report["audit"], report["training_sources"]) == (None, {"real": 2, "fake": 2})
    earlier = find_training_store(read_run(run), open_store(store))
    assert len(earlier) == len(before)
    assert earlier.fingerprint == before.fingerprint
    for name in ("sha256", "split", "group"):
        assert earlier.columns[name].tolist() == columns[name].tolist()
    assert (earlier.perceptual_hashes == hashes).all()
    known, all_of_it = (len(one.rows("val")) for one in (earlier, open_store(store)))
    assert 0 < known < all_of_it
    assert f"{known} of {all_of_it} pictures were in the run's training" in report_on(run, split="val")["warnings"][-1]
    moved = store.rename(tmp_path / "moved.zarr")
    assert f"{moved}: 16 pictures were added since" in report_on(run, moved)["warnings"][0]


def test_report_on_a_store_built_again_with_other_settings_knows_its_pictures(run, store, kaggle_dir, tmp_path):
    other = BuildSettings(FeatureSettings(size=32), variants="clean", val_fraction=0.25)
    build_store([str(kaggle_dir)], tmp_path / "other.zarr", other, workers=0)
    record = json.loads((run / RUN_SETTINGS).read_text())
    record["train"]["where"] = ["variant=jpeg-75"]  # which the other store does not have
    (run / RUN_SETTINGS).write_text(json.dumps(record))
    trained = find_training_store(read_run(run), open_store(tmp_path / "other.zarr"))
    assert (trained.path, trained.cards) == (str(store), open_store(store).cards)
    store.rename(tmp_path / "gone.zarr")
    report = report_on(run, tmp_path / "other.zarr")
    assert report["warnings"] == []
    assert report["training_sources"] == {"real": 2, "fake": 2}


def test_report_on_a_store_that_lost_pictures_says_what_is_unknown(run, store, kaggle_dir):
    next((kaggle_dir / "train" / "real" / "camera").iterdir()).unlink()
    build_store([str(kaggle_dir)], store, SMALL_BUILD, workers=0)
    [warning] = report_on(run)["warnings"]
    assert f"since {run} was trained, this store was replaced by one with other pictures, splits or" in warning
    assert "(32 pictures then, 31 now)" in warning
    assert f"to be certain, train a run on this store: `train run --store {store}`" in warning


def test_training_stores_of_which_one_has_grown_are_found(store, tmp_path):
    paths = (str(store), str(make_store(tmp_path / "b.zarr", size=16)))
    before = open_stores(paths)
    run = make_experts_run(tmp_path / "run", before)
    rows = len(before)
    grow(store, tmp_path)
    found = find_training_store(read_run(run), open_stores(paths))
    assert (len(found), found.fingerprint) == (rows, before.fingerprint)


def test_warning_about_a_replaced_store_does_not_read_its_card(tmp_path):
    run = make_experts_run(tmp_path / "run", make_store(tmp_path / "a.zarr"))
    shutil.rmtree(tmp_path / "a.zarr")
    write_card(zarr.open_group(make_store(tmp_path / "a.zarr", seed=1), mode="r+"), {"pictures": "many"})
    other = open_store(make_store(tmp_path / "b.zarr", seed=2))
    [warning] = format_store_changes(read_run(run), other, None)
    assert "(48 pictures then, 48 now)" in warning
