"""A report's scores, computed with scikit-learn and SciPy alone."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import logit
from sklearn import metrics as sk

from train.model.calibration import THRESHOLD


def score_with_sklearn(labels: np.ndarray, probabilities: np.ndarray, threshold: float = THRESHOLD) -> dict[str, float]:
    called = probabilities >= threshold
    false_positive, true_positive, _ = sk.roc_curve(labels, probabilities, drop_intermediate=False)
    recall = sk.recall_score(labels, called, zero_division=0)
    return {
        "auroc": sk.roc_auc_score(labels, probabilities),
        "accuracy": sk.accuracy_score(labels, called),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, called),
        "average_precision": sk.average_precision_score(labels, probabilities),
        "f1": sk.f1_score(labels, called, zero_division=0),
        "false_positive_rate": 1 - sk.recall_score(1 - labels, ~called, zero_division=0),
        "false_negative_rate": 1 - recall,
        "tpr_at_1_percent": true_positive[false_positive <= 0.01 + 1e-12].max(),
        "tpr_at_5_percent": true_positive[false_positive <= 0.05 + 1e-12].max(),
        "equal_error_rate": brentq(
            lambda rate: rate + np.interp(rate, *steep(false_positive, true_positive)) - 1, 0, 1
        ),
        "brier": sk.brier_score_loss(labels, probabilities),
        "log_loss": sk.log_loss(labels, np.clip(probabilities, 1e-7, 1 - 1e-7)),
        "calibration_error": calibration_error(labels, probabilities),
        **risks(labels, probabilities, threshold),
    }


def steep(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve with its upright parts leaning a little, so that it is a function."""
    return x + np.arange(len(x)) * 1e-12, y


def calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    bins = np.digitize(probabilities, np.arange(1, 10) / 10)
    return sum(
        (bins == number).mean() * abs(labels[bins == number].mean() - probabilities[bins == number].mean())
        for number in np.unique(bins)
    )


def risks(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> dict[str, float]:
    """Shares of mistakes among the pictures at least as sure as each one, by the accuracy of those."""
    sureness = np.round(np.abs(logit(np.clip(probabilities, 1e-12, 1 - 1e-12)) - logit(threshold)), 9)
    own = [
        1 - sk.accuracy_score(labels[sureness >= one], probabilities[sureness >= one] >= threshold) for one in sureness
    ]
    kept = max(one for one in sureness if (sureness >= one).mean() >= 0.8 - 1e-9)
    return {"risk_coverage_area": np.mean(own), "risk_at_80_percent": own[sureness.tolist().index(kept)]}
