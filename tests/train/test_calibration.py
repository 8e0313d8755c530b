"""Calibration: known answers, and its way through the files of a run."""

import numpy as np
import pytest
import torch

from train.model.calibration import Calibration, compute_source_shift, fit_calibration, probability_fake
from train.model.plane_detector import PlaneDetector


def logits_of(log_odds) -> np.ndarray:
    log_odds = np.asarray(log_odds, dtype=np.float64)
    return np.stack([-log_odds / 2, log_odds / 2], axis=1)


def loss_of(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    fake = probability_fake(logits / temperature)
    return -np.log(np.where(labels == 1, fake, 1 - fake)).mean()


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_factor(factor):
    # At each log-odds z the share sigmoid(z) of 1000 pictures is fake: calibrated already.
    odds = np.log([1 / 4, 2 / 3, 3 / 2, 4])
    labels = np.concatenate([np.arange(1000) < 1000 * share for share in (0.2, 0.4, 0.6, 0.8)]).astype(int)
    logits = logits_of(np.repeat(odds, 1000) * factor)
    found = fit_calibration(logits, labels)
    assert found.temperature == pytest.approx(factor, rel=1e-6)
    np.testing.assert_allclose(np.unique(found.probability(logits)), [0.2, 0.4, 0.6, 0.8], rtol=1e-6)
    assert loss_of(logits, labels, found.temperature) < loss_of(logits, labels, found.temperature * 1.05)
    assert loss_of(logits, labels, found.temperature) < loss_of(logits, labels, found.temperature / 1.05)


def test_without_a_mistake_scores_stay_as_sure_as_they_are():
    found = fit_calibration(logits_of([-3, -1, 2, 5] * 25), np.array([0, 0, 1, 1] * 25))
    assert found == Calibration(1.0, 0.5, 0.5, 0.5)
    assert found.format_band() == "nothing is unsure"
    assert [found.verdict(p) for p in (0.1, 0.4999, 0.5, 0.9)] == ["real", "real", "fake", "fake"]


def test_scores_that_mean_nothing_are_pulled_to_a_half():
    found = fit_calibration(logits_of([5, 5, -5, -5]), np.array([0, 0, 1, 1]))
    assert found.temperature == 20
    # Nothing may be said surely: even the highest score is a photograph's.
    assert [found.verdict(p) for p in found.probability(logits_of([-5, 0, 5]))] == ["unsure"] * 3


def test_the_threshold_maximises_balanced_accuracy():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], (300, 60))  # unbalanced, and all of it shifted towards "fake"
    logits = logits_of(rng.normal(np.where(labels == 1, 3.0, 1.0), 1.0))
    found = fit_calibration(logits, labels)
    p = found.probability(logits)

    def balanced(threshold: float) -> float:
        return ((p[labels == 0] < threshold).mean() + (p[labels == 1] >= threshold).mean()) / 2

    best = max(balanced(threshold) for threshold in [0.5, *p, *np.nextafter(p, 2)])
    assert balanced(found.threshold) == pytest.approx(best)
    assert balanced(found.threshold) > balanced(0.5) + 0.05


def test_fit_calibration_sets_the_unsure_band():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 200)
    logits = logits_of(rng.normal(np.where(labels == 1, 1.0, -1.0), 1.5))
    found = fit_calibration(logits, labels)
    p = found.probability(logits)
    real, fake = p[labels == 0], p[labels == 1]
    assert (real >= found.high).mean() <= 0.05 < (real >= np.nextafter(found.high, 0)).mean()
    assert (fake <= found.low).mean() <= 0.05 < (fake <= np.nextafter(found.low, 1)).mean()
    assert found.low < found.threshold < found.high
    words = [found.verdict(one) for one in (found.low, np.nextafter(found.low, 1), found.threshold, found.high)]
    assert words == ["real", "unsure", "unsure", "fake"]
    assert found.format_band() == f"unsure between {found.low:.3f} and {found.high:.3f}"
    assert Calibration(1.0, 0.5, 0.0, 0.9).format_band() == "unsure between 0.000 and 0.900, never real"
    assert Calibration(1.0, 0.5, 0.0, 1.0).format_band() == "always unsure"


def test_word_and_threshold_never_disagree():
    # 100 photographs, of which 6 at 0.9; fakes: 80 far above and 20 below all. The best threshold is high.
    odds = np.concatenate([np.full(94, 0.0), np.full(6, 2.0), np.full(80, 4.0), np.full(20, -4.0)])
    labels = np.repeat([0, 1], 100)
    for sign, classes in ((1, labels), (-1, 1 - labels)):
        found = fit_calibration(logits_of(sign * odds), classes)
        assert found.low <= found.threshold <= found.high


