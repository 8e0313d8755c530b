"""Fixtures of builds that are made, stopped and made again."""

import pytest
from helpers.make_store import SMALL_BUILD

from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store


@pytest.fixture
def small_shards(monkeypatch):
    """Six rows a shard at most."""
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 6)


@pytest.fixture
def build(kaggle_dir, tmp_path):
    """A function that builds `SMALL_BUILD` from folders, `kaggle_dir` where none is given."""

    def run(*sources, out="a.zarr", **options):
        sources = [str(one) for one in sources or (kaggle_dir,)]
        return build_store(sources, tmp_path / out, SMALL_BUILD, workers=0, **options)

    return run
