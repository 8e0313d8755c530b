"""Fit of the experts: in closed form, in seconds, calibrated on sources that were left out of the fit.

Sources of a class have equal weights, and so have classes. Groups of sources are dealt to folds; experts fitted on the
other folds score each fold. From these scores come slope and offset (after Platt, "Probabilistic outputs for support
vector machines", 1999), the band of "unsure" and the limits beyond which a picture is unlike the training pictures.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from data_cards.core.labels import CLASS_NAMES, FAKE, REAL
from pipeline.features.profile_vectors import split_profiles
from pipeline.features.variants import SHRUNK
from train.data.row_selection import check_picture_counts
from train.model.calibration import separates_classes
from train.model.experts import (
    DISTANCES,
    EXPERTS,
    SURE_WRONG_SHARE,
    Experts,
    compute_expert_log_odds,
    compute_inputs,
    find_contradictions,
    measure_distances,
)
from train.model.logistic import Distance, Logistic, compute_moments, fit_distance, fit_logistic, sigmoid

PENALTIES = {"light": 0.1, "colour": 0.1, "harmonics": 0.2, "tints": 0.2, "comb": 0.1}
SHRUNK_WEIGHT = 0.5  # of a row of the shrunk variant, on which no verdict is given
FOLDS = 8
LEAST_SURE = 0.005  # share of the weight: one error among the surest pictures does not rule out all sure verdicts
UNLIKE_QUANTILE = 0.97  # of the distances of left-out pictures
# Of the fitted slope: collections from elsewhere differ more than left-out sources of one set.
CAUTION = 0.75
LEAST_SLOPE = 1e-3  # a sum without information on sources left out keeps its order
ENOUGH_SOURCES = 15  # of each class; limits that are fitted on fewer are moved outwards


@dataclass(frozen=True)
class FittedExperts:
    """Fitted experts, and their scores of the pictures that each fold left out.

    Attributes
    ----------
    experts : Experts
    log_odds : float64 (N,), calibrated, of each row by the fold that left it out; NaN if no fold scored it
    sources : int, number of sources that were left out, of the class with fewer; 0 if a class has one source
    """

    experts: Experts
    log_odds: np.ndarray
    sources: int


def fit_experts(
    profiles: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray,
    variants: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
) -> FittedExperts:
    """Fit the experts to rows of a store.

    Parameters
    ----------
    profiles : float32 (N, 755)
    labels : int (N,)
    sources, variants : str (N,)
    groups : int (N,), near-duplicate groups; a group is never split by a fold
    seed : int, seed of the folds

    Raises
    ------
    UserError : a class has fewer than two pictures; near-duplicates count as one
    """
    with threadpool_limits(1):  # more threads add in another order, which changes bits
        return _fit(profiles, labels.astype(np.int64), sources.astype(str), variants.astype(str), groups, seed)


def _fit(
    profiles: np.ndarray,
    labels: np.ndarray,
    sources: np.ndarray,
    variants: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> FittedExperts:
    units, sources_left_out = _choose_units(labels, sources, groups)
    weights = _weigh_rows(labels, sources, variants)
    models, photographs, distances = _fit_models(profiles, labels, weights)
    parts = {name: np.full(len(labels), np.nan) for name in EXPERTS}
    far = np.zeros((len(labels), len(DISTANCES)))
    folds = deal_units(units, labels, FOLDS, seed)
    for fold in np.unique(folds):
        known, left_out = folds != fold, folds == fold
        if len(np.unique(labels[known])) < len(CLASS_NAMES):
            continue  # the only units of a class
        of_known = _fit_models(
            profiles[known], labels[known], _weigh_rows(labels[known], sources[known], variants[known])
        )
        for name, values in compute_expert_log_odds(*of_known[:2], profiles[left_out]).items():
            parts[name][left_out] = values
        far[left_out] = measure_distances(of_known[2], profiles[left_out])
    log_odds = sum(parts.values())
    asked = (variants != SHRUNK) & np.isfinite(log_odds)
    slope, offset = _fit_platt(log_odds[asked], labels[asked], weights[asked])
    limits = [_find_quantile(column, weights[asked], UNLIKE_QUANTILE) for column in far[asked].T]
    contradicted = find_contradictions({name: slope * values for name, values in parts.items()})
    like = asked & (far <= limits).all(1) & ~contradicted
    probability = sigmoid(slope * log_odds + offset)
    left_out = _count_least(units, labels) if sources_left_out else 0
    low = high = 1.0
    if separates_classes(labels[asked], log_odds[asked], units[asked]):
        low, high = (
            find_limit(p[like], labels[like] == other, weights[like], left_out)
            for p, other in ((1 - probability, FAKE), (probability, REAL))
        )
    experts = Experts(
        models=models,
        photographs=photographs,
        distances={
            name: Distance(one.mean, one.deviation, one.inverse, limit)
            for (name, one), limit in zip(distances.items(), limits, strict=True)
        },
        slope=slope,
        offset=offset,
        low=1 - low,
        high=high,
        least_side=float(split_profiles(profiles)["facts"][asked][:, :2].min()),
        sources_left_out=sources_left_out,
    )
    # Round to the file's float32: a run then reports scores of the experts that it saves.
    return FittedExperts(Experts.from_arrays(experts.to_arrays()), slope * log_odds + offset, left_out)


def _choose_units(labels: np.ndarray, sources: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the units that folds leave out, int (N,): sources, or pictures if a class has a single source.

    Sources that share near-duplicates are one unit, and so is a source with pictures of both classes.
    """
    by_source = _join(sources, groups)
    if _count_least(by_source, labels) >= 2:
        return by_source, True
    check_picture_counts("these rows", labels, groups)
    return groups, False


