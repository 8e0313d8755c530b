"""Runs that mean harm: they are listed and opened as data, in one line and little memory, or refused."""

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.fuzz import change_document
from helpers.hostile import bounded_memory, deep_json, edit_json
from helpers.make_store import make_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save, save_file

from data_cards.core.errors import UnsafeFileError, UserError
from data_cards.core.files import RUN_SETTINGS
from pipeline.store.reader import open_store
from train.cli import cli
from train.loop.trainer import resume, train
from train.run.checkpoint import _DIGEST, _digest, weights_file
from train.run.experts_file import EXPERTS_FILE, load_experts, save_experts
from train.run.folder import STATE, load_detector, open_run, read_run
from train.run.run_stores import find_store, find_training_store
from train.settings import TrainSettings

MEMORY = 200 * 2**20


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    store = make_store(folder / "features.zarr")
    train(
        TrainSettings(store=str(store), run=str(folder / "run"), network="small", epochs=1, batch_size=8, device="cpu")
    )
    save_experts(replace(load_experts(folder / "run"), network_weight=1.0), folder / "run")  # so that it is loaded
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def write_weights(run: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write weights with the digest that fits them."""
    weights_file(run, "best").write_bytes(save(tensors, {_DIGEST: _digest(tensors)}))


def read_everything(run: Path) -> None:
    load_detector(open_run(run), "cpu")


def expect_one_line_of(act: Callable, *arguments: object) -> None:
    lines = []
    try:
        act(*arguments)
    except UserError as error:
        lines = str(error).splitlines()
    assert len(lines) <= 1, lines


def expect_list(run: Path, names: list[str]) -> None:
    """`train list` lists these runs, also the damaged ones."""
    result = CliRunner().invoke(cli, ["list", str(run.parent), "--json"])
    assert result.exit_code == 0, result.output
    assert sorted(Path(one["run"]).name for one in json.loads(result.stdout)) == names


EDITS = {
    "train/network": [5, "auto", "resnet18000", None],
    "train/channels": [[], "magnitude,magnitude", "all"],
    "train/epochs": [10**30, 0, "many", 1.5, True],
    "train/threads": [10**9],
    "train/batch_size": [2**40, None],
    "prolonged": [-1, 10**9, "x", True],
    "train/dropout": [2, "x", None, float("nan")],
    "train/where": [[5], ["x"], "source=a"],
    "store/settings/features/size": [10**9, "x", 512.5, -1],
    "store/settings/features": [5, {}, []],
    "store/settings/packing": [["mirror"], "zip"],
    "store/settings/variants": ["none at all", 5],
    "store/settings/max_pixels": ["x", -1, 1e9],
    "store/fingerprint": [5],
    "store/paths": [[5], 5, [""], ["a\0b"]],
    "class_names": [["fake", "real"], [], 5],
    "created": [5, None],
    "run_version": ["6", 7, None, []],
    "train": [5, []],
    "store": [5, []],
}


@pytest.mark.parametrize("name", EDITS)
def test_setting_that_cannot_be_is_refused(run, name):
    before = (run / RUN_SETTINGS).read_text()
    for value in EDITS[name]:
        (run / RUN_SETTINGS).write_text(before)
        edit_json(run / RUN_SETTINGS, name, value)
        with bounded_memory(MEMORY), pytest.raises(UserError, match=r"run: .*(damaged|expected)"):
            read_run(run)
        expect_list(run, ["run"])


@pytest.mark.parametrize("depth", [100, 10**5])
@pytest.mark.parametrize(
    "name", [RUN_SETTINGS, "data_card.json", "best.json", "summary.json", "test_score.json", "profiles.json"]
)
def test_deeply_nested_json_hides_no_other_run(trained, run, name, depth):
    shutil.copytree(trained, run.parent / "other")
    (run / name).write_text(deep_json(depth))
    expect_list(run, ["other", "run"])
    expect_one_line_of(read_everything, run)
    expect_one_line_of(lambda: open_run(run).simulated)


@pytest.mark.parametrize("name", [RUN_SETTINGS, "history.csv", "data_card.json", "best.safetensors", EXPERTS_FILE])
def test_link_out_of_a_run_is_named(run, tmp_path, name):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to("/dev/zero")
    with bounded_memory(MEMORY), pytest.raises(UnsafeFileError, match=f"{name}: a link that leads out of"):
        read_run(run)
    if name != RUN_SETTINGS:
        expect_list(run, ["run"])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [RUN_SETTINGS, "best.safetensors", "history.csv"])
def test_pipe_in_a_run_is_named_and_nobody_waits_for_it(run, name):
    os.remove(run / name)
    os.mkfifo(run / name)
    with pytest.raises(UserError, match=f"{name}: not a file or folder"):
        read_everything(run)


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:9/a.zarr", "https://a/b", "simplecache::s3://a/b", "data:,x", "memory://a", "file:///a"]
)
def test_store_at_an_address_is_not_fetched_unasked(run, path):
    store = read_run(run).store_paths[0]
    edit_json(run / RUN_SETTINGS, "store/paths/0", path)
    with pytest.raises(UserError, match=r"expected a folder or s3://.* give it with --store"):
        find_store(read_run(run), None)
    with pytest.raises(UserError, match=r"expected a folder or s3://.* give it with --store"):
        resume(run)
    assert find_training_store(read_run(run), open_store(store)) is not None
    assert len(find_store(read_run(run), store))
    read_everything(run)


def test_history_that_is_large_or_none_is_refused(run):
    for text in ("x" * (2**24 + 1), "epoch\n" + "1" * 200_000, "epoch\n" + "9" * 5000):
        (run / "history.csv").write_text(text)
        with bounded_memory(MEMORY), pytest.raises(UserError, match="history are damaged"):
            read_run(run)


def test_large_settings_take_no_memory_before_the_weights_are_refused(run):
    features = {"size": 8192, "estimator": "periodogram", "patch": None, "overview": None, "fit": "cover"}
    for name, value in features.items():
        edit_json(run / RUN_SETTINGS, f"store/settings/features/{name}", value)
    for network in ("small", "linear"):
        edit_json(run / RUN_SETTINGS, "train/network", network)
        edit_json(run / RUN_SETTINGS, "train/stem", "auto")
        with bounded_memory(MEMORY), pytest.raises(UserError, match=r"best\.safetensors: not the weights of this run"):
            read_everything(run)


def test_header_that_promises_other_tensors_is_refused_before_memory_is_taken(run):
    tensors = load_file(weights_file(run, "best"))
    data = b"".join([(2**62).to_bytes(8, "little"), b"{"])
    for change in (
        lambda: write_weights(run, {**tensors, "more": torch.zeros(1)}),
        lambda: write_weights(run, {name: tensors[name] for name in list(tensors)[1:]}),
        lambda: write_weights(run, {**tensors, "network.fc.bias": torch.zeros(3)}),
        lambda: write_weights(run, {**tensors, "network.fc.bias": tensors["network.fc.bias"].double()}),
        lambda: weights_file(run, "best").write_bytes(data),
        lambda: weights_file(run, "best").write_bytes((2**20).to_bytes(8, "little") + deep_json(10**5).encode()),
        lambda: weights_file(run, "best").write_bytes((2).to_bytes(8, "little") + b"[]"),
    ):
        change()
        with bounded_memory(MEMORY), pytest.raises(UserError, match=r"best\.safetensors: not the weights"):
            read_everything(run)


def test_weights_without_a_digest_are_refused(run):
    tensors = load_file(weights_file(run, "best"))
    save_file(tensors, weights_file(run, "best"))
    with pytest.raises(UserError, match=r"best\.safetensors: not the weights"):
        read_everything(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("_extra_state", [1e-300, 0.5, 0.5, 0.5]), ("_extra_state", [1.0, 0.5, 0.1, 2.0])],
        *[("normalise.std", 0), ("normalise.std", -1), ("normalise.mean", 1e9), ("normalise.mean", np.inf)],
        *[("network.fc.weight", np.nan), ("network.bn1.running_var", -1.0)],
    ],
)
def test_values_that_no_training_gives_are_refused(run, name, value):
    tensors = load_file(weights_file(run, "best"))
    tensors[name] = torch.zeros_like(tensors[name]) + torch.tensor(value, dtype=tensors[name].dtype)
    write_weights(run, tensors)
    with pytest.raises(UserError, match=r"best\.safetensors: not the weights"):
        read_everything(run)


def test_weights_are_loaded_as_they_were_saved(run):
    detector = load_detector(open_run(run), "cpu").plane_detector
    state, saved = detector.state_dict(), load_file(weights_file(run, "best"))
    assert {name: value.tolist() for name, value in state.items()} == {
        name: value.tolist() for name, value in saved.items()
    }
    assert not any(value.is_meta for value in [*detector.parameters(), *detector.buffers()])
    kernels = [value for value in detector.parameters() if value.ndim == 4]
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in kernels)


def test_state_that_unpacks_to_much_is_refused(run):
    data = (run / STATE).read_bytes()[:-32]
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for one in old.infolist():
            new.writestr(one.filename, old.read(one))
    changed = packed.getvalue()
    (run / STATE).write_bytes(changed + hashlib.sha256(changed).digest())
    with pytest.raises(UserError, match=r"state\.pt: the saved state is damaged"):
        resume(run)


WEIRD = st.sampled_from(
    [
        *[
            None,
            True,
            -1,
            0,
            1,
            2**31,
            2**63,
            10**30,
            -1e300,
            float("nan"),
            "",
            "x",
            "auto",
            "\0",
            "../..",
            "http://a/b",
        ],
        *[[], {}, [[]], ["x"] * 70, {"a": {"b": {}}}],
    ]
)
FILES = [RUN_SETTINGS, "best.json", "summary.json"]


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_change_of_records_ends_in_one_line(trained, tmp_path, data):
    run = tmp_path / "run"
    if not run.exists():
        shutil.copytree(trained, run)
    file = data.draw(st.sampled_from(FILES))
    document = json.loads((trained / file).read_text())
    change_document(document, data, WEIRD)
    (run / file).write_text(json.dumps(document))
    try:
        with bounded_memory(MEMORY):
            expect_one_line_of(read_everything, run)
            expect_one_line_of(lambda: open_run(run).simulated)
            expect_list(run, ["run"])
    finally:
        (run / file).write_bytes((trained / file).read_bytes())
