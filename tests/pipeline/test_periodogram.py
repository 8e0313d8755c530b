"""The nine planes: the original program's definitions, exact symmetry, fixed scales."""

from pathlib import Path

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image

from pipeline.features.fit import fit_picture, to_array
from pipeline.features.periodogram import (
    compute_dct_bound,
    compute_magnitude_bound,
    compute_periodogram,
    compute_periodogram_levels,
)
from pipeline.features.settings import FeatureSettings

DATA = Path(__file__).resolve().parents[1] / "data"
SIZES = [(8, 8), (9, 9), (8, 9), (9, 8), (64, 48), (33, 50), (1, 1), (1, 8), (2, 3)]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mirror(planes):
    """Planes at -k: index i goes to (2 * (N // 2) - i) mod N."""
    height, width = planes.shape[1:]
    rows = (2 * (height // 2) - np.arange(height)) % height
    columns = (2 * (width // 2) - np.arange(width)) % width
    return planes[:, rows][:, :, columns]


def stretch(planes):
    low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
    return (planes - low) / np.where(high > low, high - low, 1) * 255


@pytest.mark.parametrize("name", ["noise_48", "waves_63", "waves_96"])
def test_planes_of_made_up_pictures_equal_the_original_program(name):
    with np.load(DATA / "spectra_made_up.npz") as spectra:
        check_against_original(spectra[f"{name}.rgb"], spectra[f"{name}.levels"])


@pytest.mark.parametrize(
    "name", ["gradient_80", "noise_64", "photo_crop_96", "photo_crop_128", "resized_300x200_to_96"]
)
def test_planes_of_photographs_equal_the_original_program(reference_spectra, name):
    check_against_original(reference_spectra[f"{name}.rgb"], reference_spectra[f"{name}.features"] * 255)


def check_against_original(rgb, expected):
    """Planes of a picture, stretched as the original program did, are `expected` (levels) but for rounding."""
    if rgb.shape[:2] != expected.shape[1:]:
        settings = FeatureSettings(size=expected.shape[1], fit="stretch")
        rgb = to_array(fit_picture(Image.fromarray(rgb), settings))
    planes = compute_periodogram(rgb).astype(np.float64)
    visible = planes[0:3] > np.log1p(0.01)  # elsewhere the phase is that of rounding noise
    planes[3:6] = (np.pi / 2 - planes[3:6]) % (2 * np.pi)  # its phase convention
    difference = np.abs(stretch(planes) - expected)
    difference[3:6] = np.minimum(difference[3:6], 255 - difference[3:6])
    # Where most of a plane is zero its smallest and largest phase are noise, and so is the stretching.
    phase_counts = visible.mean() > 0.5
    assert difference[[0, 1, 2, 6, 7, 8]].max() < 1.01
    if phase_counts:
        assert difference[3:6][visible].max() < 1.01


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equal_to_the_complex_transform(height, width):
    rgb = noise(height, width)
    planes = compute_periodogram(rgb)
    full = np.fft.fftshift(np.fft.fft2(rgb.astype(np.float64), axes=(0, 1)), axes=(0, 1)).transpose(2, 0, 1)
    assert np.allclose(planes[0:3], np.log1p(np.abs(full)), atol=1e-4)
    turn = np.abs(np.exp(1j * planes[3:6]) - np.exp(1j * np.angle(full)))
    assert turn[np.abs(full) > 1].max() < 1e-3


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_mirror_images_are_exact(height, width):
    levels = compute_periodogram_levels(noise(height, width))
    assert (levels[0:3] == mirror(levels[0:3])).all()
    assert (levels[3:6] == np.negative(mirror(levels[3:6]))).all()
    planes = compute_periodogram(noise(height, width))
    assert (planes[0:3] == mirror(planes[0:3])).all()
    assert planes[3:6].max() <= np.float32(np.pi)
    assert planes[3:6].min() > -np.float32(np.pi)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_levels_are_the_planes_on_their_fixed_scales(height, width):
    rgb = noise(height, width)
    planes, levels = compute_periodogram(rgb).astype(np.float64), compute_periodogram_levels(rgb).astype(int)
    assert np.abs(levels[0:3] - planes[0:3] * 255 / compute_magnitude_bound(height, width)).max() <= 0.501
    assert np.abs(levels[6:9] - planes[6:9] * 255 / compute_dct_bound(height, width)).max() <= 0.501
    step = (levels[3:6] - planes[3:6] * 128 / np.pi + 128) % 256 - 128
    assert np.abs(step).max() <= 0.501


@pytest.mark.parametrize("value", [0, 1, 255])
def test_extreme_pictures_stay_on_the_scale(value):
    levels = compute_periodogram_levels(np.full((16, 16, 3), value, dtype=np.uint8))
    assert levels[0, 8, 8] == levels[6, 0, 0] or value == 1
    assert levels[0, 8, 8] == (255 if value == 255 else levels[0, 8, 8])
    assert levels[3, 8, 8] == 0  # a positive mean has phase 0
    assert (np.delete(levels[0].ravel(), 8 * 16 + 8) == 0).all()


def test_levels_do_not_depend_on_the_rest_of_the_picture():
    """The original stretched every plane to its own range; here the same wave gives the same level."""
    x = np.arange(32)
    wave = 20 * np.cos(2 * np.pi * 4 * x / 32)
    calm = np.broadcast_to((100 + wave)[None, :, None], (32, 32, 3))
    loud = calm + 60 * np.cos(2 * np.pi * 8 * x / 32)[None, :, None]
    levels = [compute_periodogram_levels(np.rint(one).astype(np.uint8))[0, 16, 20] for one in (calm, loud)]
    assert abs(int(levels[0]) - int(levels[1])) <= 1


@pytest.mark.parametrize("fit", ["cover", "stretch", "crop"])
@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (50, 50), (49, 61)])
def test_fits_give_the_size(fit, width, height):
    fitted = fit_picture(draw_noise(1, width, height), FeatureSettings(size=33, fit=fit))
    assert fitted.size == (33, 33)


def test_cover_takes_the_middle_and_crop_keeps_pixels():
    picture = draw_noise(1, 64, 48)
    pixels = to_array(picture)
    crop = to_array(fit_picture(picture, FeatureSettings(size=40, fit="crop")))
    assert (crop == pixels[4:44, 12:52]).all()
    cover = to_array(fit_picture(picture, FeatureSettings(size=48, fit="cover")))
    assert (cover == pixels[:, 8:56]).all()
