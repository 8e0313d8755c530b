"""Models of the experts: logistic regressions on standardised vectors, a distance, and weights by source."""

from itertools import pairwise

import numpy as np

from pipeline.features.profile_vectors import PERIODS

# px: half, about one and twice a decoder's 8 px apart, so that no band hides another's peak.
BAND_EDGES = 8 * np.array([0.39, 0.6, 0.8, 0.96, 1.05, 1.4, 2.21])


class Logistic:
    """Logistic regression on standardised inputs, by Newton's method.

    Minimises the weighted mean of the log loss and `penalty` / 2 times the squared coefficients (not the offset).
    Inputs are standardised by weighted mean and deviation and clipped at +-`clip`.
    """

    def __init__(self, penalty: float = 0.1, clip: float = 5.0):
        self.penalty, self.clip = penalty, clip

    def fit(self, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> "Logistic":
        """Fit to inputs (N, D), labels (N,) of 0 and 1 and weights (N,); return itself."""
        weights = weights / weights.sum()
        self.mean, self.deviation = compute_moments(inputs, weights, least=1e-6)
        rows = np.c_[self._standardise(inputs), np.ones(len(inputs))].astype(np.float64)
        coefficients = np.zeros(rows.shape[1])
        penalties = np.full(len(coefficients), self.penalty)
        penalties[-1] = 1e-6  # for separable classes
        for _ in range(15):
            probability = sigmoid(rows @ coefficients)
            hessian = (rows * (weights * probability * (1 - probability))[:, None]).T @ rows
            hessian[np.diag_indices(len(coefficients))] += penalties
            gradient = rows.T @ (weights * (probability - labels)) + penalties * coefficients
            step = np.linalg.solve(hessian, gradient)
            coefficients -= step
            if np.abs(step).max() < 1e-4:
                break
        self.coefficients, self.offset = coefficients[:-1], coefficients[-1]
        return self

    def compute_logits(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the logits (N,) of "fake"."""
        return self._standardise(inputs) @ self.coefficients + self.offset

    def _standardise(self, inputs: np.ndarray) -> np.ndarray:
        return np.clip((inputs - self.mean) / self.deviation, -self.clip, self.clip)


class PhotographLogistic(Logistic):
    """The same on combs, each period standardised by the training photographs, then summarised."""

    def fit(self, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> "PhotographLogistic":
        """Fit as `Logistic`."""
        of_photographs = weights * (labels == 0)
        self.photographs = compute_moments(inputs, of_photographs / of_photographs.sum(), least=1e-6)
        return super().fit(self._summarise(inputs), labels, weights)

    def compute_logits(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the logits (N,) of "fake"."""
        return super().compute_logits(self._summarise(inputs))

    def _summarise(self, inputs: np.ndarray) -> np.ndarray:
        """Return the largest value in each band of periods, of each spectrum's comb: (N, 12)."""
        combs = self._compare(inputs).reshape(len(inputs), -1, len(PERIODS))
        bands = pairwise(BAND_EDGES)
        return np.concatenate([combs[:, :, (least <= PERIODS) & (most > PERIODS)].max(2) for least, most in bands], 1)

    def _compare(self, inputs: np.ndarray) -> np.ndarray:
        mean, deviation = self.photographs
        return (inputs - mean) / deviation


class PrototypeComb(PhotographLogistic):
    """The prototype's six numbers of a comb."""

    def _summarise(self, inputs: np.ndarray) -> np.ndarray:
        ordered = np.sort(self._compare(inputs), 1)[:, ::-1]
        means = [ordered[:, :5].mean(1), ordered[:, :20].mean(1), ordered[:, -5:].mean(1), ordered.mean(1)]
        return np.stack([ordered[:, 0], *means, ordered.std(1)], 1)


class Distance:
    """Squared Mahalanobis distance a dimension, about 1 for a training picture.

    The covariance is shrunk by a tenth towards its diagonal: there are fewer pictures than it has entries.
    """

    def fit(self, inputs: np.ndarray, weights: np.ndarray) -> "Distance":
        """Fit to inputs (N, D) and weights (N,); return itself."""
        weights = weights / weights.sum()
        self.mean, self.deviation = compute_moments(inputs, weights, least=1e-3)
        rows = (inputs - self.mean) / self.deviation
        covariance = 0.9 * (rows * weights[:, None]).T @ rows + 0.1 * np.eye(inputs.shape[1])
        self.inverse = np.linalg.inv(covariance)
        return self

    def measure(self, inputs: np.ndarray) -> np.ndarray:
        """Measure the distance (N,) of inputs (N, D)."""
        rows = (inputs - self.mean) / self.deviation
        return ((rows @ self.inverse) * rows).mean(1)


def compute_moments(inputs: np.ndarray, weights: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute weighted mean and deviation (D,) each; `least` is added to the deviation."""
    mean = weights @ inputs
    return mean, np.sqrt(np.maximum(weights @ (inputs - mean) ** 2, 0)) + least


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities of logits."""
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def weigh_sources(labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Weigh rows (N,) so that a source's pictures share one weight, sources of a class are even, classes too."""
    weights = np.zeros(len(labels))
    for label in (0, 1):
        names = np.unique(sources[labels == label])
        for name in names:
            rows = (labels == label) & (sources == name)
            weights[rows] = 0.5 / len(names) / rows.sum()
    return weights
