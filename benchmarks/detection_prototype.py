"""Feature vectors of the earlier prototype that the experts are compared with: shape, harmonics and comb."""

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import fft

from pipeline.features.patch_spectra import fold_quadrants, iterate_powers, make_hann
from pipeline.features.profiles import compute_comb, compute_excess, extract_native_planes, select_harmonics
from train.model.logistic import compute_moments, fit_logistic

PERIODS = 8 * np.linspace(0.4, 2.2, 91)  # px
SHAPE_SIDES = (128, 256)  # px, that the whole picture is squeezed to
SHAPE_PATCH, SHAPE_RINGS = 32, 18  # px; rings of frequency
SHAPE_FLOOR, NATIVE_FLOOR = 0.1, 0.02  # grey levels squared


def compute_prototype(picture: Image.Image) -> dict[str, np.ndarray]:
    """Compute the prototype's vectors of an RGB picture.

    Returns
    -------
    `prototype-shape` (36,), `prototype-harmonics` (81,) and `prototype-comb` (91,), float32: log amplitudes
    """
    luma = extract_native_planes(picture)[0]
    means = [np.log(power + NATIVE_FLOOR).mean(0) for power in iterate_powers(luma)]  # of as many patches each
    excess = compute_excess(fold_quadrants(0.5 * np.mean(means, 0)))
    return {
        "prototype-shape": _compute_shape(picture),
        "prototype-harmonics": select_harmonics(excess),
        "prototype-comb": np.clip(compute_comb(excess, PERIODS, cap=None), -1, 1.5),
    }


def fit_prototype(
    take: Callable[[str], np.ndarray], labels: np.ndarray, weights: np.ndarray
) -> Callable[[Callable[[str], np.ndarray]], np.ndarray]:
    """Fit the prototype to vectors that `take` returns by name; return a function that scores others, (N,)."""
    of_photographs = weights * (labels == 0)
    photographs = compute_moments(take("prototype-comb"), of_photographs / of_photographs.sum(), least=1e-6)

    def list_inputs(take: Callable[[str], np.ndarray]) -> list[np.ndarray]:
        return [take("prototype-shape"), take("prototype-harmonics"), _summarise(take("prototype-comb"), *photographs)]

    models = [fit_logistic(inputs, labels, weights, penalty=0.1) for inputs in list_inputs(take)]

    def score(take: Callable[[str], np.ndarray]) -> np.ndarray:
        each = [model.compute_log_odds(inputs) for model, inputs in zip(models, list_inputs(take), strict=True)]
        return sum((one - one.mean()) / one.std() for one in each)

    return score


def _summarise(combs: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return six numbers of each comb: largest, means of the top 5 and 20 and of the lowest 5, mean, deviation."""
    ordered = np.sort((combs - mean) / deviation, 1)[:, ::-1]
    means = [ordered[:, :5].mean(1), ordered[:, :20].mean(1), ordered[:, -5:].mean(1), ordered.mean(1)]
    return np.stack([ordered[:, 0], *means, ordered.std(1)], 1)


def _compute_shape(picture: Image.Image) -> np.ndarray:
    grey = picture.convert("L")
    filter = Image.Resampling.BOX if min(grey.size) >= 512 else Image.Resampling.BICUBIC
    largest = grey.resize((SHAPE_SIDES[1], SHAPE_SIDES[1]), filter)
    profiles = []
    for side in SHAPE_SIDES:
        plane = np.asarray(largest.resize((side, side), Image.Resampling.BOX), np.float32)
        size, step = (SHAPE_PATCH, SHAPE_PATCH), SHAPE_PATCH // 2
        patches = np.lib.stride_tricks.sliding_window_view(plane, size)[::step, ::step].reshape(-1, *size)
        spectrum = fft.rfft2((patches - patches.mean((1, 2), keepdims=True)) * make_hann(*size), axes=(2, 1))
        folded = fold_quadrants((0.5 * np.log(spectrum.real**2 + spectrum.imag**2 + SHAPE_FLOOR)).mean(0))
        bins = np.arange(step + 1)
        ring = np.minimum((np.hypot(bins[:, None], bins) + 0.5).astype(int), SHAPE_RINGS)
        profile = np.array([folded[ring == number].mean() for number in range(1, SHAPE_RINGS + 1)])
        profiles.append(profile - profile.mean())
    return np.concatenate(profiles).astype(np.float32)
