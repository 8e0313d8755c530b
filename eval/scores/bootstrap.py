"""Percentile bootstrap intervals that resample pictures, not their variants.

A resample draws near-duplicate groups: for most pictures, the picture with all its variants. Variants of a picture, or
copies of it, are not independent evidence. The same rows and seed give the same draws, so two scores of the same rows
can be compared pairwise.

All resamples of a chunk are computed at once: scores are sorted once, and a resample is a vector of how often each
row counts (Efron and Tibshirani 1993, chapter 13).

If a share or an AUROC is 0 or 1, every resample gives the same value. Then the interval is Wilson's (1927), with each
group (or pair of groups) as one trial.

The calibration error is a mean of absolute gaps, so chance raises it, and resampling raises it a second time. Its
resampled values are lowered by twice the second rise, which estimates both (Efron and Tibshirani 1993, chapter 10).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from data_cards.core.labels import FAKE
from data_cards.core.seeding import FIXED_SEED
from eval.scores.metrics import CALIBRATION_ERROR, METRICS, accumulate, compute_scores, score_counts
from train.model.calibration import THRESHOLD, compute_wilson_interval

RESAMPLES = 2000
LEVEL = 0.95

_CHUNK_ELEMENTS = 2_000_000  # bounds the memory: some 100 MB
LEAST_USABLE = 0.5  # share of the resamples that must hold both classes, else there is no interval


@dataclass(frozen=True)
class Estimate:
    """A score with its interval.

    Attributes
    ----------
    value : float or None, the score on the pictures themselves
    low, high : float or None, bounds of the interval
    reason : str or None, why value or bounds are missing, or a warning about them
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def to_dict(self) -> dict:
        """Return JSON values; `reason` only where there is one."""
        plain = {"value": self.value, "low": self.low, "high": self.high}
        return plain | ({"reason": self.reason} if self.reason else {})


def estimate_scores(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, Estimate]:
    """Estimate every score of `METRICS` with its interval.

    Parameters
    ----------
    labels : ndarray of int, shape (N,), 0 real, 1 fake
    probabilities : ndarray of float, shape (N,), probability of "fake"
    groups : ndarray of int, shape (N,), rows of the same group are drawn together
    threshold : float, probability from which on a picture is called fake
    """
    values = compute_scores(labels, probabilities, threshold)
    draws = score_resamples(labels, probabilities, groups, threshold)
    real, fake = groups[labels != FAKE], groups[labels == FAKE]
    # The groups of the rows (of the pairs, for the AUROC) of which each score is a share. Without using a group twice,
    # there are as many pairs as the smaller class has groups.
    counted = {
        "auroc": min(real, fake, key=lambda one: len(np.unique(one))),
        "accuracy": groups,
        "false_positive_rate": real,
        "false_negative_rate": fake,
    }
    return {name: compute_estimate(values[name], draws[name], groups, share_of=counted.get(name)) for name in METRICS}


def estimate_difference(
    name: str,
    labels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    groups: np.ndarray,
    thresholds: tuple[float, float] = (THRESHOLD, THRESHOLD),
) -> Estimate:
    """Estimate the score of the first probabilities minus that of the second, with a paired interval."""
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
    """Estimate differences of several scores; both sides of a resample are scored on the same draw of groups."""
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
    """Estimate the mean of one number per row, or the share of True if they are bool; undefined without rows."""
    if not len(values):
        return Estimate(None, reason="not defined: no pictures")
    draws = np.concatenate([counts @ values / counts.sum(axis=1) for counts in draw_counts(groups)])
    return compute_estimate(float(np.mean(values)), draws, groups, share_of=groups if values.dtype == bool else None)


def compute_estimate(
    value: float | None,
    draws: np.ndarray,
    groups: np.ndarray,
    level: float = LEVEL,
    share_of: np.ndarray | None = None,
) -> Estimate:
    """Compute the estimate of a score.

    Parameters
    ----------
    value : float or None, the score itself; None if undefined
    draws : ndarray of float, shape (R,), its resampled values, NaN where undefined
    groups : ndarray of int, shape (N,), of the rows that were resampled
    level : float, of the interval
    share_of : ndarray of int or None, the groups of these rows if the score is a share of rows
    """
    if value is None:
        return Estimate(None, reason="not defined: these pictures are all of one class")
    if len(np.unique(groups)) < 2:
        return Estimate(value, reason="no interval from one picture")
    usable = draws[~np.isnan(draws)]
    if len(usable) < LEAST_USABLE * len(draws):
        return Estimate(value, reason="no interval: most resamples of so few pictures lack a class")
    low, high = (float(bound) for bound in np.quantile(usable, [(1 - level) / 2, (1 + level) / 2]))
    if low == high and share_of is not None and value in (0, 1):
        return Estimate(value, *map(float, compute_wilson_interval(value, len(np.unique(share_of)), level)))
    if low == high:
        return Estimate(value, low, high, "all resamples give the same value, so there is no usable interval")
    return Estimate(value, low, high)


def draw_counts(groups: np.ndarray, resamples: int = RESAMPLES, seed: int = FIXED_SEED) -> Iterator[np.ndarray]:
    """Draw how often each row counts in each resample; yield int32 chunks (R, N), with `resamples` rows in total."""
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
    """Compute the named scores of every resample: float64 (resamples,), NaN where undefined.

    Those of the calibration error are lowered by what chance and resampling add to it.
    """
    parts = [score_counts(labels, probabilities, counts, threshold) for counts in draw_counts(groups, resamples, seed)]
    draws = {name: np.concatenate([part[name] for part in parts]) for name in names}
    if CALIBRATION_ERROR in draws:
        errors, value = draws[CALIBRATION_ERROR], compute_scores(labels, probabilities, threshold)[CALIBRATION_ERROR]
        draws[CALIBRATION_ERROR] = np.maximum(errors - 2 * max(errors.mean() - value, 0), 0)
    return draws


def compute_band(curves: list[np.ndarray]) -> dict[str, list[float]] | None:
    """Compute the pointwise interval, `low` and `high`, of resampled curves; None if most resamples have no curve."""
    if len(curves) < LEAST_USABLE * RESAMPLES:
        return None
    low, high = np.quantile(curves, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {"low": low.tolist(), "high": high.tolist()}


def compute_roc_band(
    labels: np.ndarray, probabilities: np.ndarray, groups: np.ndarray, grid: np.ndarray
) -> dict[str, list[float]] | None:
    """Compute the pointwise interval of the true-positive rate at the false-positive rates of `grid`."""
    curves = []
    for counts in draw_counts(groups):
        _, fakes, reals = accumulate(labels, probabilities, counts)
        for fake, real in zip(fakes, reals, strict=True):
            if fake[-1] and real[-1]:
                # The best rate with no more false positives than the grid allows.
                place = np.searchsorted(real, grid * real[-1], side="right") - 1
                curves.append(fake[place] / fake[-1])
    return compute_band(curves)
