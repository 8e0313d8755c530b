"""Fixtures that many tests share: small picture sets on disk, and the real photographs where they are."""

import os
from pathlib import Path

# Before torch or Dask's workers load: small work is slower on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from helpers.make_store import SMALL_BUILD
from helpers.pictures import make_kaggle_dir

from pipeline.builder import plan
from pipeline.builder.build import build_store

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give slow tests ten times the time limit, unless they set one of their own."""
    limit = 10 * float(config.getini("timeout"))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(limit))


@pytest.fixture(autouse=True)
def _seed_torch() -> None:
    """A test that draws from torch's global generator draws the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def kaggle_dir(tmp_path: Path) -> Path:
    """A set in Kaggle's layout: train and test, two classes, two sources each, JPEG and PNG."""
    return make_kaggle_dir(tmp_path / "kaggle")


@pytest.fixture
def store(kaggle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of `kaggle_dir` that was really built, of six shards."""
    monkeypatch.setattr(plan, "MAX_SHARD_ROWS", 6)
    build_store([str(kaggle_dir)], tmp_path / "a.zarr", SMALL_BUILD, workers=0)
    return tmp_path / "a.zarr"


@pytest.fixture(scope="session")
def photos() -> Path:
    """The real photographs and generated pictures; skips where they are not at hand."""
    return _shared_folder("photos")


@pytest.fixture(scope="session")
def reference_spectra() -> np.lib.npyio.NpzFile:
    """Inputs and outputs of the original program's transform."""
    with np.load(_shared_folder("reference") / "spectra_2025.npz") as spectra:
        yield spectra


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real pictures of {name}, which are not part of the project")
    return folder
