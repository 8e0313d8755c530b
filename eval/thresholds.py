"""The threshold: the run's own, chosen on validation pictures, beside the best that the tested ones would have had.

The second, the oracle's, knows the answers: it is shown and never used.
"""

import numpy as np

from eval.metrics import trace_thresholds
from eval.score import Scored


def describe_threshold(scored: Scored) -> dict:
    """The calibration in use, and the oracle's threshold with its balanced accuracy, as they stand in `report.json`."""
    calibration = scored.calibration
    return {
        "value": calibration.threshold,
        "chosen": "on the run's validation pictures",
        "low": calibration.low,
        "high": calibration.high,
        "temperature": calibration.temperature,
        "oracle": _find_oracle(scored),
    }


def _find_oracle(scored: Scored) -> dict:
    false_positive, true_positive, thresholds = trace_thresholds(scored.labels, scored.probability_fake)
    balanced = (1 - false_positive + true_positive) / 2
    best = np.flatnonzero(np.isclose(balanced, balanced.max(), rtol=0, atol=1e-12))
    nearest = best[np.abs(thresholds[best] - scored.threshold).argmin()]
    return {
        "threshold": float(thresholds[nearest]),
        "balanced_accuracy": float(balanced[nearest]),
        "used": False,
    }
