"""Profiles: what their vectors measure on pictures with known spectra."""

import itertools

import numpy as np
import pytest
from PIL import Image

from pipeline.features.degradations import apply_steps
from pipeline.features.extract import compute_features
from pipeline.features.patch_spectra import compute_mean_spectra
from pipeline.features.profile_vectors import PERIODS, PROFILE_LENGTH, PROFILE_VECTORS, split_profiles
from pipeline.features.profiles import (
    PROFILE_STEP,
    compute_comb,
    compute_excess,
    compute_profile,
    compute_squeezed,
    compute_vectors,
)
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, Variant, create_jpeg_variant, draw_variants


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


def compute_plain_spectra(plane):
    """Mean log amplitude spectra, one patch after the other, in double precision."""
    sides = [min(128, side) for side in plane.shape]
    window = np.outer(*(np.hanning(side + 1)[:-1] for side in sides))
    window /= np.linalg.norm(window)
    places = (
        np.unique(np.linspace(0, whole - side, max(1, (whole - side) // 64 + 1)).astype(int))
        for whole, side in zip(plane.shape, sides, strict=True)
    )
    logs = []
    for top, left in itertools.product(*places):
        patch = plane[top : top + sides[0], left : left + sides[1]].astype(np.float64)
        power = np.abs(np.fft.fft2((patch - patch.mean()) * window, (128, 128))) ** 2
        logs.append([np.log(power + 2), np.log(power / (power[:, :65].mean() + 0.05) + 1e-4)])
    mean = 0.5 * np.mean(logs, 0)
    return (mean[:, :65, :65] + mean[:, -np.arange(65)][..., :65]) / 2


@pytest.mark.parametrize("shape", [(256, 300), (530, 140), (130, 40), (20, 140), (2, 3)])
def test_mean_spectra_equal_the_plain_way(shape):
    plane = np.random.default_rng(3).normal(120, 20, shape).astype(np.float32)
    plane[: shape[0] // 2] *= 0.1  # patches of other contrast
    np.testing.assert_allclose(compute_mean_spectra(plane), compute_plain_spectra(plane), atol=2e-4)


def test_flat_patches_of_any_level_have_no_power():
    """Not even by the rounding of their mean, which the relative floor would show."""
    plane = np.full((256, 256), np.float32(100) / 3, np.float32)
    np.testing.assert_allclose(compute_mean_spectra(plane)[1], 0.5 * np.log(1e-4), atol=1e-6)


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


def test_rings_equal_the_plain_way(noise):
    """Of squares of 128 px and of 64 px, which are means of 2 x 2 pixels."""
    picture = Image.fromarray(noise)
    small = np.asarray(picture.resize((128, 128), Image.Resampling.BOX)).astype(np.float64)
    luma = small @ [0.299, 0.587, 0.114]
    blue, red = 0.564 * (small[..., 2] - luma), 0.713 * (small[..., 0] - luma)
    halves = [plane.reshape(64, 2, 64, 2).mean((1, 3)) for plane in (blue, red)]
    found = compute_squeezed(picture)
    wanted = [compute_plain_rings(plane, 0.1) for plane in (halves[0], blue, halves[1], red)]
    np.testing.assert_allclose(found["colour"], np.concatenate(wanted), atol=1e-4)
    np.testing.assert_allclose(found["light"], compute_plain_rings(40 * np.log(luma + 8), 20), atol=1e-4)


def compute_plain_rings(plane, floor):
    """Rings of the mean log amplitude of patches of 16 px, 8 px apart, less their mean, in double precision."""
    window = np.outer(np.hanning(17)[:-1], np.hanning(17)[:-1])
    window /= np.linalg.norm(window)
    corners = itertools.product(range(0, len(plane) - 15, 8), repeat=2)
    patches = (plane[top : top + 16, left : left + 16] for top, left in corners)
    power = [np.abs(np.fft.rfft2((patch - patch.mean()) * window)) ** 2 for patch in patches]
    mean = 0.5 * np.mean(np.log(np.array(power) + floor), 0)
    radius = np.minimum(np.hypot(np.fft.fftfreq(16)[:, None] * 16, np.arange(9)) + 0.5, 9).astype(int)
    rings = np.array([mean[radius == number].mean() for number in range(1, 10)])
    return rings - rings.mean()


def test_facts_are_those_of_the_original_also_of_a_large_picture():
    rgb = np.random.default_rng(5).normal(128, 30, (150, 3000, 3)).clip(0, 255).astype(np.uint8)
    (found,) = compute_features(Image.fromarray(rgb), FeatureSettings())
    height, width, *_ = split_profiles(found.profile)["facts"]
    assert (height, width) == (150, 3000)
    part = rgb[:, :900].astype(np.float64)
    *_, contrast, chroma = compute_vectors(Image.fromarray(rgb[:, :900]))["facts"]
    luma = part @ [0.299, 0.587, 0.114]
    assert contrast == pytest.approx(luma.std(), rel=0.02)  # measured on some of the rows
    assert chroma == pytest.approx(sum(np.abs(part[..., band] - luma).mean() for band in (0, 2)), rel=0.02)


@pytest.mark.parametrize("size", [(2200, 40), (200, 300)], ids=["large", "small"])
def test_views_that_share_steps_have_the_profiles_of_views_made_alone(size):
    """The unchanged and the shrunk view of a large picture begin with the same step; a small one is not shrunk."""
    picture = Image.fromarray(np.random.default_rng(4).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    views = draw_variants("views", 0, bytes(32))
    for found, view in zip(compute_features(picture, FeatureSettings(), views), views, strict=True):
        np.testing.assert_array_equal(found.profile, compute_profile(apply_steps(picture, view.steps)))
