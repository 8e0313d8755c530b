"""Reliability of probabilities, risk by coverage, abstention, and thresholds.

The oracle's threshold, the best for the tested pictures, depends on their labels, so it is shown but not used.
"""

from collections import Counter

import numpy as np

from data_cards.core.labels import CLASS_NAMES, FAKE
from eval.scores.bootstrap import compute_band, draw_counts, estimate_mean
from eval.scores.metrics import (
    CALIBRATION_BINS,
    accumulate_by_confidence,
    assign_calibration_bins,
    compute_roc_curve,
)
from eval.scores.rows import Scored

COVERAGE_GRID = np.linspace(0.05, 1, 20)


def compute_reliability(scored: Scored) -> list[dict]:
    """Compute the reliability diagram: mean probability and share of fakes, in the bins that hold samples."""
    bins = assign_calibration_bins(scored.probability_fake)
    diagram = []
    for number in np.unique(bins):
        part = scored[bins == number]
        diagram.append(
            {
                "low": float(number / CALIBRATION_BINS),
                "high": float((number + 1) / CALIBRATION_BINS),
                "samples": len(part),
                "mean_probability": float(part.probability_fake.mean()),
                "share_fake": estimate_mean(part.labels == FAKE, part.groups).to_dict(),
            }
        )
    return diagram


def compute_risk_coverage(scored: Scored) -> dict:
    """Compute the risk-coverage curve: share of mistakes among the surest pictures, by the share that is judged.

    Returns
    -------
    `coverage` and `risk`, one value per distinct confidence; `interval`, on a grid of coverages, or None
    """
    covered, wrong = accumulate_by_confidence(
        scored.labels, scored.probability_fake, np.ones((1, len(scored)), int), scored.threshold
    )
    band = _compute_risk_band(scored)
    return {
        "coverage": (covered[0] / len(scored)).tolist(),
        "risk": (wrong[0] / covered[0]).tolist(),
        "interval": band and {"coverage": COVERAGE_GRID.tolist(), **band},
    }


def compute_abstention(scored: Scored) -> dict:
    """Compute the share of pictures called unsure, and the share of mistakes among the others."""
    unsure = scored.is_unsure
    judged = scored[~unsure]
    reasons = Counter(reason for reason in scored.list_reasons() if reason is not None)
    return {
        "low": scored.calibration.band[0],
        "high": scored.calibration.band[1],
        "unsure": estimate_mean(unsure, scored.groups).to_dict(),
        "unsure_by_class": {
            name: estimate_mean(unsure[scored.labels == label], scored.groups[scored.labels == label]).to_dict()
            for label, name in enumerate(CLASS_NAMES)
        },
        "unsure_by_reason": {name: reasons[name] for name in sorted(reasons)},
        "judged": len(judged),
        "mistakes_when_judged": estimate_mean(judged.is_wrong, judged.groups).to_dict(),
    }


def _compute_risk_band(scored: Scored) -> dict[str, list[float]] | None:
    if len(np.unique(scored.groups)) < 2:
        return None
    curves = []
    for counts in draw_counts(scored.groups):
        covered, wrong = accumulate_by_confidence(scored.labels, scored.probability_fake, counts, scored.threshold)
        for many, mistakes in zip(covered, wrong, strict=True):
            # The least coverage that is at least the grid's.
            place = np.searchsorted(many, COVERAGE_GRID * many[-1] - 1e-9)
            curves.append(mistakes[place] / many[place])
    return compute_band(curves)


def compute_thresholds(scored: Scored) -> dict:
    """Return the calibration in use, and the oracle's threshold with its balanced accuracy."""
    calibration = scored.calibration
    return {
        "value": calibration.threshold,
        "chosen": "as even odds" if scored.parts else "on the run's validation pictures",
        "low": calibration.band[0],
        "high": calibration.band[1],
        "temperature": calibration.temperature,
        "oracle": _compute_oracle(scored),
    }


def _compute_oracle(scored: Scored) -> dict:
    curve = compute_roc_curve(scored.labels, scored.probability_fake)
    false_positive, true_positive, thresholds = (values[1:] for values in curve)  # from the highest score down
    balanced = (1 - false_positive + true_positive) / 2
    best = np.flatnonzero(np.isclose(balanced, balanced.max(), rtol=0, atol=1e-12))
    nearest = best[np.abs(thresholds[best] - scored.threshold).argmin()]
    return {
        "threshold": float(thresholds[nearest]),
        "balanced_accuracy": float(balanced[nearest]),
        "used": False,
    }
