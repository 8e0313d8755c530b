"""Logistic regression and Mahalanobis distance, the parts of the experts. NumPy alone, no PyTorch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression on standardised inputs.

    Attributes
    ----------
    mean, deviation : float (D,), of the inputs, to standardise them
    coefficients : float (D,), of the standardised inputs
    offset : float
    clip : float, limit of the absolute standardised inputs
    """

    mean: np.ndarray
    deviation: np.ndarray
    coefficients: np.ndarray
    offset: float
    clip: float

    def compute_log_odds(self, inputs: np.ndarray) -> np.ndarray:
        """Compute the log-odds (N,) of "fake" of inputs (N, D)."""
        return self.standardise(inputs) @ self.coefficients + self.offset

    def standardise(self, inputs: np.ndarray) -> np.ndarray:
        """Standardise and clip inputs (N, D)."""
        return np.clip((inputs - self.mean) / self.deviation, -self.clip, self.clip)


@dataclass(frozen=True)
class Distance:
    """Squared Mahalanobis distance a dimension, about 1 for a training picture.

    Attributes
    ----------
    mean, deviation : float (D,), of the inputs, to standardise them
    inverse : float (D, D), inverse covariance of the standardised inputs
    limit : float, beyond which a picture is unlike the training pictures
    """

    mean: np.ndarray
    deviation: np.ndarray
    inverse: np.ndarray
    limit: float

    def measure(self, inputs: np.ndarray) -> np.ndarray:
        """Measure the distance (N,) of inputs (N, D)."""
        rows = (inputs - self.mean) / self.deviation
        return ((rows @ self.inverse) * rows).mean(1)


def fit_logistic(
    inputs: np.ndarray, targets: np.ndarray, weights: np.ndarray, penalty: float, clip: float = 5.0
) -> Logistic:
    """Fit a logistic regression by Newton's method.

    It minimises the weighted mean of the log loss and `penalty` / 2 times the squared coefficients (not the offset).

    Parameters
    ----------
    inputs : float (N, D)
    targets : (N,), 0 to 1: the label, or a smoothed one
    weights : (N,), 0 or more
    """
    weights = weights / weights.sum()
    mean, deviation = compute_moments(inputs, weights, least=1e-6)
    rows = np.c_[np.clip((inputs - mean) / deviation, -clip, clip), np.ones(len(inputs))].astype(np.float64)
    coefficients = np.zeros(rows.shape[1])
    penalties = np.full(len(coefficients), penalty)
    penalties[-1] = 1e-6  # for separable classes
    for _ in range(15):
        probability = sigmoid(rows @ coefficients)
        hessian = (rows * (weights * probability * (1 - probability))[:, None]).T @ rows
        hessian[np.diag_indices(len(coefficients))] += penalties
        gradient = rows.T @ (weights * (probability - targets)) + penalties * coefficients
        step = np.linalg.solve(hessian, gradient)
        coefficients -= step
        if np.abs(step).max() < 1e-4:
            break
    return Logistic(mean, deviation, coefficients[:-1], float(coefficients[-1]), clip)


def fit_distance(inputs: np.ndarray, weights: np.ndarray, limit: float = np.inf) -> Distance:
    """Fit a distance to inputs (N, D) with weights (N,).

    The covariance is shrunk by a tenth towards its diagonal: there may be fewer pictures than it has entries.
    """
    weights = weights / weights.sum()
    mean, deviation = compute_moments(inputs, weights, least=1e-3)
    rows = (inputs - mean) / deviation
    covariance = 0.9 * (rows * weights[:, None]).T @ rows + 0.1 * np.eye(inputs.shape[1])
    return Distance(mean, deviation, np.linalg.inv(covariance), limit)


def compute_moments(inputs: np.ndarray, weights: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute weighted mean and deviation (D,) each; `weights` sum to 1, `least` is added to the deviation."""
    mean = weights @ inputs
    return mean, np.sqrt(np.maximum(weights @ (inputs - mean) ** 2, 0)) + least


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Compute probabilities of log-odds."""
    return 1 / (1 + np.exp(-np.clip(log_odds, -30, 30)))
