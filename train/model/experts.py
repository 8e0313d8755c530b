"""Experts: five logistic regressions on a picture's profile, whose log-odds are added, and their limits.

| expert | reads |
|---|---|
| light | rings of the whole picture's brightness, squeezed |
| colour | the same of its colours |
| harmonics | luma's spectrum at multiples of 1/16 cycle a pixel, less its background |
| tints | the same of B - Y and R - Y |
| comb | how much of luma's spectrum lies on combs of each period, compared with photographs |

All have equal weights: learned weights did worse on sources outside of training (`docs/evidence.md`). Slope and
offset of the sum, the band of "unsure" and the limits of `Unlike` come from pictures of sources that were left out of
the fit (`train.recipe.experts`). NumPy alone, no PyTorch.
"""

import math
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np

from pipeline.features.profile_vectors import PERIODS, PROFILE_VECTORS, split_profiles
from train.model.calibration import Calibration
from train.model.logistic import Distance, Logistic

EXPERTS = ("light", "colour", "harmonics", "tints", "comb")
OF_CONTENT = ("light", "colour")  # experts on the content of a picture; the others read traces of a decoder
CONTRADICTION = 0.75  # log-odds beyond which the two groups of experts contradict each other
# Leading numbers of a vector that its distance reads: of two spectra the one with the absolute floor.
DISTANCES = {"light": 9, "colour": 36, "harmonics": 81, "tints": 162}
# px: half of a decoder's period of 8 px, about the period, and twice it are in different bands, so that no peak hides
# another.
_EDGES = 8 * np.array([0.39, 0.6, 0.8, 0.96, 1.05, 1.4, 2.21])
COMB_BANDS = [(least <= PERIODS) & (most > PERIODS) for least, most in pairwise(_EDGES)]
SIDE_SHARE = 0.9  # of the smallest training side, below which a picture is too small
LEAST_CONTRAST = 4.0  # grey levels, deviation of luma: a picture below is blank
LEAST_CHROMA = 3.0  # grey levels, mean |B - Y| + |R - Y|: a picture below is grey
SURE_WRONG_SHARE = 0.04  # most, of the sure verdicts on pictures of sources that the fit left out
LOG_ODDS_LIMIT = 16.0  # a probability never reaches 0 or 1, so that with a band from 0 to 1 every verdict is unsure


class Unlike(IntEnum):
    """Reason why a picture is unlike the training pictures, so that its verdict is "unsure"; the first that holds.

    In the last three cases the picture may be like them, but the score is not reliable.
    """

    NOTHING = 0
    SMALL = 1  # a side is shorter than nearly all of them
    BLANK = 2  # hardly any contrast
    GREY = 3  # hardly any colour
    FAR = 4  # its profile is farther from theirs than those of pictures of sources that were left out
    CONTRADICTED = 5  # content and decoder traces clearly indicate different classes
    UNTRIED = 6  # no source could be left out, so nothing is known about pictures from elsewhere
    UNPROVEN = 7  # the detector's tests allow no sure verdict: it hardly separates the classes, or they were too small


_WHY_ALWAYS_UNSURE = {
    Unlike.UNTRIED: "at least one class had only one source in training (sources that share near-duplicates count as "
    "one), so no test on other sources was possible",
    Unlike.UNPROVEN: "on sources left out of training, it did not separate the classes clearly enough",
}
_WHY_NETWORK_IS_UNSURE = (
    "a class had only one source in training, or its tests are too small, or do not separate the classes"
)


