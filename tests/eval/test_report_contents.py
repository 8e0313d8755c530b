"""Every figure of `report.json` recomputed from its rows with scikit-learn and plain NumPy."""

import json

import numpy as np
import pytest
import torch
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.sklearn_scores import score_with_sklearn
from scipy.special import logit
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from eval.report.report import make_report
from pipeline.store.reader import open_store
from train.model.calibration import Calibration
from train.model.inference import compute_logits
from train.run.checkpoint import save_weights
from train.run.folder import load_detector, open_run


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("figures")
    store = make_store(
        folder / "features.zarr", variants=("clean", "jpeg-1"), pictures={"train": (8, 8), "test": (40, 30)}, size=16
    )
    run = make_run(folder / "run", store, seed=3)
    detector = load_detector(open_run(run), "cpu").plane_detector
    # As after a training: probabilities that are spread, a threshold beside a half, a band around it.
    opened = open_store(store)
    logits = compute_logits(detector, opened, opened.rows("test"), progress=False)
    log_odds = logits[:, 1] - logits[:, 0]
    with torch.no_grad():
        detector.network.fc.bias[1] -= np.median(log_odds)
    detector.calibration = Calibration(temperature=float(log_odds.std()), threshold=0.45, low=0.38, high=0.6)
    save_weights(detector, run, "best")
    report = make_report(run, device="cpu", progress=False)
    return json.loads(report.json.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def clean(figures) -> list[dict]:
    return [row for row in figures["rows"] if row["variant"] == "clean"]


def read(rows: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([row["label"] == "fake" for row in rows]), np.array([row["probability_fake"] for row in rows])


def test_probabilities_are_the_calibrated_logits(figures):
    threshold = figures["threshold"]
    for row in figures["rows"]:
        real, fake = row["logits"]
        probability = 1 / (1 + np.exp((real - fake) / threshold["temperature"]))
        assert row["probability_fake"] == pytest.approx(probability, abs=1e-12)
        if threshold["low"] < row["probability_fake"] < threshold["high"]:
            assert row["verdict"] == "unsure"
        else:
            assert row["verdict"] == ("fake" if row["probability_fake"] >= threshold["value"] else "real")


def test_the_calibration_is_the_runs_and_spreads_the_rows(figures, clean):
    found = {name: figures["threshold"][name] for name in ("value", "low", "high")}
    assert found == pytest.approx({"value": 0.45, "low": 0.38, "high": 0.6})
    assert {row["verdict"] for row in clean} == {"real", "fake", "unsure"}
    assert len(figures["reliability"]) > 2


def test_scores_at_the_runs_threshold(figures, clean):
    labels, scores = read(clean)
    expected = score_with_sklearn(labels, scores, figures["threshold"]["value"])
    found = figures["scopes"]["clean"]["scores"]
    assert {name: one["value"] for name, one in found.items()} == pytest.approx(expected, abs=1e-9)


def test_the_oracles_threshold_is_the_best_and_not_used(figures, clean):
    labels, scores = read(clean)
    oracle = figures["threshold"]["oracle"]
    best = max(sk.balanced_accuracy_score(labels, scores >= threshold) for threshold in scores)
    assert oracle["balanced_accuracy"] == pytest.approx(best)
    assert sk.balanced_accuracy_score(labels, scores >= oracle["threshold"]) == pytest.approx(best)
    assert oracle["used"] is False
    used = figures["scopes"]["clean"]["scores"]["balanced_accuracy"]["value"]
    assert used == pytest.approx(sk.balanced_accuracy_score(labels, scores >= figures["threshold"]["value"]))


def test_reliability_diagram_equals_that_of_the_rows(figures, clean):
    labels, scores = read(clean)
    shares, means = calibration_curve(labels, scores, n_bins=10)
    assert [one["mean_probability"] for one in figures["reliability"]] == pytest.approx(means)
    assert [one["share_fake"]["value"] for one in figures["reliability"]] == pytest.approx(shares)
    assert sum(one["samples"] for one in figures["reliability"]) == len(clean)
    weights = np.array([one["samples"] for one in figures["reliability"]]) / len(clean)
    error = figures["scopes"]["clean"]["scores"]["calibration_error"]["value"]
    assert error == pytest.approx(weights @ np.abs(shares - means))


def test_risk_coverage_equals_that_of_the_rows(figures, clean):
    labels, scores = read(clean)
    threshold = figures["threshold"]["value"]
    sureness = np.abs(logit(scores) - logit(threshold)).round(9)
    coverage = figures["coverage"]
    assert len(coverage["coverage"]) == len(np.unique(sureness))
    for least, covered, risk in zip(np.unique(sureness)[::-1], coverage["coverage"], coverage["risk"], strict=True):
        kept = sureness >= least
        assert covered == pytest.approx(kept.mean())
        assert risk == pytest.approx(1 - sk.accuracy_score(labels[kept], scores[kept] >= threshold))
    assert coverage["risk"][-1] == pytest.approx(1 - figures["scopes"]["clean"]["scores"]["accuracy"]["value"])
    at_80 = figures["scopes"]["clean"]["scores"]["risk_at_80_percent"]["value"]
    assert at_80 == coverage["risk"][np.searchsorted(coverage["coverage"], 0.8 - 1e-12)]
    band = coverage["interval"]
    for at, low, high in zip(band["coverage"], band["low"], band["high"], strict=True):
        assert low <= coverage["risk"][np.searchsorted(coverage["coverage"], at - 1e-12)] <= high


def test_abstention_band_equals_that_of_the_rows(figures, clean):
    labels, scores = read(clean)
    unsure = np.array([row["verdict"] == "unsure" for row in clean])
    found = figures["abstention"]
    assert found["unsure"]["value"] == pytest.approx(unsure.mean())
    assert found["unsure_by_class"]["real"]["value"] == pytest.approx(unsure[~labels].mean())
    assert found["unsure_by_class"]["fake"]["value"] == pytest.approx(unsure[labels].mean())
    called = scores[~unsure] >= figures["threshold"]["value"]
    assert found["mistakes_when_judged"]["value"] == pytest.approx(1 - sk.accuracy_score(labels[~unsure], called))


def test_intervals_over_sources_are_those_of_drawn_sources(figures, clean):
    labels, scores = read(clean)
    over = figures["over_sources"]
    assert over["sources"] == {"real": 2, "fake": 2}
    parts = [
        [row for row in clean if (row["label"], row["source"]) == unit]
        for unit in sorted({(row["label"], row["source"]) for row in clean})
    ]
    rng = np.random.default_rng(1)
    accuracies = []
    for _ in range(2000):
        drawn = [row for part in rng.integers(len(parts), size=len(parts)) for row in parts[part]]
        labels_drawn, scores_drawn = read(drawn)
        accuracies.append(sk.accuracy_score(labels_drawn, scores_drawn >= 0.45))
    accuracy = over["scores"]["accuracy"]
    assert accuracy["value"] == pytest.approx(sk.accuracy_score(labels, scores >= 0.45))
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(np.quantile(accuracies, [0.025, 0.975]), abs=0.02)


def test_what_decides_is_measured_on_calibrated_log_odds(figures, clean):
    own = {row["sha256"]: row["probability_fake"] for row in clean}
    assert len(figures["deciding"]["rows"]) == 40
    for row in figures["deciding"]["rows"]:
        assert row["log_odds"] == pytest.approx(logit(own[row["sha256"]]), abs=1e-4)


def test_every_generator_has_its_own_figures(figures, clean):
    for one in figures["sources"]["clean"]:
        own = [row for row in clean if (row["label"], row["source"]) == (one["class"], one["source"])]
        against = own + [row for row in clean if row["label"] != one["class"]]
        labels, scores = read(own)
        right = (scores >= figures["threshold"]["value"]) == labels
        assert one["accuracy"]["value"] == pytest.approx(right.mean())
        assert one["auroc_against_other_class"]["value"] == pytest.approx(sk.roc_auc_score(*read(against)))


def test_roc_and_histogram_equal_those_of_the_rows(figures, clean):
    labels, scores = read(clean)
    false_positive, true_positive, _ = sk.roc_curve(labels, scores, drop_intermediate=False)
    assert figures["roc"]["false_positive_rate"] == pytest.approx(false_positive)
    assert figures["roc"]["true_positive_rate"] == pytest.approx(true_positive)
    for name, chosen in (("real", ~labels), ("fake", labels)):
        assert figures["histogram"][name] == np.histogram(scores[chosen], figures["histogram"]["edges"])[0].tolist()
