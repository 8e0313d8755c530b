"""Stress test: scores of the same pictures under each condition of a stress store.

A condition is a variant of the `stress` recipe. Conditions of one family, such as JPEG, are ordered by strength, so
that they form curves.
"""

from eval.scores.bootstrap import estimate_mean
from eval.scores.breakdown import estimate_scored
from eval.scores.metrics import MAIN_SCORES
from eval.scores.rows import Scored
from pipeline.features.variants import CLEAN


def compute_by_condition(scored: Scored) -> list[dict]:
    """Compute the scores of every condition, in the recipe's order, and how often it changes a verdict.

    Parameters
    ----------
    scored : Scored, rows of a stress store, with every picture in every condition

    Returns
    -------
    For each condition its name, `family` and `strength` (None for a family of one condition), the scores, and
    `flip_rate`: the share of pictures whose verdict (real, fake or unsure) differs from the clean picture's.
    """
    names = list(dict.fromkeys(scored.columns["variant"].tolist()))
    clean = scored[scored.is_clean].sort_by_picture()
    conditions = []
    for name in names:
        part = scored[scored.columns["variant"] == name].sort_by_picture()
        estimates = estimate_scored(part)
        flips = part.verdicts != clean.verdicts
        family, strength = _split_name(name)
        conditions.append(
            {
                "condition": name,
                "family": family,
                "strength": strength,
                "samples": len(part),
                "scores": {score: estimates[score].to_dict() for score in MAIN_SCORES},
                "flip_rate": None if name == CLEAN.name else estimate_mean(flips, part.groups).to_dict(),
            }
        )
    return conditions


def _split_name(name: str) -> tuple[str, float | None]:
    family, _, strength = name.rpartition("-")
    try:
        return (family, float(strength)) if family else (name, None)
    except ValueError:
        return name, None