@dataclass(frozen=True)
class Experts:
    """The fitted experts.

    Attributes
    ----------
    models : dict of str to Logistic, by expert
    photographs : float (2, 220), mean and deviation of the photographs' combs
    distances : dict of str to Distance, by vector
    slope, offset : float, from the sum of the experts' log-odds to calibrated log-odds
    low, high : float, 0 to 1, the band of "unsure"; with 0 and 1 every verdict is unsure
    least_side : float, smallest side of a training picture, in px
    sources_left_out : bool, whether slope, band and limits come from sources that were left out
    network_weight : float, 0 or more, factor of a network's log-odds in the sum; 0 without a network
    """

    models: dict[str, Logistic]
    photographs: np.ndarray
    distances: dict[str, Distance]
    slope: float
    offset: float
    low: float
    high: float
    least_side: float
    sources_left_out: bool
    network_weight: float = 0.0

    @property
    def calibration(self) -> Calibration:
        """The band of "unsure" of calibrated log-odds."""
        return Calibration(1.0, 0.5, self.low, self.high)

    @property
    def needed_side(self) -> int:
        """The number of pixels that no side of a picture may be shorter than."""
        return math.ceil(SIDE_SHARE * self.least_side)

    def compute_log_odds(self, profiles: np.ndarray) -> np.ndarray:
        """Compute the calibrated log-odds of "fake", float64 (N,), of profiles, float32 (N, 755)."""
        return sum(self.compute_parts(profiles).values()) + self.offset

    def compute_parts(self, profiles: np.ndarray) -> dict[str, np.ndarray]:
        """Compute what each expert adds to the calibrated log-odds, float64 (N,) each."""
        parts = compute_expert_log_odds(self.models, self.photographs, profiles)
        return {name: self.slope * values for name, values in parts.items()}

    def find_unlike(self, profiles: np.ndarray) -> np.ndarray:
        """Find why pictures are unlike the training pictures, uint8 (N,) of `Unlike`."""
        limits = [distance.limit for distance in self.distances.values()]
        height, width, contrast, _ = split_profiles(profiles)["facts"].T
        conditions = {
            Unlike.SMALL: np.minimum(height, width) < self.needed_side,
            Unlike.BLANK: contrast < LEAST_CONTRAST,
            Unlike.GREY: find_grey(profiles),
            Unlike.FAR: (measure_distances(self.distances, profiles) > limits).any(1),
            Unlike.CONTRADICTED: find_contradictions(self.compute_parts(profiles)),
            Unlike.UNTRIED: np.full(len(profiles), not self.sources_left_out),
            Unlike.UNPROVEN: np.full(len(profiles), self.calibration.is_always_unsure),
        }
        return np.select(list(conditions.values()), list(conditions), Unlike.NOTHING).astype(np.uint8)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return all values as named float32 arrays."""
        arrays = {name: getattr(self, name) for name in _SINGLE}
        for group in ("models", "distances"):
            for name, one in getattr(self, group).items():
                arrays |= {f"{group}.{name}.{field}": value for field, value in vars(one).items()}
        return {name: np.atleast_1d(np.asarray(value, np.float32)) for name, value in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "Experts":
        """Invert `to_arrays`.

        Raises
        ------
        ValueError : an array is missing, left over, or of another shape, or a value is out of its range
        """
        shapes = list_shapes()
        for name in sorted({*arrays, *shapes}):
            found = arrays[name].shape if name in arrays else None
            if found != shapes.get(name):
                raise ValueError(f"{name} has shape {found}; expected {shapes.get(name)}")
            if not np.isfinite(arrays[name]).all():
                raise ValueError(f"{name} is not finite")
        values = {
            name: array.astype(np.float64) if array.shape != (1,) else float(array[0]) for name, array in arrays.items()
        }
        for name in values:
            if name.endswith(".deviation") and not (arrays[name] > 0).all():
                raise ValueError(f"{name} is not above 0")
        models, distances = (
            {name: kind(*(values[f"{group}.{name}.{field.name}"] for field in fields(kind))) for name in names}
            for group, kind, names in (("models", Logistic, EXPERTS), ("distances", Distance, DISTANCES))
        )
        if not (arrays["photographs"][1] > 0).all():
            raise ValueError("the deviation of photographs is not above 0")
        experts = cls(models, distances=distances, **{name: values[name] for name in _SINGLE})
        if not (0 <= experts.low <= 0.5 <= experts.high <= 1 and experts.slope > 0):
            raise ValueError(
                f"slope {experts.slope}, band {experts.low} to {experts.high}; "
                "expected a slope above 0, and a band around 0.5 within 0 to 1"
            )
        return replace(experts, sources_left_out=bool(experts.sources_left_out))


_SINGLE = ("photographs", "slope", "offset", "low", "high", "least_side", "sources_left_out", "network_weight")


def list_shapes() -> dict[str, tuple[int, ...]]:
    """List the shape of each array of `Experts.to_arrays`."""
    shapes = dict.fromkeys(_SINGLE, (1,)) | {"photographs": (2, PROFILE_VECTORS["comb"])}
    for name in EXPERTS:
        count = 2 * len(COMB_BANDS) if name == "comb" else PROFILE_VECTORS[name]
        shapes |= dict.fromkeys((f"models.{name}.{one}" for one in ("mean", "deviation", "coefficients")), (count,))
        shapes |= dict.fromkeys((f"models.{name}.{one}" for one in ("offset", "clip")), (1,))
    for name, count in DISTANCES.items():
        shapes |= dict.fromkeys((f"distances.{name}.{one}" for one in ("mean", "deviation")), (count,))
        shapes |= {f"distances.{name}.inverse": (count, count), f"distances.{name}.limit": (1,)}
    return shapes


def format_network_weight(weight: float) -> str:
    """Format how much a network counts beside the experts."""
    if weight == 0:
        return "does not count, because it did not clearly improve on the experts on other sources"
    return f"its log-odds are added to the experts', multiplied by {weight:.2f}"


def explain_always_unsure(calibration: Calibration, experts: Experts | None) -> str | None:
    """Explain why a detector never gives a sure verdict, in one clause; None if it gives some.

    Parameters
    ----------
    calibration : Calibration of the whole detector
    experts : Experts or None, None without experts
    """
    if experts is not None and not experts.sources_left_out:
        return _WHY_ALWAYS_UNSURE[Unlike.UNTRIED]
    if not calibration.is_always_unsure:
        return None
    return _WHY_NETWORK_IS_UNSURE if experts is None else _WHY_ALWAYS_UNSURE[Unlike.UNPROVEN]


def compute_inputs(name: str, profiles: np.ndarray, photographs: np.ndarray) -> np.ndarray:
    """Compute the inputs of an expert's regression, float (N, D), from profiles (N, 755).

    Parameters
    ----------
    photographs : float (2, 220), see `Experts`; the comb's input is the largest standardised value in each band of
        periods, of each spectrum
    """
    vectors = split_profiles(profiles)[name]
    if name != "comb":
        return vectors.astype(np.float64)
    mean, deviation = photographs
    combs = ((vectors - mean) / deviation).reshape(len(vectors), -1, len(PERIODS))
    return np.concatenate([combs[:, :, band].max(2) for band in COMB_BANDS], 1)


def compute_expert_log_odds(
    models: dict[str, Logistic], photographs: np.ndarray, profiles: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute each expert's own log-odds, float64 (N,), not calibrated."""
    return {name: model.compute_log_odds(compute_inputs(name, profiles, photographs)) for name, model in models.items()}


