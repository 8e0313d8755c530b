"""Variants depend on seed, file and number alone, and say what they did."""

import json

import numpy as np
import pytest
from conftest import draw_noise

from data_cards.errors import UsageError
from pipeline.variants import Variant, apply_variant, count_variants, draw_variants


def test_train_recipe_is_the_picture_and_three_jpeg_draws():
    drawn = [draw_variants("train", 0, b"%d" % number) for number in range(500)]
    assert count_variants("train") == 4
    assert all(variants[0] == Variant("clean") for variants in drawn)
    qualities = [one.jpeg_quality for variants in drawn for one in variants[1:]]
    assert (min(qualities), max(qualities)) == (30, 95)
    assert abs(np.mean(qualities) - 62.5) < 2
    subsampled = [one.parameters["subsampling"] == "4:2:0" for variants in drawn for one in variants[1:]]
    assert 0.45 < np.mean(subsampled) < 0.55


def test_golden_draws():
    """Pins the draws from version to version: stores built today must resume tomorrow."""
    drawn = [json.loads(one.parameters_as_json()) for one in draw_variants("train", 7, b"picture")]
    assert drawn == [
        {},
        {"quality": 82, "subsampling": "4:2:0"},
        {"quality": 85, "subsampling": "4:2:0"},
        {"quality": 69, "subsampling": "4:2:0"},
    ]


def test_another_seed_or_file_draws_otherwise():
    one = draw_variants("train", 0, b"a")
    assert one == draw_variants("train", 0, b"a")
    assert one != draw_variants("train", 1, b"a")
    assert one != draw_variants("train", 0, b"b")


def test_jpeg_draws_change_the_picture_as_recorded():
    picture = draw_noise(1, 64, 64)
    assert apply_variant(picture, Variant("clean")) is picture
    errors = [
        np.abs(np.asarray(apply_variant(picture, Variant("jpeg", parameters))) - np.asarray(picture, float)).mean()
        for parameters in (
            {"quality": 95, "subsampling": "4:4:4"},
            {"quality": 95, "subsampling": "4:2:0"},
            {"quality": 30, "subsampling": "4:2:0"},
        )
    ]
    assert errors == sorted(errors)
    assert errors[0] < errors[1] < errors[2]


def test_unknown_recipe():
    with pytest.raises(UsageError, match="expected one of train"):
        draw_variants("nonsense", 0, b"")
