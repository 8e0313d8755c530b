"""Values from Python are converted where they mean the same, and refused before any work where they do not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_cards.core.errors import UsageError
from data_cards.core.value_types import check_types, convert_value
from data_cards.dataset.settings import SetSettings
from data_cards.selection.subset import Selection
from eval.report.compare import compare_runs
from eval.settings import PredictSettings, ReportSettings
from pipeline.builder.build import build_store
from pipeline.datasets.audit import audit_dataset
from pipeline.datasets.card import compute_card_of, compute_card_of_set, load_cards
from pipeline.datasets.subset import write_subset
from pipeline.features.extract import compute_file_features
from pipeline.features.settings import FeatureSettings
from pipeline.maintenance.inspect import inspect_place
from pipeline.maintenance.verify import verify_store
from pipeline.simulate.sample_set import write_sample
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.data.dataset import FeatureDataset
from train.loop.trainer import resume, train
from train.run.export_onnx import export_onnx
from train.settings import TrainSettings


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (np.int64(8), int, 8),
        (np.array(8), int | None, 8),
        (np.float64(0.5), float, 0.5),
        (np.int32(2), float, 2.0),
        (1, float, 1.0),
        (np.bool_(True), bool, True),
        (np.str_("a"), str, "a"),
        (Path("a/b"), str, "a/b"),
        (None, str | None, None),
        (Path("a"), str | Path, Path("a")),
        ("coco", tuple[str, ...], ("coco",)),
        (Path("a"), tuple[str, ...], ("a",)),
        ([Path("a"), "b"], tuple[str, ...], ("a", "b")),
        (np.array(["a", "b"]), tuple[str, ...], ("a", "b")),
        ((name for name in "ab"), tuple[str, ...], ("a", "b")),
        (len, Callable[[str], int] | None, len),
    ],
)
def test_value_of_the_same_meaning_is_converted(value, kind, expected):
    converted = convert_value("name", value, kind)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (2.5, int, "name 2.5: expected int, got float"),
        (1e8, int, "name 100000000.0: expected int, got float"),
        (True, int, "name True: expected int, got bool"),
        (True, float, "name True: expected float, got bool"),
        (1, bool, "name 1: expected bool, got int"),
        ("5", int | None, "name '5': expected int or None, got str"),
        (None, str, "name None: expected str, got NoneType"),
        (b"a", str, "name b'a': expected str, got bytes"),
        (b"a", tuple[str, ...], "name b'a': expected a list of str, got bytes"),
        ({"a": 1}, tuple[str, ...], "name {'a': 1}: expected a list of str, got dict"),
        (["a", 1], tuple[str, ...], "name ['a', 1]: expected a list of str, got list of str and int"),
        (np.arange(2), int, "name array([0, 1]): expected int, got ndarray"),
        (3, Callable[[str], int] | None, "name 3: expected Callable or None, got int"),
    ],
)
def test_value_of_another_meaning_is_refused(value, kind, message):
    with pytest.raises(UsageError) as refused:
        convert_value("name", value, kind)
    assert str(refused.value) == message


def test_record_must_have_exact_types():
    check_types(Selection, {"where": ["source=a"], "fraction": 1, "seed": 3})
    for values in ({"where": "source=a"}, {"seed": 1.0}, {"seed": True}, {"seed": "3"}):
        with pytest.raises(ValueError, match="expected"):
            check_types(Selection, values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (BuildSettings, {"seed": "a"}),
        (BuildSettings, {"max_pixels": 1e8}),
        (BuildSettings, {"features": {}}),
        (BuildSettings, {"features": 128}),
        (FeatureSettings, {"size": "128"}),
        (TrainSettings, {"epochs": 2.5}),
        (TrainSettings, {"seed": True}),
        (TrainSettings, {"channels": ["magnitude"]}),
        (TrainSettings, {"variants_per_epoch": 1}),
        (SetSettings, {"meaning": {"0": "real"}}),
        (Selection, {"seed": 0.5}),
        (PredictSettings, {"max_pixels": 1e6}),
        (ReportSettings, {"threads": "4"}),
    ],
)
def test_settings_of_a_wrong_type_are_refused(kind, values):
    (name,) = values
    with pytest.raises(UsageError, match=rf"^{name} .*: expected .*, got "):
        kind(**values)


def test_settings_of_numpy_numbers_and_paths_equal_plain_ones():
    assert BuildSettings(FeatureSettings(size=np.int64(64)), seed=np.uint8(3), val_fraction=0) == BuildSettings(
        FeatureSettings(size=64), seed=3, val_fraction=0.0
    )
    assert TrainSettings(store=Path("a"), hold_out="coco", where="source=b", lr=np.float64(0.5)) == TrainSettings(
        store=("a",), hold_out=("coco",), where=("source=b",), lr=0.5
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda here: build_store(["a"], here / "out.zarr", FeatureSettings(size=16)),
        lambda here: build_store(["a"], here / "out.zarr", workers="2"),
        lambda here: build_store(["a"], here / "out.zarr", workers=0, max_memory="8 gigs"),
        lambda here: build_store(5, here / "out.zarr"),
        lambda here: train("x.zarr"),
        lambda here: train({}),
        lambda here: resume(3),
        lambda here: resume(here, {"epoch": 40}),
        lambda here: compare_runs(here, progress="no"),
        lambda here: export_onnx(3, here / "a.onnx"),
        lambda here: compute_file_features(3),
        lambda here: compute_file_features("a.png", {"size": 64}),
        lambda here: open_stores(3),
        lambda here: FeatureDataset(None),
        lambda here: FeatureDataset(5),
        lambda here: open_store(3),
        lambda here: verify_store(3),
        lambda here: inspect_place(3),
        lambda here: audit_dataset(3),
        lambda here: audit_dataset("a", contact_sheet=3),
        lambda here: compute_card_of(3),
        lambda here: compute_card_of_set("a", max_pixels=1.5),
        lambda here: load_cards(3),
        lambda here: write_sample(here / "a", train_per_source=1.5),
        lambda here: write_subset("a", here / "b", {"fraction": 0.5}),
    ],
)
def test_function_refuses_arguments_of_a_wrong_type_before_any_work(call, tmp_path):
    with pytest.raises(UsageError, match=": expected "):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda here: build_store([], here / "out.zarr"), "no pictures are given; give their folders with --src"),
        (lambda here: build_store("", here / "out.zarr"), "--src '' .*: expected a folder, got an empty text"),
        (lambda here: TrainSettings(store=[]), "store .*: expected at least one feature store"),
        (lambda here: FeatureDataset([]), "no feature store is given; give one"),
        (lambda here: FeatureDataset(""), "the path of a feature store is an empty text; give the folder"),
        (lambda here: train(TrainSettings(store="")), "the path of a feature store is an empty text; give the folder"),
    ],
)
def test_function_refuses_an_empty_list_or_name_before_any_work(call, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_function_takes_paths_and_a_single_folder(kaggle_dir, tmp_path):
    several = build_store([str(kaggle_dir)], str(tmp_path / "a.zarr"), workers=0)
    single = build_store(kaggle_dir, tmp_path / "b.zarr", workers=np.int64(0))
    assert len(single.plan.pictures) == len(several.plan.pictures) > 0
    assert verify_store(tmp_path / "b.zarr").sound
    assert inspect_place(tmp_path / "b.zarr")[1]["complete"]
    assert len(audit_dataset(kaggle_dir, contact_sheet=str(tmp_path / "a.png")).audit.findings) == 0
    assert compute_card_of(kaggle_dir)[0] == compute_card_of_set(kaggle_dir)[0] == load_cards(kaggle_dir)[0]
    assert len(write_subset(kaggle_dir, tmp_path / "some", Selection()).subset.pictures) == len(single.plan.pictures)
    assert write_sample(tmp_path / "set", train_per_source=np.int64(1), test_per_source=1, size=32).total == 16