def find_contradictions(parts: dict[str, np.ndarray]) -> np.ndarray:
    """Find pictures, bool (N,), whose light and colour indicate one class and whose patterns indicate the other.

    Parameters
    ----------
    parts : float (N,) of each expert, what it adds to the calibrated log-odds
    """
    content = sum(parts[name] for name in OF_CONTENT)
    patterns = sum(values for name, values in parts.items() if name not in OF_CONTENT)
    opposed = np.sign(content) != np.sign(patterns)
    return opposed & (np.minimum(np.abs(content), np.abs(patterns)) > CONTRADICTION)


def find_grey(profiles: np.ndarray) -> np.ndarray:
    """Find pictures, bool (N,), with hardly any colour; none where `profiles` is empty, (N, 0)."""
    if not profiles.shape[1]:
        return np.zeros(len(profiles), bool)
    return split_profiles(profiles)["facts"][:, 3] < LEAST_CHROMA


def measure_distances(distances: dict[str, Distance], profiles: np.ndarray) -> np.ndarray:
    """Measure the distance of each of `DISTANCES`, float64 (N, 4)."""
    vectors = split_profiles(profiles)
    return np.stack(
        [distance.measure(vectors[name][:, : DISTANCES[name]]) for name, distance in distances.items()], axis=1
    )
