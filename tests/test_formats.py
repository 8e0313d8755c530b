"""A store of every packing and data type says the same, to this program and to other readers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr
from click.testing import CliRunner
from conftest import make_kaggle_dir

from pipeline.build import build_store
from pipeline.cli import main
from pipeline.settings import BuildSettings, FeatureSettings
from pipeline.store import open_store
from pipeline.verify import verify_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, str]:
    """The same pictures packed, plain, and in float16."""
    folder = tmp_path_factory.mktemp("stores")
    source = str(make_kaggle_dir(folder / "kaggle", per_source=2))
    settings = {
        "packed": BuildSettings(FeatureSettings(size=16)),
        "plain": BuildSettings(FeatureSettings(size=16), packing="none"),
        "float16": BuildSettings(FeatureSettings(size=16, dtype="float16")),
    }
    return {
        name: build_store([source], str(folder / f"{name}.zarr"), one, workers=0).path for name, one in settings.items()
    }


@pytest.mark.parametrize("name", ["features", "label", "picture", "checksums", "statistics/mean"])
def test_tensorstore_reads_a_plain_store(stores, name):
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{stores['plain']}/{name}"}}
    read = tensorstore.open(spec, open=True, read=True).result().read().result()
    assert (read == zarr.open_group(stores["plain"], mode="r")[name][:]).all()


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


def test_float16_rounds_to_the_whole_levels(stores):
    fine = open_store(stores["float16"]).features[:].astype(np.float64)
    whole = open_store(stores["packed"]).features[:].astype(np.float64)
    assert (fine % 1 != 0).mean() > 0.5
    apart = np.abs(fine - whole)
    apart[:, 3:6] = np.minimum(apart[:, 3:6], 256 - apart[:, 3:6])  # phase is a circle of 256 steps
    # Half a level, and half of float16's own step at 128 to 255.
    assert apart.max() <= 0.5 + 2**-4
    assert (apart <= 0.5).mean() > 0.9


def test_float16_is_verified_and_inspected(stores):
    assert verify_store(stores["float16"]).sound
    facts = json.loads(CliRunner().invoke(main, ["inspect", stores["float16"], "--json"]).stdout)
    assert facts["dtype"] == "float16"
    assert 0 < max(facts["compression"].values()) < 1.1
    shard = Path(stores["float16"]) / "features/c/0/0/0/0"
    data = shard.read_bytes()
    try:
        shard.write_bytes(data[:99] + bytes([data[99] ^ 16]) + data[100:])
        assert [bad.shard for bad in verify_store(stores["float16"]).bad] == [0]
    finally:
        shard.write_bytes(data)
