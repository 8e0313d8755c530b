"""Scores of the detection study: AUROC by pairs of sources, intervals over sources, calibration, wrong verdicts."""

import numpy as np

from train.recipe.experts import weigh_sources

UNSURE = -1  # word
RESAMPLES = 1000
SURE_SHARE = 0.25  # "the surest quarter"
BINS = 10  # of probability, for the calibration error


def compare(fake: np.ndarray, real: np.ndarray) -> float:
    """Return the AUROC of the scores of generated pictures against those of photographs."""
    difference = fake[:, None] - real[None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def compare_sources(
    folds: list[tuple[np.ndarray, np.ndarray]], labels: np.ndarray, sources: np.ndarray
) -> tuple[np.ndarray, list[str], list[str]]:
    """Average the AUROC of each pair of sources over the folds that left both out.

    Parameters
    ----------
    folds : rows and their scores, of each fold
    labels, sources : (N,), of all rows

    Returns
    -------
    float (fakes, reals), NaN where no fold had both; names of the generators; names of the collections
    """
    fakes, reals = (sorted(set(sources[labels == label].tolist())) for label in (1, 0))
    total, count = np.zeros((len(fakes), len(reals))), np.zeros((len(fakes), len(reals)))
    for rows, scores in folds:
        by_source = {name: scores[sources[rows] == name] for name in set(sources[rows].tolist())}
        for i, fake in enumerate(fakes):
            for j, real in enumerate(reals):
                if fake in by_source and real in by_source:
                    total[i, j] += compare(by_source[fake], by_source[real])
                    count[i, j] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), fakes, reals


def find_interval(values: np.ndarray) -> list[float]:
    """Return the 95 % interval of the mean of (fakes, reals) or (collections,), each axis resampled.

    A further first axis of random starts of training is resampled too.
    """
    rng = np.random.default_rng(0)
    means = []
    for _ in range(RESAMPLES):
        drawn = values[np.ix_(*(rng.integers(0, side, side) for side in values.shape))]
        if np.isfinite(drawn).any():
            means.append(np.nanmean(drawn))
    return np.percentile(means, [2.5, 97.5]).tolist() if means else [float("nan")] * 2


def find_lowest(values: np.ndarray, fakes: list[str], reals: list[str]) -> tuple[str, float]:
    """Return the source whose mean AUROC is lowest, and that."""
    means = {}
    for names, lines in ((fakes, values), (reals, values.T)):
        means |= {name: np.nanmean(line) for name, line in zip(names, lines, strict=True) if np.isfinite(line).any()}
    lowest = min(means, key=means.get)
    return lowest, float(means[lowest])


def measure_honesty(probability: np.ndarray, word: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> dict:
    """Measure calibration error, coverage and wrong shares, with equal weight for sources of a class and for classes.

    Parameters
    ----------
    probability, word, labels, sources : (N,); words 0 real, 1 fake, -1 unsure
    """
    weights = weigh_sources(labels, sources)
    weights /= weights.sum()
    box = np.minimum((probability * BINS).astype(int), BINS - 1)
    error = sum(abs((weights * (box == one) * (probability - labels)).sum()) for one in range(BINS))
    sure = word != UNSURE
    covered = float(weights[sure].sum())
    order = np.argsort(-np.abs(probability - 0.5))
    surest = order[np.cumsum(weights[order]) <= SURE_SHARE]
    missed = (probability > 0.5) != labels
    return {
        "calibration_error": float(error),
        "sure": covered,
        "wrong_of_sure": float(weights[sure & (word != labels)].sum() / covered) if covered else None,
        "wrong_of_surest_quarter": float((weights * missed)[surest].sum() / weights[surest].sum()),
    }
