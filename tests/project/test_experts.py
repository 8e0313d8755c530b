"""Features and models of the experts' study (`benchmarks/expert_features.py`, `expert_models.py`, `experts.py`)."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable():
    sys.path.append(str(BENCHMARKS))  # last: `train` there is another file
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def test_comb_of_picture_doubled_with_zeros_peaks_at_period_of_grid(noise):
    from expert_features import PERIODS, compute_comb, compute_excess, compute_mean_spectra

    # Zeros between the samples repeat the spectrum at multiples of 1 / 4 cycle: a constant part becomes peaks.
    spread = np.zeros((512, 512), np.float32)
    spread[::4, ::4] = noise[:128, :128, 0] * 0.2 + 200
    comb = compute_comb(compute_excess(compute_mean_spectra(spread)[0]), cap=None)
    assert PERIODS[comb.argmax()] == pytest.approx(4, rel=0.02)


def test_spectrum_of_picture_upsampled_by_two_peaks_at_half_a_cycle(noise):
    from expert_features import compute_excess, compute_mean_spectra

    spread = np.zeros((512, 512), np.float32)
    spread[::2, ::2] = noise[..., 0] * 0.2 + 200
    excess = compute_excess(compute_mean_spectra(spread)[0])
    peaks = [excess[64, 0], excess[0, 64], excess[64, 64]]  # period 2 in y, in x and in both
    assert min(peaks) > 10 * np.abs(excess[8:56, 8:56]).mean()


def test_flat_picture_has_no_excess_and_no_comb():
    from expert_features import compute_features

    found = compute_features(np.full((200, 300, 3), 90, np.uint8))
    assert np.abs(found["comb"]).max() < 0.05
    assert found["facts"] == pytest.approx([200, 300, 0, 0], abs=1e-3)
    assert all(np.isfinite(vector).all() for vector in found.values())


def test_grey_picture_has_no_chroma_and_flat_tints(noise):
    from expert_features import compute_features

    found = compute_features(np.repeat(noise[..., :1], 3, axis=2))
    assert found["facts"][3] < 1e-3
    assert np.abs(found["colour"]).max() < 1e-3


def test_features_are_deterministic_and_of_stated_lengths(noise):
    from expert_features import compute_features

    first, second = compute_features(noise), compute_features(noise)
    lengths = {"light": 9, "colour": 36, "harmonics": 162, "tints": 324, "comb": 220, "facts": 4}
    assert {name: len(vector) for name, vector in first.items()} == lengths
    assert all((first[name] == second[name]).all() and first[name].dtype == np.float32 for name in first)


@pytest.mark.parametrize("shape", [(1, 1), (20, 300), (2100, 40)])
def test_features_of_odd_sizes_are_finite(shape):
    from expert_features import compute_features

    rgb = np.random.default_rng(1).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert all(np.isfinite(vector).all() for vector in compute_features(rgb).values())


def test_weights_are_even_over_sources_and_classes():
    from expert_models import weigh_sources

    weights = weigh_sources(np.array([1, 1, 1, 0]), np.array(["a", "a", "b", "c"]))
    assert weights == pytest.approx([0.125, 0.125, 0.25, 0.5])


def test_logistic_finds_the_side_of_a_separable_class():
    from expert_models import Logistic

    inputs = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    logits = Logistic().fit(inputs, np.array([0, 0, 1, 1]), np.full(4, 0.25)).compute_logits(inputs)
    assert (np.sign(logits) == [-1, -1, 1, 1]).all()


def test_sure_limit_keeps_wrong_share_and_is_out_of_reach_where_none_is():
    from experts import find_sure_limit

    probability, weights = np.array([0.9, 0.8, 0.7, 0.6]), np.full(4, 0.25)
    assert find_sure_limit(probability, np.array([0, 0, 1, 1]), weights) == 0.8
    assert find_sure_limit(probability, np.ones(4), weights) == 1.01
