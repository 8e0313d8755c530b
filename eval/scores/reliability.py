"""How far a probability and a threshold can be trusted: reliability, coverage, abstention, and the threshold in use.

The oracle's threshold, the best for the tested pictures, knows the answers: it is shown and never used.
"""

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from eval.scores.bootstrap import LEAST_USABLE, LEVEL, RESAMPLES, draw_counts, estimate_mean
from eval.scores.metrics import (
    CALIBRATION_BINS,
    accumulate_by_confidence,
    assign_calibration_bins,
    compute_roc_thresholds,
)
from eval.scores.rows import Scored

COVERAGE_GRID = np.linspace(0.05, 1, 20)


def compute_reliability(scored: Scored) -> list[dict]:
    """The reliability diagram: in bins of equal width, the probability said and the share of fakes found.

    Bins without a sample are left out.
    """
    bins = assign_calibration_bins(scored.probability_fake)
    described = []
    for number in np.unique(bins):
        part = scored[bins == number]
        described.append(
            {
                "low": float(number / CALIBRATION_BINS),
                "high": float((number + 1) / CALIBRATION_BINS),
                "samples": len(part),
                "mean_probability": float(part.probability_fake.mean()),
                "share_fake": estimate_mean(part.labels == 1, part.groups).to_dict(),
            }
        )
    return described


def compute_risk_coverage(scored: Scored) -> dict:
    """Share of mistakes among the surest pictures, against the share of pictures that is judged.

    Returns
    -------
    `coverage` and `risk`, one value a degree of sureness; `interval`, on a grid of coverages, or None
    """
    covered, wrong = accumulate_by_confidence(
        scored.labels, scored.probability_fake, np.ones((1, len(scored)), int), scored.threshold
    )
    bounds = _compute_risk_band(scored)
    return {
        "coverage": (covered[0] / len(scored)).tolist(),
        "risk": (wrong[0] / covered[0]).tolist(),
        "interval": bounds
        and {"coverage": COVERAGE_GRID.tolist(), "low": bounds[0].tolist(), "high": bounds[1].tolist()},
    }


def compute_abstention(scored: Scored) -> dict:
    """What the abstention band does: how many pictures are called unsure, and mistakes on those that are judged."""
    unsure = scored.calibration.is_unsure(scored.probability_fake)
    judged = scored[~unsure]
    wrong = judged.called_fake != (judged.labels == 1)
    return {
        "low": scored.calibration.low,
        "high": scored.calibration.high,
        "unsure": estimate_mean(unsure, scored.groups).to_dict(),
        "unsure_by_class": {
            name: estimate_mean(unsure[scored.labels == label], scored.groups[scored.labels == label]).to_dict()
            for label, name in enumerate(CLASS_NAMES)
        },
        "mistakes_when_judged": estimate_mean(wrong, judged.groups).to_dict(),
    }


def _compute_risk_band(scored: Scored) -> tuple[np.ndarray, np.ndarray] | None:
    if len(np.unique(scored.groups)) < 2:
        return None
    curves = []
    for counts in draw_counts(scored.groups):
        covered, wrong = accumulate_by_confidence(scored.labels, scored.probability_fake, counts, scored.threshold)
        for many, mistakes in zip(covered, wrong, strict=True):
            # The least coverage that reaches the grid's.
            place = np.searchsorted(many, COVERAGE_GRID * many[-1] - 1e-9)
            curves.append(mistakes[place] / many[place])
    if len(curves) < LEAST_USABLE * RESAMPLES:
        return None
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def compute_thresholds(scored: Scored) -> dict:
    """The calibration in use, and the oracle's threshold with its balanced accuracy, as they stand in `report.json`."""
    calibration = scored.calibration
    return {
        "value": calibration.threshold,
        "chosen": "on the run's validation pictures",
        "low": calibration.low,
        "high": calibration.high,
        "temperature": calibration.temperature,
        "oracle": _compute_oracle(scored),
    }


def _compute_oracle(scored: Scored) -> dict:
    false_positive, true_positive, thresholds = compute_roc_thresholds(scored.labels, scored.probability_fake)
    balanced = (1 - false_positive + true_positive) / 2
    best = np.flatnonzero(np.isclose(balanced, balanced.max(), rtol=0, atol=1e-12))
    nearest = best[np.abs(thresholds[best] - scored.threshold).argmin()]
    return {
        "threshold": float(thresholds[nearest]),
        "balanced_accuracy": float(balanced[nearest]),
        "used": False,
    }
