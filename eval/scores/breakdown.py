"""Scores of a set of rows, of its sources and of its JPEG qualities, as the JSON values of `report.json`."""

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from data_cards.image.jpeg import NO_QUALITY
from eval.scores.bootstrap import Estimate, compute_roc_band, estimate_mean, estimate_scores
from eval.scores.metrics import MAIN_SCORES, compute_confidence, compute_roc_curve, count_confusion
from eval.scores.rows import VERDICTS, Scored
from pipeline.features.variants import CONDITIONS

# Lowest and highest quality of each band, both within it.
QUALITY_BANDS = ((1, 49), (50, 69), (70, 84), (85, 94), (95, 100))
NO_JPEG = "no JPEG"
CONFUSION = ("real_called_real", "real_called_fake", "fake_called_real", "fake_called_fake")

VERDICT_COUNTS = tuple(f"{label}_{word}" for label in CLASS_NAMES for word in VERDICTS)

HISTOGRAM_BINS = 20
ROC_GRID = np.linspace(0, 1, 101)


def compute_evaluation(scored: Scored) -> dict:
    """Compute counts, confusion matrix and every score with its interval."""
    estimates = estimate_scored(scored)
    return {
        "pictures": scored.count_pictures(),
        "samples": len(scored),
        "samples_by_class": scored.count_by_class(),
        "confusion": dict(
            zip(CONFUSION, count_confusion(scored.labels, scored.probability_fake, scored.threshold), strict=True)
        ),
        "verdicts": _count_verdicts(scored),
        "scores": {name: estimate.to_dict() for name, estimate in estimates.items()},
    }


def _count_verdicts(scored: Scored) -> dict[str, int]:
    """Count the verdicts real, fake and unsure on each class."""
    cells = len(VERDICTS) * scored.labels.astype(int) + scored.verdicts
    return dict(zip(VERDICT_COUNTS, np.bincount(cells, minlength=len(VERDICT_COUNTS)).tolist(), strict=True))


def estimate_scored(scored: Scored) -> dict[str, Estimate]:
    """Estimate every score of the rows with its interval."""
    return estimate_scores(scored.labels, scored.probability_fake, scored.groups, scored.threshold)


def compute_by_source(scored: Scored) -> list[dict]:
    """Compute the scores of each source, which has one class: accuracy, and AUROC against all of the other class.

    The accuracy of a generator is the share of its pictures that are called fake.
    """
    sources = sorted(set(zip(scored.labels.tolist(), scored.columns["source"].tolist(), strict=True)))
    parts = []
    for label, source in sources:
        is_source = (scored.labels == label) & (scored.columns["source"] == source)
        own, against = scored[is_source], scored[is_source | (scored.labels != label)]
        accuracy, auroc = estimate_scored(own)["accuracy"], estimate_scored(against)["auroc"]
        parts.append(
            {
                "source": source,
                "class": CLASS_NAMES[label],
                "pictures": own.count_pictures(),
                "samples": len(own),
                "accuracy": accuracy.to_dict(),
                "auroc_against_other_class": auroc.to_dict(),
                **estimate_sure(own),
            }
        )
    return parts


def estimate_sure(scored: Scored) -> dict[str, dict]:
    """Estimate the share of rows with a sure verdict, and the share of wrong verdicts among these."""
    judged = scored[~scored.is_unsure]
    return {
        "sure": estimate_mean(~scored.is_unsure, scored.groups).to_dict(),
        "wrong_when_sure": estimate_mean(judged.is_wrong, judged.groups).to_dict(),
    }


def compute_by_variant(scored: Scored) -> list[dict]:
    """Compute the scores of the same pictures as they are, saved as JPEG 75 and after web processing.

    Returns
    -------
    For each of `CONDITIONS`, AUROC and calibration error, the share of sure verdicts, and the share of wrong verdicts
    among these and in the surest quarter of all; empty if the rows lack one of the conditions, or a class.
    """
    parts = {name: scored[scored.columns["variant"] == name] for name in CONDITIONS}
    if any(len(np.unique(part.labels)) < len(CLASS_NAMES) for part in parts.values()):
        return []
    found = []
    for name, part in parts.items():
        estimates = estimate_scored(part)
        confidence = compute_confidence(part.probability_fake, part.threshold)
        surest = part[np.argsort(-confidence, kind="stable")[: max(1, len(part) // 4)]]
        found.append(
            {
                "variant": name,
                "samples": len(part),
                **{score: estimates[score].to_dict() for score in ("auroc", "calibration_error")},
                **estimate_sure(part),
                "wrong_of_surest_quarter": estimate_mean(surest.is_wrong, surest.groups).to_dict(),
            }
        )
    return found


def compute_over_sources(scored: Scored) -> dict:
    """Compute scores with intervals over other sources: whole sources are drawn instead of pictures.

    Returns
    -------
    `sources`, their number by class, and `scores`; or `reason`, why there are no such intervals.
    """
    names = np.array(
        [f"{label}/{source}" for label, source in zip(scored.labels, scored.columns["source"], strict=True)]
    )
    counts = {
        name: len(np.unique(scored.columns["source"][scored.labels == label])) for label, name in enumerate(CLASS_NAMES)
    }
    alone = [name for name, count in counts.items() if count < 2]
    if alone:
        return {"sources": counts, "reason": f"{' and '.join(alone)}: all pictures from one source"}
    units = np.unique(names, return_inverse=True)[1]
    estimates = estimate_scores(scored.labels, scored.probability_fake, units, scored.threshold)
    return {"sources": counts, "scores": {name: estimates[name].to_dict() for name in MAIN_SCORES}}


def compute_by_quality(scored: Scored) -> list[dict]:
    """Compute the scores by JPEG quality of the last saving; bands without a sample are left out."""
    quality = scored.seen_quality
    bands = [(NO_JPEG, quality == NO_QUALITY)]
    bands += [(f"{low} to {high}", (quality >= low) & (quality <= high)) for low, high in QUALITY_BANDS]
    return [{"quality": name, **compute_evaluation(scored[chosen])} for name, chosen in bands if chosen.any()]


def compute_roc(scored: Scored) -> dict:
    """Compute the ROC curve, and the interval of its true-positive rate on a grid of false-positive rates."""
    false_positive, true_positive, _ = compute_roc_curve(scored.labels, scored.probability_fake)
    band = compute_roc_band(scored.labels, scored.probability_fake, scored.groups, ROC_GRID)
    return {
        "false_positive_rate": false_positive.tolist(),
        "true_positive_rate": true_positive.tolist(),
        "interval": band and {"false_positive_rate": ROC_GRID.tolist(), **band},
    }


def compute_histogram(scored: Scored) -> dict:
    """Count the samples of each class by their score, in bins of equal width from 0 to 1."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    return {
        "edges": edges.tolist(),
        **{
            name: np.histogram(scored.probability_fake[scored.labels == label], edges)[0].tolist()
            for label, name in enumerate(CLASS_NAMES)
        },
    }
