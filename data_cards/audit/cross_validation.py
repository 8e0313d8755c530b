"""Cross-validated AUROC of a classifier, with an interval.

Folds keep near-duplicates together, or whole sources. The AUROC is computed within each fold and
averaged by the number of its pairs, because scores of classifiers fitted on different pictures are
not comparable. The interval uses the structural components of DeLong et al. (1988), summed within
clusters (Obuchowski 1997), because near-duplicates, or pictures of one source, are not independent.
A bootstrap, as for a network's scores, would have to resample every fold separately, 2,000 times in every build.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from threadpoolctl import threadpool_limits

FOLDS = 5
LEVEL = 0.95
_BINS = 8  # of a single property's values
_PRIOR = 2.0  # pictures of each class that are added to a bin, which moves its odds towards even
GUESSING = 0.5  # AUROC of guessing
FEWEST_SOURCES = 3  # of each class, for holding out sources
# A function that fits on (inputs, is_category, labels) and scores the inputs of other pictures.
Classifier = Callable[[np.ndarray, Sequence[bool], np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Auroc:
    """An AUROC, 0 to 1, with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def fold_by_group(labels: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """Assign each picture a fold, near-duplicates to the same one; None if a class has fewer than two groups.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    groups : int (N,), near-duplicate groups

    Returns
    -------
    int (N,), from 0; `FOLDS` folds, or as many as the class with fewer groups has
    """
    from sklearn.model_selection import StratifiedGroupKFold

    number = min(FOLDS, *(len(np.unique(groups[labels == label])) for label in (0, 1)))
    if number < 2:
        return None
    folds = np.zeros(len(labels), dtype=int)
    # Shuffled by group number, which follows path or row: a pure function of the set.
    splitter = StratifiedGroupKFold(number, shuffle=True, random_state=0)
    for number, (_, held_out) in enumerate(splitter.split(labels, labels, groups)):
        folds[held_out] = number
    return folds


def fold_by_source(labels: np.ndarray, sources: np.ndarray) -> np.ndarray | None:
    """Assign each picture a fold, all pictures of a source to the same one; None if a class has too few sources.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    sources : str (N,)
    """
    by_class = []
    for label in (0, 1):
        names, counts = np.unique(sources[labels == label], return_counts=True)
        by_class.append(names[np.argsort(-counts, kind="stable")])
    number = min(FOLDS, *map(len, by_class))
    if number < FEWEST_SOURCES:
        return None
    folds = np.zeros(len(labels), dtype=int)
    for label, names in enumerate(by_class):
        for place, name in enumerate(names):
            # Forwards and backwards in turn, so that the largest sources are not all in the first fold.
            turn, step = divmod(place, number)
            folds[(labels == label) & (sources == name)] = step if turn % 2 == 0 else number - 1 - step
    return folds


def compute_held_out_auroc(
    classifier: Classifier,
    inputs: np.ndarray,
    is_category: Sequence[bool],
    labels: np.ndarray,
    folds: np.ndarray,
    clusters: np.ndarray,
    level: float = LEVEL,
) -> Auroc:
    """Score each fold with a classifier that is fitted on all other folds; compute the AUROC of the scores.

    If the other folds have one class only, all pictures of the fold get the same score.

    Parameters
    ----------
    classifier : `score_by_trees` for a dozen properties of all kinds and units, `score_by_ridge` for many of one kind
    inputs : float64 (N, inputs), NaN where a picture has no value
    is_category : of bool, for each input
    labels : int (N,), 0 real, 1 fake
    folds : int (N,), for example from `fold_by_group`
    clusters : (N,), the near-duplicate group or the source that dependent pictures share
    level : float, of the interval
    """
    scores = np.zeros(len(labels))
    for number in np.unique(folds):
        held_out = folds == number
        if len(np.unique(labels[~held_out])) < 2:
            continue
        scores[held_out] = classifier(inputs[~held_out], is_category, labels[~held_out], inputs[held_out])
    return compute_auroc(labels, scores, folds, clusters, level)


def score_by_trees(
    inputs: np.ndarray, is_category: Sequence[bool], labels: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Fit boosted trees with equal weight of both classes, and score other pictures.

    Parameters
    ----------
    inputs, others : float64 (N, inputs) and (M, inputs), NaN where a picture has no value; a category's number
    is_category : of each input
    labels : int (N,), 0 real, 1 fake

    Returns
    -------
    float64 (M,), log-odds of "fake"
    """
    known = ~np.isnan(inputs).all(
        axis=0
    )  # an input without values cannot be fitted, such as JPEG quality if no picture is a JPEG
    if not known.any():
        return np.zeros(len(others))
    # Imported here and below only when needed, because importing scikit-learn takes a second.
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosting = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        min_samples_leaf=min(10, max(2, len(labels) // 10)),
        early_stopping=False,
        random_state=0,
        categorical_features=np.array(is_category)[known],
        class_weight="balanced",
    )
    # One thread, because on sets this small several threads mostly wait for each other.
    with threadpool_limits(1):
        return boosting.fit(inputs[:, known], labels).decision_function(others[:, known])


def score_by_ridge(
    inputs: np.ndarray, is_category: Sequence[bool], labels: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Fit a shrunken linear classifier and score other pictures; parameters as for `score_by_trees`, no categories."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Shrunk with the weight of a hundred pictures, because there are more inputs than pictures in small sets.
    ridge = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100, class_weight="balanced"))
    with threadpool_limits(1):
        return ridge.fit(inputs, labels).decision_function(others)


def find_best_single(
    inputs: np.ndarray, is_category: Sequence[bool], labels: np.ndarray, folds: np.ndarray
) -> tuple[int, np.ndarray]:
    """Score each fold by the one input that best separates the classes in all other folds.

    The score is the input's value, with the sign that separates the other folds, or the odds of the bin of the value;
    missing values have a bin, and so has each category. Which of the two scores is used is decided on the other folds
    alone, where bins are scored by cross-validation.

    Parameters
    ----------
    inputs, is_category, labels, folds : as for `compute_held_out_auroc`

    Returns
    -------
    the number of the input that was the best in most folds, and the scores, float64 (N,), higher for "fake"
    """
    numbers = np.unique(folds)
    candidates = []
    for column, own in enumerate(inputs.T):
        bins = _number_bins(own, is_category[column])
        counts = np.zeros((len(numbers), 2, bins.max() + 1))
        np.add.at(counts, (np.searchsorted(numbers, folds), labels, bins), 1)
        candidates.append((column, bins, counts))
        if not is_category[column] and not np.isnan(own).all():
            candidates.append((column, np.where(np.isnan(own), np.nanmedian(own), own), None))
    scores, chosen = np.zeros(len(labels)), []
    within = [_compare_within(labels, values, folds) if counts is None else None for _, values, counts in candidates]
    for place, number in enumerate(numbers):
        held_out, others = folds == number, [one for one in range(len(numbers)) if one != place]
        best = None
        for (column, values, counts), areas in zip(candidates, within, strict=True):
            if counts is None:
                area = _average(*areas[:, others])
                direction = 1 if area >= GUESSING else -1
                reached, own = max(area, 1 - area), direction * values[held_out]
            else:
                reached = _average(*np.array([_score_bins(counts, one, others) for one in others]).T)
                own = _compute_odds(counts[others].sum(axis=0))[values[held_out]]
            # Of equal inputs, the first is used, which is the plainest.
            if best is None or reached > best[0] + 1e-9:
                best = reached, column, own
        scores[held_out] = best[2]
        chosen.append(best[1])
    return int(np.bincount(chosen).argmax()), scores


def _number_bins(values: np.ndarray, is_category: bool) -> np.ndarray:
    """Number the bins of values, with about equal numbers of pictures: int (N,); missing values are bin 0."""
    known = ~np.isnan(values)
    bins = np.zeros(len(values), dtype=int)
    if is_category:
        bins[known] = np.unique(values[known], return_inverse=True)[1] + 1
    elif known.any():
        edges = np.unique(np.quantile(values[known], np.arange(1, _BINS) / _BINS))
        bins[known] = np.searchsorted(edges, values[known], side="left") + 1
    return bins


def _compute_odds(counts: np.ndarray) -> np.ndarray:
    """Return the log-odds of "fake" in each bin, with equal weight of both classes; counts are (2, bins)."""
    shares = (counts + _PRIOR) / (counts.sum(axis=1, keepdims=True) + _PRIOR * counts.shape[1])
    return np.log(shares[1] / shares[0])


def _score_bins(counts: np.ndarray, number: int, others: Sequence[int]) -> tuple[float, float]:
    """Return AUROC and weight of a fold, scored by the odds of bins in `others`; counts are (folds, 2, bins)."""
    odds = _compute_odds(counts[[one for one in others if one != number]].sum(axis=0))
    values, place = np.unique(odds, return_inverse=True)
    real, fake = (np.bincount(place, own, len(values)) for own in counts[number])
    pairs = real.sum() * fake.sum()
    below = np.cumsum(real) - real
    return (float((fake * (below + real / 2)).sum() / pairs) if pairs else GUESSING), float(pairs)


def _compare_within(labels: np.ndarray, values: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the AUROC of values in each fold, and its weight: float64 (2, folds)."""
    areas = []
    for number in np.unique(folds):
        fake, real = (values[(folds == number) & (labels == label)] for label in (1, 0))
        pairs = len(fake) * len(real)
        rank = rankdata(np.concatenate([fake, real]))[: len(fake)].sum()
        areas.append(((rank - len(fake) * (len(fake) + 1) / 2) / pairs if pairs else GUESSING, pairs))
    return np.array(areas).T


def _average(areas: np.ndarray, weights: np.ndarray) -> float:
    return float(np.average(areas, weights=weights)) if weights.any() else GUESSING


def compute_auroc(
    labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, clusters: np.ndarray, level: float = LEVEL
) -> Auroc:
    """Compute the AUROC over folds, with its interval; 0.5 (0 to 1) if no fold has both classes.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    scores : float64 (N,), higher for "fake"; comparable within a fold
    folds, clusters : (N,), as for `compute_held_out_auroc`
    level : float, of the interval
    """
    pairs, value, influence = 0, 0.0, np.zeros(len(labels))
    for number in np.unique(folds):
        fake, real = (np.flatnonzero((folds == number) & (labels == label)) for label in (1, 0))
        if not len(fake) or not len(real):
            continue
        weight = len(fake) * len(real)
        ranks = rankdata(np.concatenate([scores[fake], scores[real]]))
        of_fake = (ranks[: len(fake)] - rankdata(scores[fake])) / len(real)
        of_real = 1 - (ranks[len(fake) :] - rankdata(scores[real])) / len(fake)
        area = of_fake.mean()
        influence[fake] += weight * (of_fake - area) / len(fake)
        influence[real] += weight * (of_real - area) / len(real)
        value += weight * area
        pairs += weight
    if not pairs:
        return Auroc(GUESSING, 0.0, 1.0)
    value, influence = value / pairs, influence / pairs
    of_cluster = np.bincount(np.unique(clusters, return_inverse=True)[1], influence)
    spread = norm.ppf((1 + level) / 2) * np.sqrt((of_cluster**2).sum())
    # Four digits: the last bits depend on the number of threads.
    return Auroc(*(round(float(np.clip(bound, 0, 1)), 4) for bound in (value, value - spread, value + spread)))
