"""Mean scores of runs that differ in their seeds, with intervals that include the luck of training.

A run's score varies with the pictures that it is tested on and with the seed that it was trained with. Resampling
pictures shows only the first variation. The second is estimated by the variance of several runs' scores: a Student t
deviate, scaled by the standard error of the runs' mean, is added to each resample. With few runs, the t distribution
has heavy tails, so the interval from two runs is wide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.core.seeding import FIXED_SEED
from eval.scores.bootstrap import LEVEL, Estimate, compute_estimate, score_resamples
from eval.scores.metrics import METRICS, UNBOUNDED, compute_scores
from eval.scores.rows import Scored


@dataclass(frozen=True)
class RunScores:
    """The scores of one run.

    Attributes
    ----------
    values : dict of str to float or None, by name of the score
    draws : dict of str to ndarray of float, shape (R,), their resampled values, NaN where undefined
    """

    values: dict[str, float | None]
    draws: dict[str, np.ndarray]


def score_run(scored: Scored) -> RunScores:
    """Score a run and its resamples, which draw the same pictures for every run that is scored on the same rows."""
    arguments = (scored.labels, scored.probability_fake)
    return RunScores(
        compute_scores(*arguments, scored.threshold), score_resamples(*arguments, scored.groups, scored.threshold)
    )


def estimate_group(runs: Sequence[RunScores], groups: np.ndarray) -> dict[str, Estimate]:
    """Estimate the mean score of several runs; the interval includes their spread.

    Parameters
    ----------
    runs : at least two
    groups : ndarray of int, shape (N,), near-duplicate group of each row
    """
    return {name: _estimate(name, (runs,), groups, LEVEL) for name in METRICS}


def estimate_group_differences(
    first: Sequence[RunScores], second: Sequence[RunScores], groups: np.ndarray, level: float
) -> dict[str, Estimate]:
    """Estimate the mean score of the first runs minus that of the second; a single run adds no spread."""
    return {name: _estimate(name, (first, second), groups, level) for name in METRICS}


def _estimate(name: str, sides: Sequence[Sequence[RunScores]], groups: np.ndarray, level: float) -> Estimate:
    values = [[run.values[name] for run in side] for side in sides]
    if any(None in side for side in values):
        return compute_estimate(None, np.array([]), groups, level)
    means = [np.mean(side) for side in values]
    draws = [np.mean([run.draws[name] for run in side], axis=0) for side in sides]
    value, draw = (one[0] - one[1] if len(sides) == 2 else one[0] for one in (means, draws))
    draw = draw + draw_training_luck(values, len(draw))
    if name not in UNBOUNDED:
        draw = np.clip(draw, -1 if len(sides) == 2 else 0, 1)
    return compute_estimate(float(value), draw, groups, level)


def draw_training_luck(values: Sequence[Sequence[float]], draws: int) -> np.ndarray:
    """Draw the changes that other seeds would make to a mean score, or to the difference of two mean scores.

    Parameters
    ----------
    values : scores of the runs of each side; a side of one run adds nothing
    draws : number of draws

    Returns
    -------
    ndarray of float64, shape (draws,): quantiles of a t distribution with the degrees of freedom of Welch and
    Satterthwaite, scaled by the standard error, in seeded order
    """
    squares = [(np.var(side, ddof=1) / len(side), len(side) - 1) for side in values if len(side) > 1]
    total = sum(square for square, _ in squares)
    if not total:
        return np.zeros(draws)
    from scipy.stats import t  # slow to import

    freedom = total**2 / sum(square**2 / degrees for square, degrees in squares)
    deviates = t.ppf((np.arange(draws) + 0.5) / draws, freedom)
    return np.sqrt(total) * np.random.default_rng(FIXED_SEED).permutation(deviates)
