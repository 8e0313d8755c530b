"""Stores of every packing, read by this program, plain Zarr, tensorstore and xarray."""

import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tensorstore
import xarray
import zarr
from helpers.damage import shard_file
from helpers.pictures import make_kaggle_dir

from data_cards.image.partial import FRAMES
from pipeline.builder.build import build_store
from pipeline.features.settings import FeatureSettings
from pipeline.store.manifest import encode_manifest
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, str]:
    """The same pictures packed and plain."""
    folder = tmp_path_factory.mktemp("stores")
    source = str(make_kaggle_dir(folder / "kaggle", per_source=2))
    settings = {
        "packed": BuildSettings(FeatureSettings(size=16), variants="clean"),
        "plain": BuildSettings(FeatureSettings(size=16), variants="clean", packing="none"),
        "profiles": BuildSettings(variants="clean"),
    }
    return {
        name: build_store([source], str(folder / f"{name}.zarr"), one, workers=0).path for name, one in settings.items()
    }


def test_list_of_pictures_is_the_same_for_files_of_several_pictures(stores):
    """Stores of earlier versions do not list these files, and grow to the same bytes as new stores."""
    pictures = list(open_store(stores["packed"]).read_pictures())
    animated = [replace(one, facts=replace(one.facts, unused=FRAMES)) for one in pictures]
    assert encode_manifest(animated) == encode_manifest(pictures)


@pytest.mark.parametrize("name", ["features", "label", "picture", "checksums", "statistics/mean"])
def test_tensorstore_reads_a_plain_store(stores, name):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{stores['plain']}/{name}"}}
    read = tensorstore.open(spec, open=True, read=True).result().read().result()
    assert (read == zarr.open_group(stores["plain"], mode="r")[name][:]).all()


@pytest.mark.parametrize("name", ["packed", "plain"])
def test_xarray_opens_a_store_with_a_name_for_each_axis(stores, name):
    store = open_store(stores[name])
    data = xarray.open_zarr(store.path, consolidated=False)
    assert data.features.dims == ("sample", "plane", "frequency_y", "frequency_x")
    assert data.profiles.dims == ("sample", "profile_number")
    assert data.plane.values.tolist() == store.attributes["planes"]
    assert (data["class"].values[data.label.values] == np.array(["real", "fake"])[store.columns["label"]]).all()
    training = data.features[(data.split == "train").values]
    assert (training.sel(plane="dct_g") == store.features[:][store.rows("train")][:, 7]).all()
    tree = xarray.open_datatree(store.path, engine="zarr", consolidated=False)
    assert (tree["statistics"]["mean"].sel(plane="magnitude_b") == store.mean[2]).all()
    assert tree.attrs["format_version"] == 4


def test_xarray_opens_a_store_of_profiles_alone(stores):
    data = xarray.open_zarr(stores["profiles"], consolidated=False)
    np.testing.assert_array_equal(data.profiles, open_store(stores["profiles"]).profiles[:])
    assert set(data.profiles.coords) == {"label", "split", "source", "variant"}
    assert "plane" not in data


def test_packing_changes_no_level(stores):
    packed, plain = open_store(stores["packed"]), open_store(stores["plain"])
    assert (packed.features[:] == plain.features[:]).all()
    assert (packed.mean == plain.mean).all()


def test_a_process_with_zarr_alone_reads_a_packed_store(stores, tmp_path):
    program = (
        "import sys, zarr\n"
        "assert 'pipeline' not in sys.modules\n"
        f"print(int(zarr.open({stores['packed']!r}, mode='r')['features'][:].sum(dtype='int64')))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) == open_store(stores["plain"]).features[:].sum(dtype=np.int64)


@pytest.mark.parametrize("packing", ["packed", "plain"])
def test_a_missing_shard_is_an_error_and_not_zeros(stores, tmp_path, packing):
    opened = open_store(shutil.copytree(stores[packing], tmp_path / "a.zarr"))
    assert opened.features[0].any()
    shard_file(tmp_path / "a.zarr", 0).unlink()
    with pytest.raises(FileNotFoundError, match="features/c/0"):
        opened.features[0]
