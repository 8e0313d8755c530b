"""What `train run` tells of how soon building the store has paid for itself."""

import json
import shutil

import pytest
from click.testing import CliRunner
from conftest import make_kaggle_dir

from pipeline.build import build_store
from pipeline.settings import BuildSettings, FeatureSettings
from pipeline.store import open_store
from train.cli import cli
from train.payback import compute_payback, measure_payback

RUN = ["run", "--batch-size", "4", "--epochs", "1", "--network", "small", "--device", "cpu", "--precision", "float32"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with pictures and a store of them."""
    folder = tmp_path_factory.mktemp("payback")
    make_kaggle_dir(folder / "pictures")
    settings = BuildSettings(FeatureSettings(size=32), val_fraction=0.3)
    build_store([str(folder / "pictures")], str(folder / "features.zarr"), settings, workers=0)
    return folder


def test_on_the_cpu_features_come_on_top():
    payback = compute_payback(build=600.0, features=120.0, device="cpu", seconds=500.0, cores=4)
    assert (payback.build, payback.features, payback.slower) == (150.0, 30.0, 30.0)
    assert payback.epochs == 5.0
    assert payback.describe() == "after about 5.0 epochs: features made in the loop would take about 30.0 s an epoch"


def test_beside_a_gpu_only_what_it_would_wait_counts():
    assert compute_payback(600.0, 120.0, "cuda", 20.0, 4).epochs == 15.0
    payback = compute_payback(600.0, 120.0, "cuda", 30.0, 4)
    assert payback.epochs is None
    assert "never" in payback.describe()


def test_it_is_measured_on_the_stores_pictures(built):
    store = open_store(built / "features.zarr")
    payback = measure_payback(store, 10, "cpu", 1.0)
    assert payback.build > 0
    assert payback.features > 0


def test_a_run_prints_it(built, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(cli, [*RUN, "--store", str(built / "features.zarr")])
    assert "store paid for itself  after about " in told.stdout, told.output
    resumed = CliRunner().invoke(cli, ["run", "--resume", "--json"])
    payback = json.loads(resumed.stdout)["payback"]
    assert payback["epochs"] == pytest.approx(payback["build"] / payback["slower"])


@pytest.mark.parametrize("change", [shutil.rmtree, lambda folder: [_scramble(file) for file in folder.rglob("*.*")]])
def test_without_the_pictures_there_is_nothing_to_measure(tmp_path, change):
    make_kaggle_dir(tmp_path / "pictures")
    settings = BuildSettings(FeatureSettings(size=32))
    build_store([str(tmp_path / "pictures")], str(tmp_path / "features.zarr"), settings, workers=0)
    change(tmp_path / "pictures")
    assert measure_payback(open_store(tmp_path / "features.zarr"), 10, "cpu", 1.0) is None


def _scramble(file):
    """As many bytes, but others."""
    file.write_bytes(bytes(file.stat().st_size))
