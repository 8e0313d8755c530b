"""Fixtures that many tests share: small picture sets on disk, and the real photographs where they are."""

import os
from collections.abc import Callable
from pathlib import Path

# Before torch or Dask's workers load: small work is slower on many threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline import plan
from pipeline.build import build_store
from pipeline.settings import BuildSettings, FeatureSettings

SMALL_BUILD = BuildSettings(FeatureSettings(size=16), variants="clean", val_fraction=0.25)
SHARED = Path(__file__).resolve().parents[2] / "shared"


def draw_noise(seed: int, width: int = 40, height: int = 32) -> Image.Image:
    """A picture that is no near-duplicate of another seed's: smooth noise of random colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    return Image.fromarray(np.clip(smooth + rng.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8))


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


def make_kaggle_dir(root: Path, per_source: int = 4, first_seed: int = 0) -> Path:
    """Write a small set: `per_source` pictures for each split, class and source."""
    seed = first_seed
    for split in ("train", "test"):
        for label, sources in (("real", ("camera", "phone")), ("fake", ("gan", "diffusion"))):
            for source in sources:
                folder = root / split / label / source
                folder.mkdir(parents=True)
                for number in range(per_source):
                    seed += 1
                    picture = draw_noise(seed, width=36 + seed % 3 * 4)
                    if number % 2:
                        picture.save(folder / f"{number}.png")
                    else:
                        picture.save(folder / f"{number}.jpg", quality=80 + number)
    return root


@pytest.fixture(scope="session")
def photos() -> Path:
    """The real photographs and generated pictures; skips where they are not at hand."""
    return _shared_folder("photos")


@pytest.fixture(scope="session")
def reference_spectra() -> np.lib.npyio.NpzFile:
    """Inputs and outputs of the original program's transform."""
    with np.load(_shared_folder("reference") / "spectra_2025.npz") as spectra:
        yield spectra


@pytest.fixture
def files_of() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file below a folder, for comparing two stores to the byte."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }

    return read


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the real pictures of {name}, which are not part of the project")
    return folder
