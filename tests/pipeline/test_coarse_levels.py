"""Coarse levels: their rule, their store, and that a verdict's planes are the store's."""

import json
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers.pictures import draw_noise
from scipy import stats

from data_cards.core.errors import UsageError, UserError
from pipeline.builder.build import build_store
from pipeline.features.coarse_levels import (
    DCT_VARIANCE,
    MAGNITUDE_VARIANCE,
    SHARE,
    count_levels,
    create_tables,
    round_levels,
)
from pipeline.features.extract import compute_features
from pipeline.features.periodogram import compute_dct_bound, compute_magnitude_bound, compute_periodogram_levels
from pipeline.features.settings import FeatureSettings
from pipeline.features.symmetry import is_mirrored
from pipeline.maintenance.inspect import format_store, store_to_dict
from pipeline.maintenance.verify import verify_store
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings

FINE, COARSE = (FeatureSettings(size=32, levels=levels) for levels in ("fine", "coarse"))


def test_variances_are_those_of_a_normal_picture():
    # Minus the logarithm of an exponential variable is Gumbel's; of chi-squared, half of it is a gamma variable.
    variances = stats.gumbel_r.var() / 4, stats.loggamma(0.5).var() / 4
    assert variances == pytest.approx((MAGNITUDE_VARIANCE, DCT_VARIANCE))


def test_tables_stay_as_they_are_for_the_stores_that_have_them():
    assert [count_levels(size) for size in (32, 224, 1024)] == [[38, 16, 18], [46, 16, 20], [60, 16, 22]]
    # If they must change, raise the number of their stored name, `_COARSE_STORED` in `pipeline.features.settings`.
    assert [zlib.crc32(create_tables(size, size)) for size in (32, 224, 1024)] == [3531014957, 1453221983, 2280107466]


@pytest.mark.parametrize("size", [16, 224, 1024, 8192])
def test_steps_add_at_most_the_share_to_a_bins_variance(size):
    tables = create_tables(size, size)
    bounds = compute_magnitude_bound(size, size), compute_dct_bound(size, size)
    for table, bound, variance in zip(tables[::2], bounds, (MAGNITUDE_VARIANCE, DCT_VARIANCE), strict=True):
        middles, widths = np.unique(table, return_counts=True)
        nats = bound / 255
        deviation = np.sqrt(variance) * (1 - np.exp(-middles.astype(float) * nats))
        assert np.all((widths == 1) | ((widths * nats) ** 2 / 12 <= SHARE * deviation**2))
        assert np.all(widths % 2 == 1)
        assert np.all(table[table] == table)  # rounding again changes nothing
        assert np.all((middles[1:] > middles[:-1]) & (table[0] == 0))
        wider = (widths[middles > 60].max() + 2) * nats  # the widest is as wide as it may be
        assert wider**2 / 12 > SHARE * variance * 0.9