def test_sources_that_differ_make_scores_less_sure():
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 4000)
    sources = labels * 8 + np.tile(np.repeat(np.arange(8), 500), 2)
    same = rng.normal(np.where(labels == 1, 1.5, -1.5), 1.0)
    shifts = rng.normal(0, 1.0, 16)
    shifts -= np.repeat(shifts.reshape(2, 8).mean(axis=1), 8)
    assert compute_source_shift(same, labels, sources) == pytest.approx(0, abs=0.01)
    wanted = shifts.reshape(2, 8).var(axis=1, ddof=1).mean() * (1 + 1 / 8)
    shifted = same + shifts[sources]
    assert compute_source_shift(shifted, labels, sources) == pytest.approx(wanted, rel=0.1)
    bare, found = fit_calibration(logits_of(shifted), labels), fit_calibration(logits_of(shifted), labels, sources)
    spread = compute_source_shift(shifted / bare.temperature, labels, sources)
    assert found.temperature == pytest.approx(bare.temperature * np.sqrt(1 + np.pi / 8 * spread))
    # A picture's variants are no further pictures.
    copies = np.repeat(np.arange(len(labels)), 4)
    assert compute_source_shift(shifted[copies], labels[copies], sources[copies], copies) == pytest.approx(
        compute_source_shift(shifted, labels, sources), rel=0.01
    )


def test_one_source_a_class_tells_of_no_shift():
    labels = np.array([0, 0, 1, 1, 0, 1])
    logits = logits_of([-1, 2, 1, 3, -2, -1])
    assert fit_calibration(logits, labels, labels) == fit_calibration(logits, labels)


@pytest.mark.parametrize("pictures", [24, 25])  # the interval of 0 wrong of 25 ends below 10 %
def test_few_validation_pictures_allow_no_sure_verdict(pictures):
    labels = np.tile([0, 1], pictures)
    logits, number = logits_of(np.where(labels == 1, 4.0, -4.0)), np.arange(len(labels))
    assert fit_calibration(logits, labels).is_always_unsure == (pictures == 24)
    # Variants are no further pictures.
    rows = np.repeat(number, 4)
    assert fit_calibration(logits[rows], labels[rows], None, rows) == fit_calibration(logits, labels)
    # Only the verdict that the other class's pictures could prove wrong is left out.
    more = np.concatenate([number, number[labels == 1]])
    found = fit_calibration(logits[more], labels[more])
    assert [found.verdict(p) for p in (0.0, 1.0)] == ["real", "unsure" if pictures == 24 else "fake"]


def test_scores_that_do_not_separate_the_classes_allow_no_sure_verdict():
    rng = np.random.default_rng(5)
    labels, sources = np.repeat([0, 1], 400), np.repeat(np.arange(16), 50)
    guesses = logits_of(rng.normal(0, 3, 800))
    found = fit_calibration(guesses, labels)
    assert found.is_always_unsure
    assert found.format_band() == "always unsure"
    assert {found.verdict(p) for p in (0.0, 0.5, 1.0)} == {"unsure"}
    # Better than guessing on these pictures, but no more than their sources differ by chance.
    of_source = np.array([-3, -1, 1, 3, -3, -1, 1, 5, 3, 1, -1, -3, 3, 1, -1, 0])[sources]
    shifted = logits_of(of_source + rng.normal(0, 0.2, 800))
    assert not fit_calibration(shifted + logits_of(0.5 * labels), labels).is_always_unsure
    assert fit_calibration(shifted + logits_of(0.5 * labels), labels, sources).is_always_unsure


@pytest.mark.parametrize(
    "values",
    [
        *[(0.0, 0.5, 0.5, 0.5), (1.0, 0.2, 0.3, 0.5), (1.0, 0.5, 0.5, float("nan"))],
        *[(1e-300, 0.5, 0.5, 0.5), (1.0, 0.5, 0.5, 2.0), (1.0, 0.5, -1.0, 0.5), (1.0, 2.0, 2.0, 2.0)],
    ],
)
def test_calibration_out_of_range_is_refused(values):
    with pytest.raises(ValueError, match=r"expected temperature 0\.05 to 20"):
        Calibration(*values)


def test_calibration_is_saved_with_the_weights():
    mean = np.zeros((9, 16, 16), np.float32)
    detector, other = PlaneDetector(mean, mean), PlaneDetector(mean, mean)
    assert detector.calibration == Calibration()
    detector.calibration = Calibration(1 / 3, 0.6, 0.1, np.nextafter(0.9, 1))
    other.load_state_dict(detector.state_dict())
    assert other.calibration == detector.calibration
    for damaged in (torch.zeros(4), torch.ones(3), torch.tensor([float("nan")] * 4)):
        with pytest.raises(ValueError, match=r"expected temperature|of shape"):
            other.load_state_dict({**detector.state_dict(), "_extra_state": damaged})