def count_sources(labels: np.ndarray, sources: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    """Count the sources of each class; sources that share near-duplicates count as one.

    Parameters
    ----------
    labels, groups : int (N,), class and near-duplicate group of each row
    sources : str (N,)
    """
    if not len(labels):
        return dict.fromkeys(CLASS_NAMES, 0)
    return _count_units(_join(sources.astype(str), groups), labels)


def format_few_sources(counts: dict[str, int]) -> str | None:
    """Format which classes had so few sources that `widen_limit` moves the limits; None if none had.

    Parameters
    ----------
    counts : dict of str to int, sources of each class, as of `count_sources`; None also if a class has fewer than two
    """
    few = {name: count for name, count in counts.items() if count < ENOUGH_SOURCES}
    if not few or min(few.values()) < 2:
        return None
    if len(few) > 1 and len(set(few.values())) == 1:
        return f"only {min(few.values())} sources in each class"
    return "only " + " and ".join(f"{count} sources of {name} pictures" for name, count in few.items())


def _join(sources: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Number the sources (N,); sources that share a group get the same number."""
    names, source = np.unique(sources, return_inverse=True)
    group = np.unique(groups, return_inverse=True)[1]
    size = len(names) + group.max() + 1
    graph = coo_array((np.ones(len(source)), (source, len(names) + group)), shape=(size, size))
    return connected_components(graph, directed=False)[1][source]


def _count_least(units: np.ndarray, labels: np.ndarray) -> int:
    return min(_count_units(units, labels).values())


def _count_units(units: np.ndarray, labels: np.ndarray) -> dict[str, int]:
    return {name: len(np.unique(units[labels == label])) for label, name in enumerate(CLASS_NAMES)}


def _fit_models(
    profiles: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[dict[str, Logistic], np.ndarray, dict[str, Distance]]:
    vectors = split_profiles(profiles)
    of_photographs = weights * (labels == REAL)
    photographs = np.stack(compute_moments(vectors["comb"], of_photographs / of_photographs.sum(), least=1e-6))
    models = {
        name: fit_logistic(compute_inputs(name, profiles, photographs), labels, weights, PENALTIES[name])
        for name in EXPERTS
    }
    return (
        models,
        photographs,
        {name: fit_distance(vectors[name][:, :count], weights) for name, count in DISTANCES.items()},
    )


def _fit_platt(log_odds: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset; targets are smoothed by the number of pictures, as Platt does."""
    counts = np.array([(labels == label).sum() for label in (REAL, FAKE)])
    targets = np.where(labels == FAKE, (counts[FAKE] + 1) / (counts[FAKE] + 2), 1 / (counts[REAL] + 2))
    fitted = fit_logistic(log_odds[:, None], targets, weights, penalty=1e-6, clip=np.inf)
    slope = CAUTION * float(fitted.coefficients[0] / fitted.deviation[0])
    if slope < LEAST_SLOPE:  # no information on sources left out: all probabilities are near one half
        return LEAST_SLOPE, -LEAST_SLOPE * float(fitted.mean[0])
    return slope, CAUTION * float(fitted.offset) - slope * float(fitted.mean[0])


def _weigh_rows(labels: np.ndarray, sources: np.ndarray, variants: np.ndarray) -> np.ndarray:
    return weigh_sources(labels, sources) * np.where(variants == SHRUNK, SHRUNK_WEIGHT, 1.0)


def weigh_sources(labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Weigh rows (N,) so that rows of a source, sources of a class, and both classes have equal weights."""
    weights = np.zeros(len(labels))
    for label in (REAL, FAKE):
        names = np.unique(sources[labels == label])
        for name in names:
            rows = (labels == label) & (sources == name)
            weights[rows] = 0.5 / len(names) / rows.sum()
    return weights


def deal_units(units: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Deal units (N,) to folds so that each has about as many of each class: the fold (N,) of each row."""
    rng = np.random.default_rng(seed)
    names, number = np.unique(units, return_inverse=True)
    present = np.stack([np.bincount(number[labels == label], minlength=len(names)) > 0 for label in (REAL, FAKE)], 1)
    load, fold_of = np.zeros((folds, 2)), np.zeros(len(names), int)
    for unit in rng.permutation(len(names)):
        # Choose the fold with the fewest units of these classes; ties are random.
        growth = ((load + present[unit]) ** 2 - load**2).sum(1) + 0.1 * rng.random(folds)
        fold_of[unit] = growth.argmin()
        load[fold_of[unit]] += present[unit]
    return fold_of[number]


def find_limit(probability: np.ndarray, wrong: np.ndarray, weights: np.ndarray, sources: int) -> float:
    """Find the lowest limit from which few of the left-out rows are wrong, and move it outwards; 1 if there is none.

    Parameters
    ----------
    probability : float (N,), of the class that is called
    wrong : bool (N,), whether a row is of the other class
    weights : float (N,)
    sources : int, as for `widen_limit`
    """
    limit = widen_limit(find_sure_limit(probability, wrong, weights), sources)
    beyond = probability >= limit
    if (weights * wrong)[beyond].sum() <= SURE_WRONG_SHARE * weights[beyond].sum():
        return limit
    return find_sure_limit(probability, wrong, weights, least=limit)  # the surest rows can be more often wrong


def find_sure_limit(probability: np.ndarray, wrong: np.ndarray, weights: np.ndarray, least: float = 0.5) -> float:
    """Find the lowest limit, at least `least`, beyond which at most `SURE_WRONG_SHARE` of the weight is wrong, or 1."""
    order = np.argsort(-probability, kind="stable")
    total, errors = np.cumsum(weights[order]), np.cumsum((weights * wrong)[order])
    good = (errors / total <= SURE_WRONG_SHARE) & (probability[order] >= least) & (total >= LEAST_SURE * weights.sum())
    return float(probability[order][np.flatnonzero(good).max()]) if good.any() else 1.0


def widen_limit(limit: float, sources: int) -> float:
    """Move a limit of `find_sure_limit` outwards, by 15 / sources - 1 in log-odds, if few sources were left out.

    On other sources, more than the stated share of the pictures beyond such a limit is wrong (`docs/training.md`). A
    limit of 1 stays.

    Parameters
    ----------
    limit : float, probability of the class that is called, 0.5 to 1
    sources : int, number of the sources that were left out, of the class with fewer; 0: the limit stays
    """
    if limit == 1 or not 0 < sources < ENOUGH_SOURCES:
        return limit
    return float(sigmoid(np.log(limit / (1 - limit)) + ENOUGH_SOURCES / sources - 1))


def _find_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values, kind="stable")
    place = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), share)
    return float(values[order][min(place, len(values) - 1)])
