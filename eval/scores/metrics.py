"""Scores of labels and probabilities, with "fake" as the positive class.

`METRICS` names every score. A new score is an entry there and a value in `score_counts`, which computes both the score
itself and the resamples of its interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit

from data_cards.core.labels import FAKE
from train.model.calibration import THRESHOLD, is_called_fake


@dataclass(frozen=True)
class Metric:
    """Title and meaning of a score; `percent`: whether it is shown as a percentage."""

    title: str
    meaning: str
    percent: bool = False


CALIBRATION_ERROR = "calibration_error"

METRICS = {
    "auroc": Metric(
        "AUROC",
        "how often a generated picture gets a higher score than a photograph; 0.5 is guessing, 1 is perfect",
    ),
    "accuracy": Metric("Accuracy", "share of pictures on the right side of the threshold", percent=True),
    "balanced_accuracy": Metric(
        "Balanced accuracy", "mean of the two classes' accuracies; 50% is guessing", percent=True
    ),
    "average_precision": Metric(
        "Average precision",
        "precision averaged over recall; guessing gives the share of generated pictures in the set",
    ),
    "f1": Metric("F1", "harmonic mean of precision and recall for the class fake"),
    "false_positive_rate": Metric(
        "Photographs called fake", "share of the photographs that are called fake", percent=True
    ),
    "false_negative_rate": Metric("Fakes missed", "share of the generated pictures that are called real", percent=True),
    "tpr_at_1_percent": Metric(
        "Fakes found at 1% false alarms",
        "share of the generated pictures found by the best threshold that calls at most 1% of the photographs fake",
        percent=True,
    ),
    "tpr_at_5_percent": Metric("Fakes found at 5% false alarms", "the same at 5%", percent=True),
    "equal_error_rate": Metric(
        "Equal error rate",
        "share of mistakes in each class, at the threshold where both are equal; 50% is guessing",
        percent=True,
    ),
    "brier": Metric("Brier score", "mean squared error of the probability; 0 is perfect, 0.25 is a constant 0.5"),
    "log_loss": Metric("Log loss", "mean negative log-likelihood; 0 is perfect, 0.693 is a constant 0.5"),
    CALIBRATION_ERROR: Metric(
        "Calibration error",
        "mean gap between the probability and the share of fakes, in ten bins; if there are few pictures, chance "
        "raises it; its interval allows for that",
    ),
    "risk_coverage_area": Metric(
        "Risk-coverage area",
        "share of mistakes among the surest pictures, averaged over how many of them are judged; 0 is perfect",
        percent=True,
    ),
    "risk_at_80_percent": Metric(
        "Mistakes on the surest 80%", "share of mistakes if the least sure fifth is not judged", percent=True
    ),
}
UNBOUNDED = ("log_loss",)  # all other scores are from 0 to 1
FALSE_ALARMS = {"tpr_at_1_percent": 0.01, "tpr_at_5_percent": 0.05}
OF_ORDER = ("auroc", "average_precision", *FALSE_ALARMS, "equal_error_rate")  # the order of the pictures decides them
CALIBRATION_BINS = 10
# Shown of each source, JPEG quality and stress condition.
MAIN_SCORES = ("auroc", "accuracy", "false_positive_rate", "false_negative_rate")

COVERAGE = 0.8  # at which the risk-coverage curve is reported

_LOG_LOSS_CLIP = 1e-7  # least distance of a probability from 0 and 1 in the log loss
_CONFIDENCE_CLIP = 1e-12  # the same in the confidence
_DECIMALS = 9  # of the confidence, so that the same distance on both sides of the threshold is a tie


def compute_scores(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, float | None]:
    """Compute every score of `METRICS`; None if a missing class leaves it undefined.

    Parameters
    ----------
    labels : ndarray of int, shape (N,), 0 real, 1 fake
    probabilities : ndarray of float, shape (N,), probability of "fake"
    threshold : float, probability from which on a picture is called fake
    """
    scores = score_counts(labels, probabilities, _unit_counts(labels), threshold)
    return {name: None if np.isnan(scores[name][0]) else float(scores[name][0]) for name in METRICS}


def score_counts(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """Compute the scores where row i counts `counts[r, i]` times, for each r: float64 (R,), NaN where undefined."""
    called, fake_called, real_called = accumulate(labels, probabilities, counts)
    fakes, reals = fake_called[:, -1], real_called[:, -1]
    place = int(is_called_fake(called, threshold).sum())  # descending; the first column is "none called"
    fake_right, real_wrong = fake_called[:, place], real_called[:, place]
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = rates_from_counts(reals - real_wrong, real_wrong, fakes - fake_right, fake_right)
        steps = np.diff(fake_called, axis=1)
        # Trapezoids under the ROC curve: ties count half.
        heights = fake_called[:, 1:] + fake_called[:, :-1]
        area = np.einsum("rk,rk->r", np.diff(real_called, axis=1), heights, dtype=np.float64) / 2
        scores["auroc"] = area / (fakes.astype(np.float64) * reals)
        total = np.maximum(fake_called + real_called, 1)[:, 1:]
        precision = np.einsum("rk,rk->r", steps, fake_called[:, 1:] / total) / fakes
        curves = rates_from_curve(real_called / reals[:, None], fake_called / fakes[:, None])
        scores |= {name: np.where(fakes * reals > 0, values, np.nan) for name, values in curves.items()}
        scores |= scores_from_probabilities(labels, probabilities, counts)
        scores |= rates_from_coverage(*accumulate_by_confidence(labels, probabilities, counts, threshold))
        # Undefined without photographs, from which the fakes are to be distinguished.
        scores["average_precision"] = np.where(reals > 0, precision, np.nan)
    return scores


def accumulate(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cumulate the fakes and reals that are called fake as the threshold falls.

    Returns
    -------
    scores : ndarray of float, shape (K,), the distinct scores, descending
    fakes, reals : ndarray of int32, shape (R, K + 1), called fake above every score (none), then from each score on
    """
    order = np.argsort(-probabilities, kind="stable")
    ordered = probabilities[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    counts = counts[:, order]
    of_fakes = counts * (labels[order] == 1)

    def sum_up(part: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(part), len(ends) + 1), dtype=np.int32)
        sums[:, 1:] = np.cumsum(part, axis=1, dtype=np.int32)[:, ends]
        return sums

    return ordered[ends], sum_up(of_fakes), sum_up(counts - of_fakes)


