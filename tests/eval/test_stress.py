"""The stress test: scores and flip rates of each condition, recomputed from the rows."""

import json

import numpy as np
import pytest
import zarr
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import make_kaggle_dir
from sklearn import metrics as sk

from eval.report.report import make_report
from eval.report.summary import summarise
from pipeline.builder.build import build_store
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings

CONDITIONS = ("clean", "jpeg-95", "jpeg-30", "double-jpeg", "web")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of a stress store in which the second condition blinds the detector."""
    folder = tmp_path_factory.mktemp("stress")
    store = make_store(folder / "a.zarr", pictures={"train": (8, 8), "test": (12, 14)}, variants=CONDITIONS)
    group = zarr.open_group(store, mode="r+")
    group.attrs["settings"] = {**group.attrs["settings"], "variants": "stress"}
    return make_report(make_run(folder / "run", store), device="cpu", progress=False)


def test_scores_can_be_recomputed_from_the_rows(report):
    figures = json.loads(report.json.read_text())
    assert [one["condition"] for one in figures["conditions"]] == list(CONDITIONS)
    clean = {row["picture"]: row["verdict"] for row in figures["rows"] if row["variant"] == "clean"}
    for one in figures["conditions"]:
        rows = [row for row in figures["rows"] if row["variant"] == one["condition"]]
        labels, scores = [row["label"] == "fake" for row in rows], [row["probability_fake"] for row in rows]
        assert one["scores"]["auroc"]["value"] == pytest.approx(sk.roc_auc_score(labels, scores))
        if one["flip_rate"] is None:
            assert one["condition"] == "clean"
            continue
        flips = np.mean([row["verdict"] != clean[row["picture"]] for row in rows])
        assert one["flip_rate"]["value"] == pytest.approx(flips)


def test_stress_has_every_family_and_strength(report):
    found = {one["condition"]: (one["family"], one["strength"]) for one in report.contents["conditions"]}
    assert found == {
        "clean": ("clean", None),
        "jpeg-95": ("jpeg", 95.0),
        "jpeg-30": ("jpeg", 30.0),
        "double-jpeg": ("double-jpeg", None),
        "web": ("web", None),
    }


def test_stress_report_page_shows_its_figures(report):
    page = report.html.read_text()
    assert "Under stress" in page
    assert page.count("double-jpeg") >= 1
    figures = dict(report.contents)
    for one in figures["conditions"][1:]:
        one["flip_rate"] = {"value": 0.1, "low": 0.05, "high": 0.2}
        one["scores"]["false_positive_rate"]["value"] = one["scores"]["false_negative_rate"]["value"] = 0.2
    blind = figures["conditions"][2]
    blind["flip_rate"]["value"] = 0.5
    blind["scores"]["false_positive_rate"]["value"] = 1.0
    words = " ".join(summarise(figures))
    assert "jpeg-30 changes most verdicts: 50 (95% interval 5 to 20) of 100" in words
    assert "After jpeg-30 it would call nearly all photographs generated" in words


def test_a_stress_store_holds_the_test_pictures_alone(tmp_path):
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=2)
    settings = BuildSettings(FeatureSettings(size=16), variants="stress")
    store = open_store(build_store([str(source)], tmp_path / "a.zarr", settings, workers=0).path)
    assert set(store.columns["split"]) == {"test"}
    assert len(store) == 8 * 23
    again = build_store([str(source)], tmp_path / "a.zarr", settings, workers=0)
    assert again.made == 0