def test_phase_is_rounded_to_the_nearest_angle_and_stays_odd():
    table = create_tables(64, 64)[1].astype(int)
    levels = np.arange(256)
    distance = (table - levels + 128) % 256 - 128
    assert np.abs(distance).max() == 8
    np.testing.assert_array_equal(table[-levels % 256], -table % 256)
    assert (table[0], table[128]) == (0, 128)
    turns = np.exp(2j * np.pi * np.stack([levels, table]) / 256)
    added = np.mean(np.abs(turns[0] - turns[1]) ** 2)  # of a variance of 1
    assert added < SHARE < 4 * added


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 32), (32, 33)])
def test_rounded_planes_keep_their_symmetry_and_their_means(height, width):
    fine = compute_periodogram_levels(np.asarray(draw_noise(3, width, height)))
    before = fine.copy()
    coarse = round_levels(fine)
    np.testing.assert_array_equal(fine, before)
    assert is_mirrored(coarse[0:3], odd=False)
    assert is_mirrored(coarse[3:6], odd=True)
    for planes in (slice(0, 3), slice(6, 9)):
        error = coarse[planes].astype(float) - fine[planes]
        assert 0.3 < error.std() < 7
        assert abs(error.mean()) < 0.1 * error.std()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A fine and a coarse store of the same pictures, and their folder."""
    folder = tmp_path_factory.mktemp("levels")
    for number, place in enumerate(("train/real/cam", "train/fake/gan") * 3):
        (folder / "set" / place).mkdir(parents=True, exist_ok=True)
        draw_noise(number).save(folder / "set" / place / f"{number}.png")
    for features in (FINE, COARSE):
        settings = BuildSettings(features, variants="clean", packing="none")
        build_store([str(folder / "set")], str(folder / f"{features.levels}.zarr"), settings, workers=0)
    return folder


def test_store_has_the_rounded_levels_of_a_fine_one_and_equal_profiles(stores):
    fine, coarse = (open_store(stores / f"{levels}.zarr") for levels in ("fine", "coarse"))
    rows = fine.features[:]
    np.testing.assert_array_equal(coarse.features[:], np.stack([round_levels(row) for row in rows]))
    assert np.any(coarse.features[:] != rows)
    np.testing.assert_array_equal(coarse.read_profiles(np.arange(6)), fine.read_profiles(np.arange(6)))
    assert verify_store(str(stores / "coarse.zarr")).sound


def test_store_names_coarse_levels_and_only_those(stores):
    fine, coarse = (dict(zarr.open_group(stores / f"{one}.zarr", mode="r").attrs) for one in ("fine", "coarse"))
    assert "levels" not in fine["settings"]["features"]
    assert coarse["settings"]["features"]["levels"] == "coarse-2"
    assert fine["fingerprint"] != coarse["fingerprint"]
    assert open_store(stores / "coarse.zarr").settings.features == COARSE
    assert FeatureSettings.from_dict(fine["settings"]["features"]) == FINE


def test_coarse_levels_of_an_earlier_version_are_refused(stores, tmp_path):
    shutil.copytree(stores / "coarse.zarr", tmp_path / "old.zarr")
    metadata = tmp_path / "old.zarr" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"coarse-2"', '"coarse"'))
    with pytest.raises(UserError, match="coarse levels of an earlier version"):
        open_store(tmp_path / "old.zarr")
    settings = BuildSettings(COARSE, variants="clean", packing="none")
    with pytest.raises(UserError, match="coarse levels of an earlier version"):
        build_store([str(stores / "set")], str(tmp_path / "old.zarr"), settings, workers=0)


def test_verdict_computes_the_planes_of_the_store(stores):
    store = open_store(stores / "coarse.zarr")
    for row in range(len(store)):
        path = Path(store.roots[0], store.columns["image"][row])
        (((levels,), profile),) = compute_features(path, store.settings.features)
        np.testing.assert_array_equal(levels, store.features[row])
        np.testing.assert_array_equal(profile, store.read_profiles(np.array([row]))[0])


def test_store_is_read_by_plain_readers(stores):
    expected = open_store(stores / "coarse.zarr").features[:]
    np.testing.assert_array_equal(zarr.open(stores / "coarse.zarr", mode="r")["features"][:], expected)
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed")
    place = {"driver": "file", "path": str(stores / "coarse.zarr" / "features")}
    opened = tensorstore.open({"driver": "zarr3", "kvstore": place}, read=True).result()
    np.testing.assert_array_equal(opened.read().result(), expected)


@pytest.mark.parametrize("levels", ["fine", "coarse"])
def test_growth_with_other_levels_is_refused(stores, levels):
    other = {"fine": COARSE, "coarse": FINE}[levels]
    settings = BuildSettings(other, variants="clean", packing="none")
    message = rf"levels is {levels}.*, {other.levels}.* was asked for; .* or give --size"
    with pytest.raises(UserError, match=message):
        build_store([str(stores / "set")], str(stores / f"{levels}.zarr"), settings, workers=0)


@pytest.mark.parametrize("levels", ["fine", "coarse"])
def test_inspect_names_the_levels(stores, levels):
    facts = store_to_dict(open_store(stores / f"{levels}.zarr"))
    assert json.loads(json.dumps(facts))["levels"] == levels
    counts = "fine, 256 of each kind" if levels == "fine" else "coarse, of 256: magnitude 38, phase 16, dct 18"
    assert any(line == f"levels        {counts}" for line in str(format_store(facts)).splitlines())


def test_averaged_planes_are_fine_and_refuse_coarse_levels():
    assert FeatureSettings(estimator="averaged").levels == "fine"
    with pytest.raises(UsageError, match=r"levels coarse: averaged planes .* need levels fine"):
        FeatureSettings(estimator="averaged", levels="coarse")
    with pytest.raises(UsageError, match="levels coarse: only planes have it"):
        FeatureSettings(levels="coarse")
    assert FeatureSettings().levels is None
    assert replace(FINE, levels="coarse") == COARSE
