"""Calibration of logits: temperature, threshold and abstention band, chosen on validation pictures alone.

The temperature is that of Guo et al., "On calibration of modern neural networks", 2017. It is raised by how
much the validation's sources differ, as an unseen source will differ as much. Between `low` and `high`
the verdict is "unsure": at most 5 % of each class's validation pictures get a sure verdict of the other class. A
network that does not separate the classes, or that few pictures were validated on, gives no sure verdict.
"""

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from data_cards.core.labels import CLASS_NAMES, FAKE, REAL

UNSURE = "unsure"
THRESHOLD = 0.5  # of uncalibrated scores
WRONG_SHARE = 0.05  # of a class's validation pictures that may get a sure verdict of the other class
MOST_WRONG_SHARE = 0.1  # upper end of that share's 90 % interval, at most
ENOUGH_SOURCES = 6  # of each class, for an interval over sources
_BOUNDS = (0.05, 20.0)  # of the temperature
_LOWEST, _HIGHEST = np.nextafter(0, -1), np.nextafter(1, 2)  # of the band's ends: beyond every probability


def compute_log_odds(logits: np.ndarray) -> np.ndarray:
    """Compute the log-odds of "fake", (N,), ln(p / (1 - p)), of logits (N, 2), an array or a tensor."""
    return logits[:, FAKE] - logits[:, REAL]


def probability_fake(logits: np.ndarray) -> np.ndarray:
    """Compute the probability of "fake", float64 (N,), from logits (N, 2): the softmax's second column."""
    return _sigmoid(compute_log_odds(logits))


def is_called_fake(p: np.ndarray | float, threshold: float = THRESHOLD) -> np.ndarray | bool:
    """Return whether probabilities of "fake" reach the threshold."""
    return p >= threshold


@dataclass(frozen=True)
class Calibration:
    """Conversion of logits to probabilities and verdicts; the defaults are those of an uncalibrated detector.

    Attributes
    ----------
    temperature : float, 0.05 to 20, the divisor of the logits
    threshold : float, calibrated probability from which on a picture is more likely fake than real
    low, high : float, verdict "real" up to `low`, "fake" from `high` on; low <= threshold <= high
    """

    temperature: float = 1.0
    threshold: float = THRESHOLD
    low: float = THRESHOLD
    high: float = THRESHOLD

    def __post_init__(self) -> None:
        least, most = _BOUNDS
        if not (least <= self.temperature <= most and _LOWEST <= self.low <= self.threshold <= self.high <= _HIGHEST):
            raise ValueError(f"{self}: expected temperature {least} to {most} and 0 <= low <= threshold <= high <= 1")

    def probability(self, logits: np.ndarray) -> np.ndarray:
        """Compute the calibrated probability of "fake", float64 (N,), from logits (N, 2)."""
        return probability_fake(np.asarray(logits, dtype=np.float64) / self.temperature)

    def verdict(self, p: float) -> str:
        """Return "real", "fake" or "unsure" for a calibrated probability."""
        if self.is_unsure(p):
            return UNSURE
        return CLASS_NAMES[FAKE if p >= self.high else REAL]

    def is_fake(self, p: np.ndarray | float) -> np.ndarray | bool:
        """Return whether probabilities reach the threshold, regardless of the abstention band."""
        return is_called_fake(p, self.threshold)

    def is_unsure(self, p: np.ndarray | float) -> np.ndarray | bool:
        """Return whether probabilities lie in the abstention band."""
        return (p > self.low) & (p < self.high)

    @property
    def is_always_unsure(self) -> bool:
        """Whether no probability gets a sure verdict."""
        return self.low <= 0 and self.high >= 1

    def to_always_unsure(self) -> "Calibration":
        """Return a copy that gives no sure verdict."""
        return replace(self, low=float(_LOWEST), high=float(_HIGHEST))

    @property
    def band(self) -> tuple[float, float]:
        """`low` and `high` within 0 to 1: a limit that no probability reaches is just outside."""
        return max(self.low, 0.0), min(self.high, 1.0)

    def format_band(self) -> str:
        """Format the band of "unsure", and the verdicts that are never given."""
        if self.is_always_unsure:
            return "always unsure"
        if self.low == self.high:
            return "nothing is unsure"
        band = "unsure between {:.3f} and {:.3f}".format(*self.band)
        ends = (self.low <= 0, self.high >= 1)
        never = [name for name, is_left_out in zip(CLASS_NAMES, ends, strict=True) if is_left_out]
        return f"{band}, never {' or '.join(never)}" if never else band


