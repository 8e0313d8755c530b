"""What decided: bands and kinds of planes taken away, and the mean spectra of both classes."""

import numpy as np
import pytest
import torch
from helpers.make_run import make_run
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from eval.explain.class_spectra import PROFILES, compute_class_spectra, compute_radial_profile, load_class_spectra
from eval.explain.occlusion import BAND_EDGES, explain_levels
from pipeline.features.frequencies import assign_bands, compute_frequencies
from pipeline.features.periodogram import compute_periodogram, compute_periodogram_levels
from pipeline.features.settings import KINDS as ALL_KINDS
from pipeline.store.reader import open_store
from train.model.plane_detector import PlaneDetector
from train.run.folder import open_run

SIZE = 32


class OneBin(torch.nn.Module):
    """Stands where the network is: log-odds are the values of one plane's bins of one band."""

    def __init__(self, plane: int, band: int):
        super().__init__()
        self.plane, self.chosen = (
            plane,
            torch.from_numpy(assign_bands(BAND_EDGES, ALL_KINDS[plane // 3], SIZE, SIZE) == band),
        )

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        fake = values[:, self.plane, self.chosen].sum(dim=1)
        return torch.stack([torch.zeros_like(fake), fake], dim=1)


@pytest.fixture(scope="module")
def levels() -> np.ndarray:
    rng = np.random.default_rng(0)
    return compute_periodogram_levels(rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))


def detector_of(plane: int, band: int) -> PlaneDetector:
    mean, std = np.full((9, SIZE, SIZE), 100, np.float32), np.full((9, SIZE, SIZE), 20, np.float32)
    detector = PlaneDetector(mean, std)
    detector.network = OneBin(plane, band)
    return detector


@pytest.mark.parametrize(("plane", "kind", "band"), [(1, "magnitude", 3), (4, "phase", 12), (8, "dct", 0)])
def test_only_the_deciding_band_and_kind_change_the_score(levels, plane, kind, band):
    found = explain_levels(detector_of(plane, band), levels)
    assert found.log_odds != 0
    expected = np.zeros(len(BAND_EDGES) - 1)
    expected[band] = found.log_odds
    np.testing.assert_allclose(found.bands, expected, atol=1e-4)
    assert found.kinds == pytest.approx(
        {name: found.log_odds if name == kind else 0 for name in ("magnitude", "phase", "dct")}, abs=1e-4
    )


def test_an_overview_is_explained_by_its_kinds_alone():
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 256, (18, SIZE, SIZE), dtype=np.uint8)
    torch.manual_seed(0)
    detector = PlaneDetector(np.full((18, SIZE, SIZE), 100), np.full((18, SIZE, SIZE), 20), "small", kinds=ALL_KINDS)
    detector.network = OneBin(10, 3)  # of the overview's magnitude
    found = explain_levels(detector, levels)
    assert found.kinds["overview-magnitude"] == pytest.approx(found.log_odds, abs=1e-4)
    assert found.log_odds != 0
    np.testing.assert_allclose(found.bands, 0, atol=1e-4)


def test_batches_do_not_change_an_explanation(levels, monkeypatch):
    torch.manual_seed(0)
    detector = PlaneDetector(np.full((9, SIZE, SIZE), 100), np.full((9, SIZE, SIZE), 20), kinds=("phase", "dct"))
    whole = explain_levels(detector, levels)
    monkeypatch.setattr("eval.explain.occlusion.VALUES_AT_ONCE", 1)
    single = explain_levels(detector, levels)
    np.testing.assert_allclose(single.bands, whole.bands, atol=1e-5)
    assert list(whole.kinds) == ["phase", "dct"]
    assert np.abs(whole.bands).max() > 0


@pytest.mark.parametrize("size", [(32, 32), (15, 20)])
def test_a_wave_stands_at_its_frequency_in_every_kind_of_planes(size):
    height, width = size
    across = 5  # whole cycles over the width
    wave = 127 + 100 * np.cos(2 * np.pi * across * (np.arange(width) + 0.5) / width)
    picture = np.repeat(np.broadcast_to(wave, size)[:, :, None], 3, axis=2).round().astype(np.uint8)
    planes = compute_periodogram(picture)
    for number, kind in ((0, "magnitude"), (6, "dct")):
        found = compute_frequencies(kind, height, width)
        plane = np.where(found == 0, 0, planes[number])
        assert found.flat[plane.argmax()] == pytest.approx(across / width)
    assert compute_frequencies("dct", height, width).max() <= np.sqrt(0.5)
    assert compute_frequencies("phase", height, width).max() <= np.sqrt(0.5) + 1e-12


def test_profile_of_a_wave_peaks_at_its_frequency():
    wave = 127 + 100 * np.cos(2 * np.pi * 16 * np.arange(64) / 64)
    picture = np.repeat(np.broadcast_to(wave, (64, 64))[:, :, None], 3, axis=2).round().astype(np.uint8)
    frequencies, profile = compute_radial_profile(compute_periodogram_levels(picture))
    assert frequencies[profile.argmax()] == pytest.approx(0.25, abs=0.02)
    assert len(frequencies) == len(profile)


def test_profiles_are_means_over_the_validation_pictures(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr"))
    found = compute_class_spectra(store)
    assert found.split == "val"
    assert found.pictures == {"real": 6, "fake": 6}
    for label, name in enumerate(("real", "fake")):
        rows = [row for row in store.rows("val") if store.columns["label"][row] == label]
        profiles = [compute_radial_profile(store.features[int(row)])[1] for row in rows]
        np.testing.assert_allclose(found.mean[name], np.mean(profiles, axis=0))
        np.testing.assert_allclose(found.deviation[name], np.std(profiles, axis=0))
    assert compute_class_spectra(store, per_class=2).pictures == {"real": 2, "fake": 2}


def test_profiles_stay_with_the_run_when_the_store_is_gone(tmp_path):
    store = make_store(tmp_path / "features.zarr", pictures={"train": (3, 3), "test": (2, 2)})
    run = open_run(make_run(tmp_path / "run", store))
    found = load_class_spectra(run)
    assert found.split == "train"
    store.rename(tmp_path / "elsewhere.zarr")
    again = load_class_spectra(run)
    assert again.to_dict() == found.to_dict()
    (run.path / PROFILES).unlink()
    assert load_class_spectra(run) is None
    # Another store is no substitute.
    other = open_store(make_store(tmp_path / "other.zarr", seed=1))
    assert load_class_spectra(run, other) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1, "frequencies": [1]}', '{"version": 1, "frequencies": {}}'])
def test_damaged_profiles_are_named(tmp_path, text):
    run = open_run(make_run(tmp_path / "run", make_store(tmp_path / "features.zarr")))
    (run.path / PROFILES).write_text(text)
    with pytest.raises(UserError, match=r"profiles\.json: damaged .* delete it"):
        load_class_spectra(run)
