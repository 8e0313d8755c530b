"""The JPEG-swap test: both classes saved as JPEG, from the picture files or from a stress store."""

import json

import numpy as np
import pytest
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import make_kaggle_dir
from PIL import Image
from sklearn import metrics as sk

from eval.report.report import make_report
from eval.scores.jpeg_swap import draw_jpeg_variant
from pipeline.builder.build import build_store
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.model.inference import predict_logits
from train.run.folder import load_detector, open_run

QUIET = {"device": "cpu", "progress": False, "explain_pictures": 0}
SIZE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures, their store, a run, and its report."""
    folder = tmp_path_factory.mktemp("swap")
    make_kaggle_dir(folder / "pictures")
    settings = BuildSettings(features=FeatureSettings(size=SIZE), variants="train")
    build_store([str(folder / "pictures")], str(folder / "a.zarr"), settings, workers=0)
    make_run(folder / "run", folder / "a.zarr")
    return folder


@pytest.fixture(scope="module")
def figures(folder) -> dict:
    return json.loads(make_report(folder / "run", **QUIET).json.read_text(encoding="utf-8"))


def test_every_picture_is_saved_as_drawn_and_fitted_as_in_a_build(folder, figures, tmp_path):
    rows = {row["sha256"]: row for row in figures["rows"] if row["variant"] == "clean"}
    swapped = figures["swap"]["rows"]
    assert {row["sha256"] for row in swapped} == set(rows)
    detector = load_detector(open_run(folder / "run"), "cpu").plane_detector
    for row in swapped[::5]:
        step = {name: row[name] for name in ("quality", "subsampling")}
        assert step == {name: draw_jpeg_variant(row["sha256"]).steps[0][name] for name in step}
        # Saved without loss after that, the file is what an ordinary build would have read.
        with Image.open(rows[row["sha256"]]["path"]) as picture:
            picture.convert("RGB").save(tmp_path / "once.jpg", **step)
        with Image.open(tmp_path / "once.jpg") as picture:
            picture.save(tmp_path / "again.png")
        levels = next(compute_features(tmp_path / "again.png", FeatureSettings(size=SIZE))).levels[0]
        assert row["logits"] == pytest.approx(predict_logits(detector, levels[None])[0], abs=1e-5)


def test_jpeg_swap_drop_equals_that_of_the_rows(figures):
    swap = figures["swap"]
    assert swap["samples_by_class"] == {"real": 8, "fake": 8}
    labels = [row["label"] == "fake" for row in swap["rows"]]
    after = [row["probability_fake"] for row in swap["rows"]]
    own = {row["sha256"]: row["probability_fake"] for row in figures["rows"] if row["variant"] == "clean"}
    before = [own[row["sha256"]] for row in swap["rows"]]
    auroc = swap["scores"]["auroc"]
    assert auroc["as_they_are"]["value"] == pytest.approx(sk.roc_auc_score(labels, before))
    assert auroc["saved_alike"]["value"] == pytest.approx(sk.roc_auc_score(labels, after))
    assert auroc["drop"]["value"] == pytest.approx(auroc["as_they_are"]["value"] - auroc["saved_alike"]["value"])
    assert auroc["drop"]["low"] <= auroc["drop"]["value"] <= auroc["drop"]["high"]


def test_jpeg_swap_draws_quality_independently_of_the_class():
    steps = [draw_jpeg_variant(f"{number:064x}").steps[0] for number in range(4000)]
    qualities = np.array([step["quality"] for step in steps])
    assert (qualities.min(), qualities.max()) == (60, 95)
    assert np.bincount(qualities, minlength=96)[60:].min() > 70  # 111 of each on average
    assert np.mean([step["subsampling"] == "4:2:0" for step in steps]) == pytest.approx(0.5, abs=0.04)
    assert draw_jpeg_variant("0a") == draw_jpeg_variant("0a")


def test_jpeg_swap_sample_is_bounded_and_balanced(folder, figures, tmp_path):
    part = make_report(folder / "run", out=tmp_path, swap_pictures=6, **QUIET).contents["swap"]
    assert part["samples_by_class"] == {"real": 3, "fake": 3}
    whole = {row["sha256"]: row for row in figures["swap"]["rows"]}
    for row in part["rows"]:
        assert row["logits"] == pytest.approx(whole[row["sha256"]]["logits"], abs=1e-5)


def test_jpeg_swap_leaves_out_missing_and_changed_pictures(folder, tmp_path):
    store = open_store(folder / "a.zarr")
    root = tmp_path / "pictures"
    make_kaggle_dir(root)
    build_store([str(root)], str(tmp_path / "a.zarr"), store.settings, workers=0)
    (root / "test/real/camera/0.jpg").unlink()
    (root / "test/fake/gan/1.png").write_bytes((root / "test/fake/gan/3.png").read_bytes())
    run = make_run(tmp_path / "run", tmp_path / "a.zarr")
    assert make_report(run, **QUIET).contents["swap"]["samples_by_class"] == {"real": 7, "fake": 7}
    for most in (1, 3):
        assert f"--swap-pictures is {most}" in make_report(run, swap_pictures=most, **QUIET).contents["swap"]["reason"]
    assert make_report(run, swap_pictures=4, **QUIET).contents["swap"]["samples_by_class"] == {"real": 2, "fake": 2}
    root.rename(tmp_path / "elsewhere")
    assert "were not found" in make_report(run, **QUIET).contents["swap"]["reason"]
    assert "--swap-pictures 0" in make_report(run, swap_pictures=0, **QUIET).contents["swap"]["reason"]


def test_jpeg_swap_of_a_class_with_one_picture_names_the_class(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "a.zarr", pictures={"train": (4, 4), "test": (1, 3)}))
    assert make_report(run, **QUIET).contents["swap"]["reason"].endswith("and a class has fewer")


def test_a_stress_store_has_its_own_condition(tmp_path):
    import zarr

    store = make_store(tmp_path / "a.zarr", variants=("clean", "jpeg-75"), size=16)
    group = zarr.open_group(store, mode="r+")
    group.attrs["settings"] = {**group.attrs["settings"], "variants": "stress"}
    figures = make_report(make_run(tmp_path / "run", store), **QUIET).contents
    saved = [row for row in figures["rows"] if row["variant"] == "jpeg-75"]
    assert [row["logits"] for row in figures["swap"]["rows"]] == [row["logits"] for row in saved]
    labels, scores = [row["label"] == "fake" for row in saved], [row["probability_fake"] for row in saved]
    found = figures["swap"]["scores"]["auroc"]["saved_alike"]["value"]
    assert found == pytest.approx(sk.roc_auc_score(labels, scores))
