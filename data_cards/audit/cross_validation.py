"""Cross-validated AUROC of a classifier, with an interval.

Folds keep near-duplicates together, or whole sources. The AUROC is computed within each fold and
averaged by the number of its pairs, because scores of classifiers fitted on different pictures are
not comparable. The interval is from the structural components of DeLong et al. (1988), summed within
clusters (Obuchowski 1997): near-duplicates, or pictures of one source, are not independent evidence.
A bootstrap, as of a network's scores, would have to resample every fold separately, 2,000 times in every build.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata
from threadpoolctl import threadpool_limits

FOLDS = 5
LEVEL = 0.95
GUESSING = 0.5  # AUROC of guessing
FEWEST_SOURCES = 3  # of each class, for holding out sources
# Fits on (inputs, is_category, labels) and scores other pictures' inputs.
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
    """Assign each picture a fold, near-duplicates to the same one; None where a class has fewer than two groups.

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
    """Assign each picture a fold, all of a source to the same one; None where a class has too few sources.

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
            # To and fro, so that the largest are not all in the first fold.
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
) -> Auroc:
    """Fit a classifier on all folds but one, score that one, for each in turn; compute the AUROC of the scores.

    Where the other folds have one class only, all pictures of a fold score alike.

    Parameters
    ----------
    classifier : `score_by_trees` for a dozen properties of all kinds and units, `score_by_ridge` for many of one kind
    inputs : float64 (N, inputs), NaN where a picture has no value
    is_category : of each input
    labels : int (N,), 0 real, 1 fake
    folds : int (N,), such as of `fold_by_group`
    clusters : (N,), what pictures that are not independent of one another have in common: groups or sources
    """
    scores = np.zeros(len(labels))
    for number in np.unique(folds):
        held_out = folds == number
        if len(np.unique(labels[~held_out])) < 2:
            continue
        scores[held_out] = classifier(inputs[~held_out], is_category, labels[~held_out], inputs[held_out])
    return compute_auroc(labels, scores, folds, clusters)


def score_by_trees(
    inputs: np.ndarray, is_category: Sequence[bool], labels: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Fit boosted trees, in which both classes weigh the same, and score other pictures.

    Parameters
    ----------
    inputs, others : float64 (N, inputs) and (M, inputs), NaN where a picture has no value; a category's number
    is_category : of each input
    labels : int (N,), 0 real, 1 fake

    Returns
    -------
    float64 (M,), log-odds of "fake"
    """
    known = ~np.isnan(inputs).all(axis=0)  # such as JPEG quality where no picture is a JPEG: it cannot be fitted
    if not known.any():
        return np.zeros(len(others))
    # Loaded when needed, here and below: scikit-learn takes a second.
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
    # One thread: on sets this small, one a core would mostly wait for the others.
    with threadpool_limits(1):
        return boosting.fit(inputs[:, known], labels).decision_function(others[:, known])


def score_by_ridge(
    inputs: np.ndarray, is_category: Sequence[bool], labels: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """Fit a shrunken linear classifier and score other pictures; parameters as of `score_by_trees`, no categories."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Shrunk by as much as a hundred pictures weigh: there are more inputs than small sets have pictures.
    ridge = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100, class_weight="balanced"))
    with threadpool_limits(1):
        return ridge.fit(inputs, labels).decision_function(others)


def compute_auroc(labels: np.ndarray, scores: np.ndarray, folds: np.ndarray, clusters: np.ndarray) -> Auroc:
    """Compute the AUROC over folds, with its interval; guessing, from 0 to 1, where no fold has both classes.

    Parameters
    ----------
    labels : int (N,), 0 real, 1 fake
    scores : float64 (N,), higher for "fake"; comparable within a fold
    folds, clusters : (N,), as of `compute_held_out_auroc`
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
    spread = norm.ppf((1 + LEVEL) / 2) * np.sqrt((of_cluster**2).sum())
    # Four digits: the last bits depend on the number of threads.
    return Auroc(*(round(float(np.clip(bound, 0, 1)), 4) for bound in (value, value - spread, value + spread)))
