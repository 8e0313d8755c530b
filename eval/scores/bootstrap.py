"""Percentile bootstrap intervals that resample pictures, not their variants.

The unit drawn is the near-duplicate group, which for most pictures is the picture alone with
all its variants: variants of one picture, or two copies of it, are no independent evidence.
Same rows, same seed: same draws, so that two scores of the same rows can be compared pairwise.

All resamples of a chunk are computed at once: scores are sorted once, and a resample is a
number of times that each row counts (Efron and Tibshirani 1993, chapter 13).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data_cards.core.seeding import FIXED_SEED
from eval.scores.metrics import METRICS, accumulate, compute_scores, score_counts
from train.model.calibration import THRESHOLD

RESAMPLES = 2000
LEVEL = 0.95

_CHUNK_ELEMENTS = 2_000_000  # bounds the memory: some 100 MB
# Resamples that lack a class leave a score undefined; below this share of usable ones there is no interval.
LEAST_USABLE = 0.5


@dataclass(frozen=True)
class Estimate:
    """A score with its interval; None where there is none, and then `reason` says why.

    Attributes
    ----------
    value : the score on the pictures themselves
    low, high : bounds of the interval
    reason : why value or bounds are missing, or what to mind about them
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict:
        """Plain values; `reason` only where there is one."""
        plain = {"value": self.value, "low": self.low, "high": self.high}
        return plain | ({"reason": self.reason} if self.reason else {})


def estimate_scores(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, Estimate]:
    """Every score of `METRICS` with its interval.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    probabilities : float (N,), probability of "fake"
    groups : int (N,), rows that are drawn together
    threshold : from which on a picture is called fake
    """
    values = compute_scores(labels, probabilities, threshold)
    draws = score_resamples(labels, probabilities, groups, threshold)
    return {name: compute_estimate(values[name], draws[name], groups) for name in METRICS}


def estimate_difference(
    name: str,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    thresholds: tuple[float, float] = (THRESHOLD, THRESHOLD),
) -> Estimate:
    """How much more the first probabilities score than the second on the same rows, with its paired interval."""
    return estimate_differences((name,), labels, first, second, groups, thresholds)[name]


def estimate_differences(
    names: Iterable[str],
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    thresholds: tuple[float, float] = (THRESHOLD, THRESHOLD),
    level: float = LEVEL,
) -> dict[str, Estimate]:
    """The same for several scores: both sides of every resample are scored on the same draw of groups."""
    names, differences = tuple(names), {}
    sides = list(zip((first, second), thresholds, strict=True))
    found = [compute_scores(labels, scores, threshold) for scores, threshold in sides]
    draws = [score_resamples(labels, scores, groups, threshold, names=names) for scores, threshold in sides]
    for name in names:
        values = [one[name] for one in found]
        value = None if None in values else values[0] - values[1]
        differences[name] = compute_estimate(value, draws[0][name] - draws[1][name], groups, level)
    return differences


def estimate_mean(values: np.ndarray, groups: np.ndarray) -> Estimate:
    """The mean of a number a row, such as the share of True, with its interval; none of no rows."""
    if not len(values):
        return Estimate(None, reason="not defined: no pictures")
    draws = np.concatenate([counts @ values / counts.sum(axis=1) for counts in draw_counts(groups)])
    return compute_estimate(float(np.mean(values)), draws, groups)


def compute_estimate(value: float | None, draws: np.ndarray, groups: np.ndarray, level: float = LEVEL) -> Estimate:
    """A score's value and its resampled values, NaN where undefined, as an estimate."""
    if value is None:
        return Estimate(None, reason="not defined: these pictures are all of one class")
    if len(np.unique(groups)) < 2:
        return Estimate(value, reason="no interval from one picture")
    usable = draws[~np.isnan(draws)]
    if len(usable) < LEAST_USABLE * len(draws):
        return Estimate(value, reason="no interval: most resamples of so few pictures lack a class")
    low, high = (float(bound) for bound in np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]))
    if low == high:
        return Estimate(value, low, high, "all resamples are alike, so the interval is too narrow to be believed")
    return Estimate(value, low, high)


def draw_counts(groups: np.ndarray, resamples: int = RESAMPLES, seed: int = FIXED_SEED) -> Iterator[np.ndarray]:
    """How often each row counts in each resample: int32 (R, N) chunks, `resamples` rows in all."""
    number = np.unique(groups, return_inverse=True)[1]
    units = int(number.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_ELEMENTS // len(groups))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = rng.integers(units, size=(rows, units)) + np.arange(rows)[:, None] * units
        counts = np.bincount(drawn.ravel(), minlength=rows * units).astype(np.int32)
        yield counts.reshape(rows, units)[:, number]


def score_resamples(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    threshold: float = THRESHOLD,
    resamples: int = RESAMPLES,
    seed: int = FIXED_SEED,
    names: tuple[str, ...] = tuple(METRICS),
) -> dict[str, np.ndarray]:
    """The named scores of every resample: float64 (resamples,), NaN where undefined."""
    parts = [score_counts(labels, probabilities, counts, threshold) for counts in draw_counts(groups, resamples, seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def compute_roc_band(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pointwise interval of the ROC curve: bounds of the true-positive rate at the rates of `grid`.

    None where most resamples lack a class.
    """
    curves = []
    for counts in draw_counts(groups):
        _, fakes, reals = accumulate(labels, probabilities, counts)
        for fake, real in zip(fakes, reals, strict=True):
            if fake[-1] and real[-1]:
                # The best that is reached at no more false positives than the grid allows.
                place = np.searchsorted(real, grid * real[-1], side="right") - 1
                curves.append(fake[place] / fake[-1])
    if len(curves) < LEAST_USABLE * RESAMPLES:
        return None
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