def count_confusion(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD
) -> tuple[int, int, int, int]:
    """Count the confusion matrix: real called real, real called fake, fake called real, fake called fake."""
    cells = 2 * (labels == FAKE) + is_called_fake(probabilities, threshold)
    return tuple(np.bincount(cells, minlength=4).tolist())


def rates_from_counts(
    real_right: np.ndarray, real_wrong: np.ndarray, fake_wrong: np.ndarray, fake_right: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the scores of the confusion matrix, for one matrix or many; NaN where 0 is divided by 0."""
    false_positive = real_wrong / (real_right + real_wrong)
    false_negative = fake_wrong / (fake_right + fake_wrong)
    return {
        "accuracy": (real_right + fake_right) / (real_right + real_wrong + fake_right + fake_wrong),
        "balanced_accuracy": 1 - (false_positive + false_negative) / 2,
        # Without a fake, F1 would be 0 with a false alarm and undefined with none: neither measures the detector.
        "f1": np.where(np.isnan(false_negative), np.nan, 2 * fake_right / (2 * fake_right + real_wrong + fake_wrong)),
        "false_positive_rate": false_positive,
        "false_negative_rate": false_negative,
    }


def rates_from_curve(false_positive: np.ndarray, true_positive: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of ROC curves, float (R, K) each from 0 to 1; NaN where the curve is undefined.

    The equal error rate is interpolated linearly between two points.
    """
    rows = np.arange(len(false_positive))
    scores = {}
    for name, most in FALSE_ALARMS.items():
        place = (false_positive <= most + 1e-12).sum(axis=1) - 1
        scores[name] = true_positive[rows, place]
    excess = false_positive + true_positive - 1  # false positives over misses; rises from -1 to 1
    before = np.clip((excess <= 0).sum(axis=1) - 1, 0, excess.shape[1] - 2)
    start, end = excess[rows, before], excess[rows, before + 1]
    share = np.where(end > start, -start / np.where(end > start, end - start, 1), 0)
    low, high = false_positive[rows, before], false_positive[rows, before + 1]
    scores["equal_error_rate"] = low + share * (high - low)
    return scores


def scores_from_probabilities(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute the scores of the probabilities themselves where row i counts `counts[r, i]` times, for each r."""
    total = counts.sum(axis=1)
    errors = labels - probabilities
    said = np.clip(np.where(labels == FAKE, probabilities, 1 - probabilities), _LOG_LOSS_CLIP, 1 - _LOG_LOSS_CLIP)
    gaps = np.zeros((len(labels), CALIBRATION_BINS))
    gaps[np.arange(len(labels)), assign_calibration_bins(probabilities)] = errors
    return {
        "brier": counts @ errors**2 / total,
        "log_loss": counts @ -np.log(said) / total,
        CALIBRATION_ERROR: np.abs(counts @ gaps).sum(axis=1) / total,
    }


def compute_confidence(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """Compute the distance of each probability from the threshold in log-odds: float64 (N,), at least 0."""
    log_odds = logit(np.clip(probabilities, _CONFIDENCE_CLIP, 1 - _CONFIDENCE_CLIP))
    return np.abs(log_odds - logit(np.clip(threshold, _CONFIDENCE_CLIP, 1 - _CONFIDENCE_CLIP))).round(_DECIMALS)


def accumulate_by_confidence(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cumulate pictures judged, and mistakes among them, as the least confidence that is judged falls.

    Row i counts `counts[r, i]` times. Pictures of equal confidence are judged together.

    Returns
    -------
    covered, wrong : ndarray of int, shape (R, K), at each of the K distinct confidences, descending
    """
    confidence = compute_confidence(probabilities, threshold)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    counts = counts[:, order]
    mistaken = (is_called_fake(probabilities, threshold) != (labels == FAKE))[order]
    return np.cumsum(counts, axis=1)[:, ends], np.cumsum(counts * mistaken, axis=1)[:, ends]


def rates_from_coverage(covered: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the scores of the two arrays of `accumulate_by_confidence`, for each of their rows."""
    total = covered[:, -1:]
    risk = wrong / np.maximum(covered, 1)
    place = (covered < COVERAGE * total - 1e-9).sum(axis=1)
    return {
        # Geifman and El-Yaniv 2017: the risk at every picture's own coverage, averaged.
        "risk_coverage_area": (np.diff(covered, axis=1, prepend=0) * risk).sum(axis=1) / total[:, 0],
        "risk_at_80_percent": risk[np.arange(len(risk)), place],
    }


def assign_calibration_bins(probabilities: np.ndarray) -> np.ndarray:
    """Return the number of each probability's bin, of `CALIBRATION_BINS` of equal width."""
    return np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def compute_roc_curve(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the ROC curve: false-positive rates, true-positive rates and thresholds, from infinity down."""
    scores, fakes, reals = accumulate(labels, probabilities, _unit_counts(labels))
    return reals[0] / reals[0, -1], fakes[0] / fakes[0, -1], np.append(np.inf, scores)


def _unit_counts(labels: np.ndarray) -> np.ndarray:
    """Return counts of one for every row, int32 (1, N)."""
    return np.ones((1, len(labels)), dtype=np.int32)
