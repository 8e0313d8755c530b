"""The training benchmark: its rival on the device makes the store's features, and all of it runs."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pipeline.features.extract import compute_features
from pipeline.features.periodogram import compute_periodogram_levels
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import draw_variants
from pipeline.simulate.sample_set import write_sample


@pytest.fixture(scope="module")
def benchmark():
    file = Path(__file__).parents[2] / "benchmarks" / "train.py"
    spec = importlib.util.spec_from_file_location("benchmark_train", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shape", [(64, 64), (33, 48)])
def test_transform_on_the_device_gives_the_features(benchmark, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    wanted = np.stack([compute_periodogram_levels(one) for one in pixels])
    found = benchmark.transform_pixels(torch.from_numpy(pixels)).numpy()
    difference = (found.astype(int) - wanted + 128) % 256 - 128
    assert found.dtype == np.uint8
    assert np.abs(difference).max() <= 1
    assert np.mean(difference != 0) < 1e-3


@pytest.mark.parametrize("recipe", ["train", "views"])
def test_pixels_of_a_variant_give_its_features(benchmark, recipe):
    values = np.random.default_rng(0).normal(0, 9, (90, 130, 3)).cumsum(0).cumsum(1)
    picture = Image.fromarray((values % 256).astype(np.uint8))
    settings, variants = FeatureSettings(size=32, levels="fine"), draw_variants(recipe, 0, b"")
    wanted = [one.levels[0] for one in compute_features(picture, settings, variants, with_profile=False)]
    fitted = [np.array(benchmark.fit_variant(picture, settings, one)) for one in variants]
    found = benchmark.transform_pixels(torch.from_numpy(np.stack(fitted))).numpy()
    difference = (found.astype(int) - wanted + 128) % 256 - 128
    assert np.abs(difference).max() <= 1


@pytest.mark.slow
def test_benchmark_of_training_runs(benchmark, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_sample(tmp_path / "pictures", train_per_source=8, test_per_source=2, size=64)
    options = "--sizes 32 --pictures 16 --samples 1 --rounds 1 --batch-size 4 --network small --workers 1 --device cpu"
    result = CliRunner().invoke(benchmark.main, ["--src", str(tmp_path / "pictures"), *options.split()])
    assert result.exit_code == 0, result.output
    for way in ("one batch in memory", "from the store", "held in memory", "in the loop", "build pays after"):
        assert way in result.output
