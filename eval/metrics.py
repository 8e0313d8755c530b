"""Scores from labels and probabilities; "fake" is the positive class throughout.

The threshold on the probability stands here once. `METRICS` names every score; a new one is an
entry there, a value in `compute_scores` and, for its interval, one in `score_resamples`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logit
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score, roc_curve

from data_cards.labels import CLASS_NAMES

# A picture is called fake from this probability on.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Metric:
    """What a score is called and means; `percent`: shown as a share of 100."""

    title: str
    meaning: str
    percent: bool = False


METRICS = {
    "auroc": Metric(
        "AUROC",
        "how often a generated picture gets a higher score than a photograph; 0.5 is guessing, 1 is perfect",
    ),
    "accuracy": Metric("Accuracy", "share of pictures whose verdict is right", percent=True),
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
        "Equal error rate", "share of mistakes where both kinds are as frequent; 50% is guessing", percent=True
    ),
    "brier": Metric("Brier score", "mean squared error of the probability; 0 is perfect, 0.25 is always saying 0.5"),
    "log_loss": Metric("Log loss", "mean negative log-likelihood; 0 is perfect, 0.693 is always saying 0.5"),
    "calibration_error": Metric(
        "Calibration error",
        "mean gap between the probability said and the share of fakes found at it, in ten bins",
    ),
    "risk_coverage_area": Metric(
        "Risk-coverage area",
        "share of mistakes among the surest pictures, averaged over how many of them are judged; 0 is perfect",
        percent=True,
    ),
    "risk_at_80_percent": Metric(
        "Mistakes on the surest 80%", "share of mistakes where the least sure fifth is not judged", percent=True
    ),
}
FALSE_ALARMS = {"tpr_at_1_percent": 0.01, "tpr_at_5_percent": 0.05}
CALIBRATION_BINS = 10

COVERAGE = 0.8  # of the metric that stands for the curve

_SUREST = 1e-7  # probabilities are taken no nearer to 0 or 1 by the log loss
_NEAREST = 1e-12  # likewise by the sureness
_DECIMALS = 9  # of the sureness, so that the same distance on both sides of the threshold is a tie


def give_verdict(probability_fake: float, threshold: float = THRESHOLD) -> str:
    """ "fake" from the threshold on, else "real"."""
    return CLASS_NAMES[int(probability_fake >= threshold)]


def compute_scores(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, float | None]:
    """Every score of `METRICS`; None where it is not defined, for want of a class.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    probabilities : float (N,), probability of "fake"
    threshold : from which on a picture is called fake
    """
    counts = count_verdicts(labels, probabilities, threshold)
    with np.errstate(invalid="ignore"):
        scores = rates_from_counts(*(np.float64(count) for count in counts))
    both = len(np.unique(labels)) == len(CLASS_NAMES)
    scores["auroc"] = roc_auc_score(labels, probabilities) if both else np.nan
    scores["average_precision"] = average_precision_score(labels, probabilities) if both else np.nan
    if both:
        false_positive, true_positive = trace_roc(labels, probabilities)
        found = rates_from_curve(false_positive[None], true_positive[None])
        scores |= {name: values[0] for name, values in found.items()}
    else:
        scores |= dict.fromkeys([*FALSE_ALARMS, "equal_error_rate"], np.nan)
    found = scores_from_probabilities(labels, probabilities, np.ones((1, len(labels))))
    scores |= {name: values[0] for name, values in found.items()}
    covered, wrong = accumulate_surest(labels, probabilities, np.ones((1, len(labels)), int), threshold)
    scores |= {name: values[0] for name, values in rates_from_coverage(covered, wrong).items()}
    return {name: None if np.isnan(scores[name]) else float(scores[name]) for name in METRICS}


def count_verdicts(
    labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD
) -> tuple[int, int, int, int]:
    """Confusion matrix as numbers: real called real, real called fake, fake called real, fake called fake."""
    matrix = confusion_matrix(labels, probabilities >= threshold, labels=range(len(CLASS_NAMES)))
    return tuple(int(count) for count in matrix.ravel())


def rates_from_counts(
    real_right: np.ndarray, real_wrong: np.ndarray, fake_wrong: np.ndarray, fake_right: np.ndarray
) -> dict[str, np.ndarray]:
    """Scores that follow from the confusion matrix, for one matrix or many; NaN where 0 is divided by 0."""
    false_positive = real_wrong / (real_right + real_wrong)
    false_negative = fake_wrong / (fake_right + fake_wrong)
    return {
        "accuracy": (real_right + fake_right) / (real_right + real_wrong + fake_right + fake_wrong),
        "balanced_accuracy": 1 - (false_positive + false_negative) / 2,
        # Without a fake, F1 would be 0 by one false alarm and undefined without: no score of the detector.
        "f1": np.where(np.isnan(false_negative), np.nan, 2 * fake_right / (2 * fake_right + real_wrong + fake_wrong)),
        "false_positive_rate": false_positive,
        "false_negative_rate": false_negative,
    }


def rates_from_curve(false_positive: np.ndarray, true_positive: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that follow from ROC curves, float (R, K) each from 0 to 1; NaN where the curve is undefined.

    The equal error rate is taken where the straight line between two points crosses.
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
    """Scores of the probabilities themselves where row i counts `counts[r, i]` times, for each r."""
    total = counts.sum(axis=1)
    errors = labels - probabilities
    said = np.clip(np.where(labels == 1, probabilities, 1 - probabilities), _SUREST, 1 - _SUREST)
    gaps = np.zeros((len(labels), CALIBRATION_BINS))
    gaps[np.arange(len(labels)), calibration_bin(probabilities)] = errors
    return {
        "brier": counts @ errors**2 / total,
        "log_loss": counts @ -np.log(said) / total,
        "calibration_error": np.abs(counts @ gaps).sum(axis=1) / total,
    }


def measure_sureness(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """How far each probability is from the threshold, in log-odds: float64 (N,), at least 0."""
    log_odds = logit(np.clip(probabilities, _NEAREST, 1 - _NEAREST))
    return np.abs(log_odds - logit(np.clip(threshold, _NEAREST, 1 - _NEAREST))).round(_DECIMALS)


def accumulate_surest(
    labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures judged, and mistakes among them, as less and less sure ones are judged.

    Row i counts `counts[r, i]` times. Equally sure pictures are judged together.

    Returns
    -------
    covered, wrong : int (R, K), at each of the K distinct degrees of sureness, descending
    """
    sureness = measure_sureness(probabilities, threshold)
    order = np.argsort(-sureness, kind="stable")
    ordered = sureness[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    counts = counts[:, order]
    mistaken = ((probabilities >= threshold) != (labels == 1))[order]
    return np.cumsum(counts, axis=1)[:, ends], np.cumsum(counts * mistaken, axis=1)[:, ends]


def rates_from_coverage(covered: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that follow from the two arrays of `accumulate_surest`, for each of their rows."""
    total = covered[:, -1:]
    risk = wrong / np.maximum(covered, 1)
    place = (covered < COVERAGE * total - 1e-9).sum(axis=1)
    return {
        # Geifman and El-Yaniv 2017: the risk at every picture's own coverage, averaged.
        "risk_coverage_area": (np.diff(covered, axis=1, prepend=0) * risk).sum(axis=1) / total[:, 0],
        "risk_at_80_percent": risk[np.arange(len(risk)), place],
    }


def calibration_bin(probabilities: np.ndarray) -> np.ndarray:
    """Which of the bins of equal width each probability falls into."""
    return np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)


def trace_roc(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ROC curve: false-positive and true-positive rates, float64 (K,), both from 0 to 1."""
    false_positive, true_positive, _ = roc_curve(labels, probabilities, drop_intermediate=False)
    return false_positive, true_positive


def trace_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ROC curve's rates at every threshold that is a score, descending: three float64 (K,)."""
    false_positive, true_positive, thresholds = roc_curve(labels, probabilities, drop_intermediate=False)
    return false_positive[1:], true_positive[1:], thresholds[1:]  # the first, above every score, is infinite