def fit_calibration(
    logits: np.ndarray, labels: np.ndarray, sources: np.ndarray | None = None, pictures: np.ndarray | None = None
) -> Calibration:
    """Choose temperature, threshold and abstention band.

    The temperature minimises the negative log-likelihood. Without a single mistake the likelihood has no
    minimum (a lower temperature always lowers it), so the temperature is 1. If `sources` is given, the temperature is
    raised to account for unseen sources (`compute_source_shift`). The threshold maximises balanced
    accuracy; among equally good thresholds the nearest to 0.5 is chosen. `high` is the lowest probability with at
    most 5 % of the photographs at or above it, `low` the highest with at most 5 % of the fakes at or
    below it; the upper end of the 90 % interval of either share is at most 10 % (Wilson, 1927), so fewer than 25
    pictures of a class allow no sure verdict of the other. If they cross, nothing is unsure. If the threshold lies
    outside of them, they are widened to it, so that verdict and threshold never disagree.

    Every verdict is unsure if the 95 % interval of the AUROC does not lie above 0.5; it is an interval over sources if
    each class has at least six, else over pictures.

    Parameters
    ----------
    logits : float64 (N, 2), finite, of validation rows
    labels : int (N,), 0 real and 1 fake, both present
    sources : int (N,), number of each row's source; a name that both classes share has two numbers
    pictures : int (N,), number of each row's picture; None if no two rows share a picture
    """
    labels = np.asarray(labels)
    log_odds = compute_log_odds(logits)
    temperature = _fit_temperature(log_odds, labels)
    if sources is not None:
        shift = compute_source_shift(log_odds / temperature, labels, sources, pictures)
        # Mean of the logistic function over a normal distribution: MacKay, "The evidence framework applied to
        # classification networks", 1992.
        temperature = min(temperature * np.sqrt(1 + np.pi / 8 * shift), _BOUNDS[1])
    probabilities = probability_fake(logits / temperature)
    real, fake = np.sort(probabilities[labels != FAKE]), np.sort(probabilities[labels == FAKE])
    threshold = _choose_threshold(real, fake)
    pictures = np.arange(len(labels)) if pictures is None else pictures
    high = low = None
    many = sources is not None and min(len(np.unique(sources[labels == one])) for one in (REAL, FAKE)) >= ENOUGH_SOURCES
    if separates_classes(labels, log_odds, sources if many else pictures):
        high = _find_limit(real[::-1], len(np.unique(pictures[labels != FAKE])))
        low = _find_limit(fake, len(np.unique(pictures[labels == FAKE])))
    high = _HIGHEST if high is None else np.nextafter(high, 2)
    low = _LOWEST if low is None else np.nextafter(low, -1)
    if low >= high:
        low = high = threshold
    return Calibration(float(temperature), threshold, float(min(low, threshold)), float(max(high, threshold)))


def compute_wilson_interval(
    share: float | np.ndarray, trials: int, level: float
) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Compute Wilson's (1927) interval of a share, 0 to 1, of a number of trials; `share` may be an array."""
    squared = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = share + squared / (2 * trials)
    reach = np.sqrt(squared * (share * (1 - share) / trials + squared / (4 * trials**2)))
    scale = 1 + squared / trials
    return np.maximum(centre - reach, 0) / scale, np.minimum((centre + reach) / scale, 1)


