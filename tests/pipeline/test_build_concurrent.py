"""`build_store` beside another build in the same place: nothing is lost."""

import pytest
from helpers.folders import assert_same_files, read_files
from helpers.pictures import make_kaggle_dir

from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.scan import scan_sources
from pipeline.builder import build as build_module
from pipeline.builder.build import build_store
from pipeline.features.settings import FeatureSettings
from pipeline.maintenance.verify import verify_store
from pipeline.store.reader import open_store, partial_name
from pipeline.store.settings import BuildSettings

SETTINGS = BuildSettings(FeatureSettings(size=16), "clean")


@pytest.fixture
def sources(tmp_path):
    """Three folders: of the store, of the build that comes between, and of the one that is overtaken."""
    return [
        str(make_kaggle_dir(tmp_path / name, per_source=2, first_seed=seed))
        for name, seed in (("old", 0), ("between", 1000), ("late", 2000))
    ]


def build(out, *sources):
    return build_store(sources, str(out), SETTINGS, workers=0)


def build_overtaken(between, out, source):
    """Run a build during whose scan `between` is called."""

    def scan(*arguments, **options):
        patch.undo()
        between()
        return scan_sources(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "scan_sources", scan)
        with pytest.raises(UserError, match="another build changed the store"):
            build(out, source)


def stop_at_tables(out, source):
    """A build that stops when its shards are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_module, "write_metadata", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            build(out, source)


def test_a_store_that_has_grown_meanwhile(sources, tmp_path):
    out = tmp_path / "a.zarr"
    build(out, sources[0])
    build_overtaken(lambda: build(out, sources[1]), out, sources[2])
    assert len(open_store(out)) == 32
    assert build(out, sources[2]).plan.growth.added == 16
    assert len(open_store(out)) == 48
    assert verify_store(str(out)).sound


def test_a_store_that_is_growing(sources, tmp_path):
    out = tmp_path / "a.zarr"
    build(out, sources[0])
    build_overtaken(lambda: stop_at_tables(out, sources[1]), out, sources[2])
    assert not out.exists()
    assert build(out, sources[1]).made == 0
    assert len(open_store(out)) == 32


def test_a_build_that_was_finished_meanwhile(sources, tmp_path):
    out = tmp_path / "a.zarr"
    stop_at_tables(out, sources[0])
    build_overtaken(lambda: build(out, sources[0]), out, sources[0])
    assert not (tmp_path / "a.zarr.partial").exists()
    before = read_files(out)
    assert build(out, sources[0]).made == 0
    assert_same_files(out, before)


def test_an_unfinished_build_beside_a_store(sources, tmp_path):
    out = tmp_path / "a.zarr"
    stop_at_tables(out, sources[0])
    (tmp_path / "b.zarr.partial").mkdir()
    build(tmp_path / "b.zarr", sources[0])
    (tmp_path / "b.zarr").rename(out)
    with pytest.raises(UserError, match=r"a\.zarr\.partial: an unfinished build is beside the store"):
        build(out, sources[1])
    assert len(open_store(out)) == 16
    assert (tmp_path / partial_name("a.zarr")).exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:9"}, "--workers and --scheduler"),
        ({"max_memory": 10**9, "scheduler": "tcp://127.0.0.1:9"}, "dask worker --memory-limit"),
        ({"max_memory": 10**9, "workers": 0}, "--workers 0 starts none"),
    ],
)
def test_options_without_effect_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        build_store([str(tmp_path)], str(tmp_path / "a.zarr"), SETTINGS, **options)
