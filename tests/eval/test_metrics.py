"""Scores and their intervals, compared with scikit-learn and SciPy."""

import json

import numpy as np
import pytest
from helpers.sklearn_scores import score_with_sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binomtest
from sklearn import metrics as sk

from eval.scores.bootstrap import (
    RESAMPLES,
    compute_roc_band,
    draw_counts,
    estimate_difference,
    estimate_mean,
    estimate_scores,
    score_resamples,
)
from eval.scores.metrics import (
    CALIBRATION_ERROR,
    METRICS,
    compute_roc_curve,
    compute_scores,
    count_confusion,
    score_counts,
)
from train.model.calibration import THRESHOLD, Calibration


@st.composite
def scored_rows(draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of both classes, scores with ties, the threshold itself among them, and counts."""
    number = draw(st.integers(2, 30))
    labels = draw(st.lists(st.integers(0, 1), min_size=number, max_size=number))
    labels[:2] = [0, 1]
    levels = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.6, 0.75, 1.0])
    scores = draw(st.lists(levels, min_size=number, max_size=number))
    counts = draw(st.lists(st.integers(0, 3), min_size=number, max_size=number))
    counts[:2] = [max(count, 1) for count in counts[:2]]
    return np.array(labels), np.array(scores), np.array(counts)


@settings(deadline=None, max_examples=50)
@given(scored_rows(), st.sampled_from([0.05, 0.25, 0.5, 0.93]))
def test_scores_are_those_of_scikit_learn(drawn, threshold):
    labels, scores, _ = drawn
    expected = score_with_sklearn(labels, scores, threshold)
    assert compute_scores(labels, scores, threshold) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(scored_rows(), st.sampled_from([0.05, 0.25, 0.5, 0.93]))
def test_curves_and_counts_are_those_of_scikit_learn(drawn, threshold):
    labels, scores, _ = drawn
    false_positive, true_positive, thresholds = sk.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(compute_roc_curve(labels, scores), (false_positive, true_positive, thresholds))
    matrix = sk.confusion_matrix(labels, scores >= threshold, labels=(0, 1))
    assert count_confusion(labels, scores, threshold) == tuple(matrix.ravel())


@settings(deadline=None, max_examples=50)
@given(scored_rows())
def test_a_resample_scores_as_its_rows_repeated(drawn):
    labels, scores, counts = drawn
    both = np.stack([np.ones_like(counts), counts])
    found = score_counts(labels, scores, both)
    assert set(found) == set(METRICS)
    for number, repeats in enumerate(both):
        expected = score_with_sklearn(np.repeat(labels, repeats), np.repeat(scores, repeats))
        assert {name: values[number] for name, values in found.items()} == pytest.approx(expected, abs=1e-9)


def test_called_fake_from_the_threshold_on():
    around = np.array([0, np.nextafter(THRESHOLD, 0), THRESHOLD, 1])
    assert Calibration().is_fake(around).tolist() == [False, False, True, True]
    assert [Calibration().verdict(one) for one in around] == ["real", "real", "fake", "fake"]
    banded = Calibration(threshold=0.5, low=0.3, high=0.7)
    assert [banded.verdict(one) for one in (0.3, 0.4, 0.6, 0.7)] == ["real", "unsure", "unsure", "fake"]
    assert banded.is_unsure(np.array([0.3, 0.4, 0.6, 0.7])).tolist() == [False, True, True, False]
    assert count_confusion(np.array([0, 0, 1, 1, 1]), np.array([0.1, 0.5, 0.4, 0.5, 0.9])) == (1, 1, 1, 2)


def test_metrics_of_one_class_are_undefined():
    scores = compute_scores(np.zeros(3, int), np.array([0.2, 0.6, 0.1]))
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["false_positive_rate"] == pytest.approx(1 / 3)
    undefined = {"auroc", "average_precision", "balanced_accuracy", "f1", "false_negative_rate"}
    undefined |= {"tpr_at_1_percent", "tpr_at_5_percent", "equal_error_rate"}
    assert {name for name, value in scores.items() if value is None} == undefined
    scores = compute_scores(np.ones(2, int), np.array([0.2, 0.6]))
    assert scores["auroc"] is scores["average_precision"] is scores["false_positive_rate"] is None
    assert scores["f1"] == pytest.approx(2 / 3)


def test_groups_are_drawn_together_and_by_seed():
    groups = np.array([7, 7, 3, 9, 9, 9])
    counts = np.concatenate(list(draw_counts(groups, resamples=500, seed=1)))
    assert counts.shape == (500, 6)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.12)
    assert (np.concatenate(list(draw_counts(groups, 500, 1))) == counts).all()
    assert (np.concatenate(list(draw_counts(groups, 500, 2))) != counts).any()


def draw_rows(pictures: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(pictures) % 2
    return labels, np.clip(rng.normal(0.45 + 0.1 * labels, 0.2), 0, 1), np.arange(pictures)


def test_variants_of_a_picture_do_not_narrow_the_interval():
    labels, scores, groups = draw_rows(60)
    once = estimate_scores(labels, scores, groups)
    repeated = [np.repeat(values, 4) for values in (labels, scores, groups)]
    four_times = estimate_scores(*repeated)
    assert {name: (one.low, one.high) for name, one in four_times.items()} == {
        name: pytest.approx((one.low, one.high)) for name, one in once.items()
    }
    # Had each variant been taken for a picture of its own, the interval were half as wide. That of the calibration
    # error is cut at 0.
    alone = estimate_scores(*repeated[:2], np.arange(240))
    for name in set(METRICS) - {CALIBRATION_ERROR}:
        assert alone[name].high - alone[name].low < 0.7 * (once[name].high - once[name].low)


def test_interval_of_a_share_is_near_its_known_width():
    labels, scores, groups = draw_rows(1000)
    accuracy = estimate_scores(labels, scores, groups)["accuracy"]
    half = 1.96 * np.sqrt(accuracy.value * (1 - accuracy.value) / 1000)
    assert (accuracy.low, accuracy.high) == pytest.approx((accuracy.value - half, accuracy.value + half), abs=0.005)


@pytest.mark.parametrize("wrong", [0, 1])
def test_interval_of_a_share_on_which_all_pictures_agree_is_that_of_wilson(wrong):
    labels, groups = np.array([0] * 8 + [1] * 6), np.arange(14)
    groups[1] = groups[0]  # near-duplicates are one trial
    scores = np.where(labels == 1, 0.9, 0.1) if not wrong else np.where(labels == 1, 0.1, 0.9)
    found = estimate_scores(labels, scores, groups)
    shares = {
        "auroc": (1 - wrong, 6),
        "accuracy": (1 - wrong, 13),
        "false_positive_rate": (wrong, 7),
        "false_negative_rate": (wrong, 6),
    }
    for name, (share, trials) in shares.items():
        expected = binomtest(share * trials, trials).proportion_ci(method="wilson")
        assert (found[name].low, found[name].high) == pytest.approx((expected.low, expected.high))
    mean = estimate_mean(np.full(14, bool(wrong)), groups)
    expected = binomtest(13 * wrong, 13).proportion_ci(method="wilson")
    assert (mean.low, mean.high) == pytest.approx((expected.low, expected.high))
    assert estimate_mean(np.full(14, 1.0), groups).reason  # not a share


def test_metrics_without_a_class_are_none_and_never_nan():
    rng = np.random.default_rng(0)
    cases = {
        "one class": (np.zeros(6, int), rng.random(6), np.arange(6)),
        "one picture": (np.ones(4, int), rng.random(4), np.zeros(4, int)),
        "both classes in one group": (np.array([0, 1]), np.array([0.2, 0.7]), np.zeros(2, int)),
        "one of each": (np.array([0, 1]), np.array([0.2, 0.7]), np.arange(2)),
        "perfect": (np.array([0, 1] * 5), np.array([0.0, 1.0] * 5), np.arange(10)),
        "constant": (np.array([0, 1] * 5), np.full(10, 0.5), np.arange(10)),
    }
    for labels, scores, groups in cases.values():
        for estimate in estimate_scores(labels, scores, groups).values():
            plain = json.loads(json.dumps(estimate.to_dict(), allow_nan=False))
            if None in (plain["value"], plain["low"], plain["high"]) or plain["low"] == plain["high"]:
                assert plain["reason"]
            else:
                assert "reason" not in plain
    assert "one class" in estimate_scores(*cases["one class"])["auroc"].reason
    assert "one picture" in estimate_scores(*cases["one picture"])["accuracy"].reason
    assert "all resamples give the same value" in estimate_scores(*cases["constant"])["auroc"].reason


def test_difference_is_paired():
    labels, scores, groups = draw_rows(200)
    nothing = estimate_difference("auroc", labels, scores, scores.copy(), groups)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    # Almost the same scores: apart each interval is wide, the paired one of the difference is not.
    nearly = scores + 0.01 * np.random.default_rng(1).normal(size=200)
    lead = estimate_difference("auroc", labels, scores, nearly, groups)
    alone = estimate_scores(labels, scores, groups)["auroc"]
    assert lead.high - lead.low < 0.2 * (alone.high - alone.low)


def test_roc_lies_within_its_band_and_fits_its_area():
    labels, scores, groups = draw_rows(200)
    false_positive, true_positive, _ = compute_roc_curve(labels, scores)
    area = np.trapezoid(true_positive, false_positive)
    assert area == pytest.approx(compute_scores(labels, scores)["auroc"])
    grid = np.linspace(0, 1, 21)
    band = compute_roc_band(labels, scores, groups, grid)
    low, high = np.array(band["low"]), np.array(band["high"])
    place = np.searchsorted(false_positive, grid, side="right") - 1
    assert ((low <= true_positive[place]) & (true_positive[place] <= high)).all()
    assert compute_roc_band(np.zeros(3, int), np.arange(3.0), np.arange(3), grid) is None


def test_resamples_of_many_rows_come_in_chunks():
    labels, scores, groups = draw_rows(3000)
    draws = score_resamples(labels, scores, groups, resamples=RESAMPLES, names=("auroc",))["auroc"]
    assert draws.shape == (RESAMPLES,)
    assert np.median(draws) == pytest.approx(compute_scores(labels, scores)["auroc"], abs=0.005)


@pytest.mark.parametrize(("shift", "error", "least"), [(0.6, 0.111, 0.8), (0, 0, 0.25)])
def test_interval_of_the_calibration_error_allows_for_chance(shift, error, least):
    # `error` is that of a very large set.
    rng, found, reported = np.random.default_rng(0), [], []
    for _ in range(40):
        log_odds = rng.normal(0, 1.3, 100)
        labels = (rng.random(100) < expit(log_odds)).astype(int)
        estimate = estimate_scores(labels, expit(log_odds + shift), np.arange(100))[CALIBRATION_ERROR]
        assert 0 <= estimate.low < estimate.high
        found.append(estimate.low <= error + 1e-3 <= estimate.high)
        reported.append(estimate.low <= estimate.value <= estimate.high)
    # Without the correction: 0.7 and 0.
    assert np.mean(found) >= least
    assert np.mean(reported) >= 0.9
