"""Variants depend on seed, file and number alone, and say what they did."""

import json

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image

from data_cards.core.errors import UsageError
from pipeline.features.degradations import apply_steps
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, count_variants, draw_variants


def test_train_recipe_is_the_picture_and_three_jpeg_draws():
    drawn = [draw_variants("train", 0, b"%d" % number) for number in range(500)]
    assert count_variants("train") == 4
    assert all(variants[0] == CLEAN for variants in drawn)
    qualities = [one.jpeg_quality for variants in drawn for one in variants[1:]]
    assert (min(qualities), max(qualities)) == (30, 95)
    assert abs(np.mean(qualities) - 62.5) < 2
    subsampled = [one.steps[0]["subsampling"] == "4:2:0" for variants in drawn for one in variants[1:]]
    assert 0.45 < np.mean(subsampled) < 0.55


def test_web_recipe_is_the_picture_and_four_downscaled_copies():
    drawn = [draw_variants("web", 0, b"%d" % number) for number in range(300)]
    assert count_variants("web") == 5
    assert all(variants[0] == CLEAN for variants in drawn)
    steps = [one.steps for variants in drawn for one in variants[1:]]
    factors, qualities = ([one[place][name] for one in steps] for place, name in ((0, "factor"), (1, "quality")))
    assert (min(factors), max(factors)) == (0.5, 1.0)
    assert (min(qualities), max(qualities)) == (50, 98)
    assert abs(np.corrcoef(factors, qualities)[0, 1]) < 0.1
    assert {one[1]["subsampling"] for one in steps} == {"4:4:4", "4:2:0"}


def test_saved_recipe_is_the_picture_and_three_whole_jpeg_copies():
    drawn = [draw_variants("saved", 0, b"%d" % number) for number in range(300)]
    assert count_variants("saved") == 4
    assert all(variants[0] == CLEAN for variants in drawn)
    saved = [one for variants in drawn for one in variants[1:]]
    assert all(one.before_fit and len(one.steps) == 1 for one in saved)
    assert {one.jpeg_quality for one in saved} == set(range(50, 99))
    assert {one.steps[0]["subsampling"] for one in saved} == {"4:4:4", "4:2:0"}


def test_conditions_are_three_of_the_stress_recipe():
    stress = draw_variants("stress", 0, b"picture")
    assert [one.name for one in draw_variants("conditions", 0, b"picture")] == ["clean", "jpeg-75", "web"]
    assert all(one in stress for one in draw_variants("conditions", 0, b"picture"))


def test_draws_equal_golden_values():
    """Pins the draws from version to version: stores built today must resume tomorrow."""
    clean, *drawn = [json.loads(one.format_parameters()) for one in draw_variants("train", 7, b"picture")]
    assert clean == {"steps": [], "before_fit": False}
    assert drawn == [
        {"steps": [{"do": "jpeg", "quality": quality, "subsampling": "4:2:0"}], "before_fit": False}
        for quality in (82, 85, 69)
    ]


def test_another_seed_or_file_draws_otherwise():
    one = draw_variants("train", 0, b"a")
    assert one == draw_variants("train", 0, b"a")
    assert one != draw_variants("train", 1, b"a")
    assert one != draw_variants("train", 0, b"b")


def test_an_unchanged_picture_is_itself():
    picture = draw_noise(1, 64, 64)
    assert apply_steps(picture, CLEAN.steps) is picture


def change(picture, name):
    variant = next(one for one in draw_variants("stress", 0, b"picture") if one.name == name)
    return apply_steps(picture, variant.steps)


def difference(one, other):
    return np.abs(np.asarray(one, float) - np.asarray(other, float)).mean()


@pytest.mark.parametrize(
    "names",
    [
        ["jpeg-95", "jpeg-90", "jpeg-75", "jpeg-60", "jpeg-45", "jpeg-30"],
        ["webp-80", "webp-50"],
        ["scale-2", "scale-0.75", "scale-0.5", "scale-0.25"],
        ["blur-1", "blur-2"],
        ["noise-2", "noise-5"],
    ],
)
def test_stronger_conditions_change_more(names):
    picture = draw_noise(1, 96, 128).resize((256, 192))
    changes = [difference(change(picture, name), picture) for name in names]
    assert changes == sorted(changes)
    assert changes[0] < changes[-1]
    assert all(change(picture, name).size == picture.size for name in names)


def test_sizes_after_a_condition():
    picture = draw_noise(1, 400, 1000)
    sizes = {name: change(picture, name).size for name in ("crop-0.75", "crop-0.5", "web", "hard")}
    assert sizes == {"crop-0.75": (300, 750), "crop-0.5": (200, 500), "web": (307, 768), "hard": (205, 512)}
    assert change(draw_noise(1, 40, 30), "web").size == (40, 30)


def test_noise_has_its_strength_and_is_drawn_for_the_picture():
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    assert np.std(np.asarray(change(grey, "noise-5"), float)) == pytest.approx(5, rel=0.02)
    assert difference(change(grey, "noise-5"), change(grey, "noise-5")) == 0
    seeds = {draw_variants("stress", 0, sha256)[-6].steps[0]["seed"] for sha256 in (b"a", b"b")}
    assert len(seeds) == 2


def test_stress_recipe():
    stress = draw_variants("stress", 0, b"picture")
    assert stress[0] == CLEAN
    assert len({one.name for one in stress}) == len(stress) == 23
    assert {one.name: one.jpeg_quality for one in stress if one.jpeg_quality > 0} == {
        **{f"jpeg-{quality}": quality for quality in (95, 90, 75, 60, 45, 30)},
        "double-jpeg": 90, "screenshot": 80, "web": 60, "hard": 40,
    }  # fmt: skip
    tiny = draw_noise(1, 20, 30)
    settings = FeatureSettings(size=16, fit="crop")
    assert all(one.levels.shape == (1, 9, 16, 16) for one in compute_features(tiny, settings, stress))


def test_unknown_recipe_is_refused():
    with pytest.raises(UsageError, match="expected one of train"):
        draw_variants("nonsense", 0, b"")
