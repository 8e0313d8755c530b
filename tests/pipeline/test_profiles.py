"""Profiles: what their vectors measure on pictures with known spectra."""

import numpy as np
import pytest
from PIL import Image

from pipeline.features.degradations import apply_steps
from pipeline.features.extract import compute_features
from pipeline.features.profile_vectors import PERIODS, PROFILE_LENGTH, PROFILE_VECTORS, split_profiles
from pipeline.features.profiles import (
    PROFILE_STEP,
    compute_comb,
    compute_excess,
    compute_mean_spectra,
    compute_profile,
    compute_vectors,
)
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, Variant, create_jpeg_variant


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def test_comb_of_picture_doubled_with_zeros_peaks_at_period_of_grid(noise):
    # Zeros between the samples repeat the spectrum at multiples of 1 / 4 cycle: a constant part becomes peaks.
    spread = np.zeros((512, 512), np.float32)
    spread[::4, ::4] = noise[:128, :128, 0] * 0.2 + 200
    comb = compute_comb(compute_excess(compute_mean_spectra(spread)[0]), cap=None)
    assert PERIODS[comb.argmax()] == pytest.approx(4, rel=0.02)


def test_spectrum_of_picture_upsampled_by_two_peaks_at_half_a_cycle(noise):
    spread = np.zeros((512, 512), np.float32)
    spread[::2, ::2] = noise[..., 0] * 0.2 + 200
    excess = compute_excess(compute_mean_spectra(spread)[0])
    peaks = [excess[64, 0], excess[0, 64], excess[64, 64]]  # period 2 in y, in x and in both
    assert min(peaks) > 10 * np.abs(excess[8:56, 8:56]).mean()


def test_flat_picture_has_no_excess_and_no_comb():
    found = compute_vectors(Image.new("RGB", (300, 200), (90, 90, 90)))
    assert np.abs(found["comb"]).max() < 0.05
    assert found["facts"] == pytest.approx([200, 300, 0, 0], abs=1e-3)
    assert all(np.isfinite(vector).all() for vector in found.values())


def test_grey_picture_has_no_chroma_and_flat_tints(noise):
    found = compute_vectors(Image.fromarray(np.repeat(noise[..., :1], 3, axis=2)))
    assert found["facts"][3] < 1e-3
    assert np.abs(found["colour"]).max() < 1e-3


def test_profile_is_deterministic_rounded_and_of_stated_lengths(noise):
    picture = Image.fromarray(noise)
    first, second = compute_profile(picture), compute_profile(picture)
    assert first.dtype == np.float32
    assert first.shape == (PROFILE_LENGTH,) == (755,)
    assert (first == second).all()
    assert (first / PROFILE_STEP == np.rint(first / PROFILE_STEP)).all()
    assert {name: vector.size for name, vector in split_profiles(first).items()} == PROFILE_VECTORS


def test_split_profiles_of_many_pictures_keeps_their_axis(noise):
    profile = compute_profile(Image.fromarray(noise))
    vectors = split_profiles(np.stack([profile, profile]))
    assert vectors["comb"].shape == (2, 220)
    assert (vectors["facts"][1, :2] == noise.shape[:2]).all()


@pytest.mark.parametrize("size", [(1, 1), (300, 20), (40, 2100)])
def test_profiles_of_odd_sizes_are_finite(size):
    rgb = np.random.default_rng(1).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    assert np.isfinite(compute_profile(Image.fromarray(rgb))).all()


SHRINK = ({"do": "scale", "factor": 0.5, "filter": "bicubic"},)


@pytest.mark.parametrize(
    "variant",
    [CLEAN, create_jpeg_variant(75), Variant("after", SHRINK), Variant("before", SHRINK, before_fit=True)],
    ids=lambda variant: variant.name,
)
@pytest.mark.parametrize(
    "settings", [FeatureSettings(size=64, fit="crop"), FeatureSettings(size=32)], ids=["crop", "cover"]
)
def test_features_have_the_profile_of_the_whole_changed_picture(variant, settings):
    """Whatever the planes are made of: a crop, a resampled picture, or an enlarged one."""
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (96, 120, 3), dtype=np.uint8))
    (found,) = compute_features(picture, settings, [variant])
    np.testing.assert_array_equal(found.profile, compute_profile(apply_steps(picture, variant.steps)))
    (alone,) = compute_features(picture, settings, [variant], with_profile=False)
    assert alone.profile is None
    np.testing.assert_array_equal(alone.levels, found.levels)
