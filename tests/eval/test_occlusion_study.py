"""What decides on a set: recomputed from the rows, bounded, and found where it was hidden."""

import json

import numpy as np
import pytest
from helpers.make_run import make_run
from helpers.make_store import make_store
from sklearn import metrics as sk

from eval.explain.occlusion import BAND_EDGES
from eval.report.report import make_report


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("deciding")
    store = make_store(folder / "a.zarr", pictures={"train": (8, 8), "test": (9, 7)}, size=16)
    report = make_report(make_run(folder / "run", store), device="cpu", progress=False, explain_pictures=12)
    return json.loads(report.json.read_text(encoding="utf-8"))


def test_changes_can_be_recomputed_from_the_rows(figures):
    deciding = figures["deciding"]
    rows = deciding["rows"]
    assert deciding["samples_by_class"] == {"real": 6, "fake": 6}
    labels = np.array([row["label"] == "fake" for row in rows])
    whole = np.array([row["log_odds"] for row in rows])
    own = {row["sha256"]: row["probability_fake"] for row in figures["rows"]}
    assert 1 / (1 + np.exp(-whole)) == pytest.approx(np.array([own[row["sha256"]] for row in rows]), abs=1e-5)
    parts = [(one, [row["without_band"][number] for row in rows]) for number, one in enumerate(deciding["bands"])]
    parts += [(one, [row["without_kind"][one["kind"]] for row in rows]) for one in deciding["kinds"]]
    assert len(parts) == len(BAND_EDGES) - 1 + 3
    for one, without in parts:
        drop = sk.roc_auc_score(labels, whole) - sk.roc_auc_score(labels, without)
        assert one["auroc_drop"]["value"] == pytest.approx(drop)
        for name, chosen in (("real", ~labels), ("fake", labels)):
            change = np.mean((whole - without)[chosen])
            assert one["log_odds_change"][name]["value"] == pytest.approx(change)
            assert one["log_odds_change"][name]["low"] <= change <= one["log_odds_change"][name]["high"]


def test_rows_are_the_right_pictures_of_a_store_with_variants(tmp_path):
    store = make_store(
        tmp_path / "a.zarr", variants=("jpeg-1", "clean"), pictures={"train": (4, 4), "test": (4, 4)}, size=16
    )
    run = make_run(tmp_path / "run", store)
    figures = make_report(run, device="cpu", progress=False, explain_pictures=4).contents
    own = {row["sha256"]: row["probability_fake"] for row in figures["rows"] if row["variant"] == "clean"}
    for row in figures["deciding"]["rows"]:
        assert 1 / (1 + np.exp(-row["log_odds"])) == pytest.approx(own[row["sha256"]], abs=1e-6)


def test_report_without_explained_pictures_names_the_reason(tmp_path):
    run = make_run(tmp_path / "run", make_store(tmp_path / "a.zarr", size=16))
    for most in (0, 1):  # half of them of each class
        report = make_report(run, device="cpu", progress=False, explain_pictures=most)
        assert f"--explain-pictures {most}" in report.contents["deciding"]["reason"]