def separates_classes(labels: np.ndarray, log_odds: np.ndarray, units: np.ndarray) -> bool:
    """Return whether the 95 % interval of the scores' AUROC lies above guessing.

    Parameters
    ----------
    labels : int (N,)
    log_odds : float64 (N,)
    units : int (N,), number of each row's independent unit, such as its source or its picture
    """
    from data_cards.audit.cross_validation import GUESSING, compute_auroc  # slow to import

    return compute_auroc(labels, log_odds, np.zeros(len(labels)), units).low > GUESSING


def _find_limit(values: np.ndarray, pictures: int) -> float | None:
    """Find the value beyond which few values of a class lie; None if the class has too few pictures to know.

    Parameters
    ----------
    values : float (N,), probabilities of one class's rows, sorted, the most wrong first
    pictures : number of different pictures among the rows
    """
    beyond = np.arange(int(WRONG_SHARE * len(values)) + 1)
    upper = compute_wilson_interval(beyond / len(values), pictures, 0.9)[1]
    allowed = beyond[upper <= MOST_WRONG_SHARE]
    return float(values[allowed[-1]]) if len(allowed) else None


def compute_source_shift(
    values: np.ndarray, labels: np.ndarray, sources: np.ndarray, pictures: np.ndarray | None = None
) -> float:
    """Estimate the variance that an unseen source adds to the mean log-odds, without sampling noise.

    For each class it is the variance of the sources' means less the part due to chance (the method of moments for
    one-way random effects), plus 1 / sources of it, because the common mean is estimated too. The result is the mean
    of the classes; a class with a single source counts as 0.

    Parameters
    ----------
    values, labels, sources, pictures : each (N,); see `fit_calibration`
    """
    pictures = np.arange(len(values)) if pictures is None else pictures
    shifts = []
    for label in np.unique(labels):
        groups = [np.flatnonzero((labels == label) & (sources == one)) for one in np.unique(sources[labels == label])]
        if len(groups) < 2:
            shifts.append(0.0)
            continue
        means = np.array([values[rows].mean() for rows in groups])
        # Variants of a picture are no further evidence of its source's mean.
        counts = np.array([len(np.unique(pictures[rows])) for rows in groups])
        within = sum(((values[rows] - mean) ** 2).sum() for rows, mean in zip(groups, means, strict=True))
        within /= max(sum(map(len, groups)) - len(groups), 1)
        between = max(means.var(ddof=1) - within * np.mean(1 / counts), 0.0)
        shifts.append(between * (1 + 1 / len(groups)))
    return float(np.mean(shifts))


def _fit_temperature(log_odds: np.ndarray, labels: np.ndarray) -> float:
    from scipy.optimize import brentq  # slow to import

    margins = np.where(labels == FAKE, log_odds, -log_odds)
    if margins.min() > 0:
        return 1.0

    def slope(log_temperature: float) -> float:  # of the likelihood by 1 / temperature; rises with the temperature
        return float(np.mean(margins * _sigmoid(-margins / np.exp(log_temperature))))

    lowest, highest = np.log(_BOUNDS)
    if slope(lowest) >= 0:
        return _BOUNDS[0]
    if slope(highest) <= 0:
        return _BOUNDS[1]
    return float(np.exp(brentq(slope, lowest, highest)))


def _choose_threshold(real: np.ndarray, fake: np.ndarray) -> float:
    """Choose among 0.5 and the midpoints of neighbouring probabilities, given sorted ones of each class."""
    values = np.unique(np.concatenate([real, fake]))
    candidates = np.concatenate([[0.5], (values[1:] + values[:-1]) / 2])
    # Twice the balanced accuracy: photographs below the threshold, and fakes from it on.
    right = np.searchsorted(real, candidates) / len(real) + 1 - np.searchsorted(fake, candidates) / len(fake)
    best = candidates[right >= right.max() - 1e-12]
    return float(best[np.argmin(np.abs(best - 0.5))])


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # Use the form of the logistic function that does not overflow.
    small = np.exp(-np.abs(values))
    return np.where(values >= 0, 1 / (1 + small), small / (1 + small))
