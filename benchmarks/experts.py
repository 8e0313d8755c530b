"""Five experts as one detector: their logits added, calibrated on sources that were left out, and "unsure".

A picture unlike the training pictures gets no sure word, nor does one whose probability lies within the band
in which too many verdicts on left-out sources were wrong.
"""

import numpy as np
from expert_models import Distance, Logistic, PhotographLogistic, compute_moments, sigmoid, weigh_sources

from pipeline.features.variants import SHRUNK

PENALTIES = {"light": 0.1, "colour": 0.1, "harmonics": 0.2, "tints": 0.2, "comb": 0.1}  # by expert
SHRUNK_WEIGHT = 0.5  # of a row of the shrunk view, which nobody asks about
CALIBRATION_FOLDS = 8
WRONG_SHARE = 0.04  # of sure words on left-out sources, at most
LEAST_SURE = 0.005  # share of the weight: an error among the very surest does not take all sure words away
# Leading numbers that a distance reads: of the two spectra the one with the absolute floor.
DISTANCES = {"light": 9, "colour": 36, "harmonics": 81, "tints": 162}
UNLIKE_QUANTILE = 0.97  # of the distance of left-out pictures
SIDE_SHARE = 0.9  # of the smallest training side, below which a picture is too small
LEAST_CONTRAST = 4.0  # grey levels, deviation of luma: a picture below is blank
LEAST_CHROMA = 3.0  # grey levels, mean |B - Y| + |R - Y|: a picture below is grey
UNSURE, REAL, FAKE = -1, 0, 1  # words


class Experts:
    """The detector. `features` are by name (N, length), as `split_profiles` makes them."""

    def fit(
        self,
        features: dict[str, np.ndarray],
        labels: np.ndarray,
        sources: np.ndarray,
        groups: np.ndarray,
        views: np.ndarray,
    ) -> "Experts":
        """Fit experts, calibration, the band of "unsure" and the limits of what was seen; return itself.

        Parameters
        ----------
        labels, sources, groups, views : (N,), a row each; a group's sources leave together in the calibration
        """
        weights = _weigh_rows(labels, sources, views)
        self.models, self.distances = _fit_models(features, labels, weights)
        logits, far = np.full((len(labels), len(PENALTIES)), np.nan), np.zeros((len(labels), len(DISTANCES)))
        folds = deal_groups(groups, labels, CALIBRATION_FOLDS)
        for fold in np.unique(folds):
            known, left_out = folds != fold, folds == fold
            if len(np.unique(labels[known])) < 2:
                continue  # a small set's only sources of a class
            models, distances = _fit_models(
                _take(features, known), labels[known], _weigh_rows(labels[known], sources[known], views[known])
            )
            logits[left_out] = _compute_logits(models, _take(features, left_out))
            far[left_out] = _measure(distances, _take(features, left_out))
        if np.isnan(logits).all():
            raise ValueError("two groups of sources of each class are needed at least")
        asked = (views != SHRUNK) & ~np.isnan(logits).any(1)
        self.least_side = features["facts"][asked][:, :2].min()
        self._calibrate(logits[asked].sum(1), far[asked], labels[asked], weights[asked])
        return self

    def _calibrate(self, logits: np.ndarray, far: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> None:
        slope = Logistic(1e-6, clip=np.inf).fit(logits[:, None], labels, weights)  # after Platt: slope and offset
        mean, deviation = compute_moments(logits[:, None], weights / weights.sum(), least=1e-6)
        self.slope = float(slope.coefficients[0] / deviation[0])
        self.offset = float(slope.offset - slope.coefficients[0] * mean[0] / deviation[0])
        self.limits = np.array([_find_quantile(column, weights, UNLIKE_QUANTILE) for column in far.T])
        like = (far <= self.limits).all(1)
        probability, labels, weights = sigmoid(self.slope * logits + self.offset)[like], labels[like], weights[like]
        self.fake_from = find_sure_limit(probability, labels == REAL, weights)
        self.real_to = 1 - find_sure_limit(1 - probability, labels == FAKE, weights)

    def score(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Add the experts' logits (N,): greater for generated pictures."""
        return _compute_logits(self.models, features).sum(1)

    def predict(self, features: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return calibrated probabilities of "fake" (N,) and words (N,): `FAKE`, `REAL` or `UNSURE`."""
        probability = sigmoid(self.slope * self.score(features) + self.offset)
        word = np.where(probability >= self.fake_from, FAKE, np.where(probability <= self.real_to, REAL, UNSURE))
        return probability, np.where(self.find_unlike(features), UNSURE, word)

    def find_unlike(self, features: dict[str, np.ndarray]) -> np.ndarray:
        """Return which pictures (N,) are unlike the training pictures: far from them, small, blank or grey."""
        facts = features["facts"]
        plain = (facts[:, 2] < LEAST_CONTRAST) | (facts[:, 3] < LEAST_CHROMA)
        small = facts[:, :2].min(1) < SIDE_SHARE * self.least_side
        return (_measure(self.distances, features) > self.limits).any(1) | small | plain


def _fit_models(features: dict, labels: np.ndarray, weights: np.ndarray) -> tuple[dict, dict]:
    models = {
        name: (PhotographLogistic if name == "comb" else Logistic)(penalty).fit(features[name], labels, weights)
        for name, penalty in PENALTIES.items()
    }
    return models, {name: Distance().fit(features[name][:, :count], weights) for name, count in DISTANCES.items()}


def _compute_logits(models: dict, features: dict) -> np.ndarray:
    return np.stack([model.compute_logits(features[name]) for name, model in models.items()], 1)


def _measure(distances: dict, features: dict) -> np.ndarray:
    return np.stack([distances[name].measure(features[name][:, :count]) for name, count in DISTANCES.items()], 1)


def _take(features: dict, rows: np.ndarray) -> dict:
    return {name: vectors[rows] for name, vectors in features.items()}


def _weigh_rows(labels: np.ndarray, sources: np.ndarray, views: np.ndarray) -> np.ndarray:
    return weigh_sources(labels, sources) * np.where(views == SHRUNK, SHRUNK_WEIGHT, 1.0)


def deal_groups(groups: np.ndarray, labels: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Deal groups of sources to folds, rows of both classes balanced: the fold (N,) of each row."""
    rng = np.random.default_rng(seed)
    names = np.unique(groups)
    rng.shuffle(names)
    load = np.zeros((folds, 2))
    fold_of_row = np.zeros(len(groups), int)
    for name in names:
        present = np.array([((groups == name) & (labels == label)).any() for label in (0, 1)], float)
        growth = [
            ((one + present) ** 2).sum() - (one**2).sum() + 0.1 * rng.random() for one in load
        ]  # the smallest where the fold has least of these classes; ties are drawn
        chosen = int(np.argmin(growth))
        load[chosen] += present
        fold_of_row[groups == name] = chosen
    return fold_of_row


def find_sure_limit(probability: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> float:
    """Find the lowest limit, 0.5 or more, from which on at most `WRONG_SHARE` of the weight is wrong; 1.01 if none."""
    order = np.argsort(-probability)
    total, errors = np.cumsum(weights[order]), np.cumsum((weights * wrong)[order])
    good = (errors / total <= WRONG_SHARE) & (probability[order] >= 0.5) & (total >= LEAST_SURE * weights.sum())
    return float(probability[order][np.flatnonzero(good).max()]) if good.any() else 1.01


def _find_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(values)
    place = np.searchsorted(np.cumsum(weights[order]) / weights.sum(), share)
    return float(values[order][min(place, len(values) - 1)])
