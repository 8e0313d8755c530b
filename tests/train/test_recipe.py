"""Every part of the recipe reaches the weights of a run, and its command."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.make_store import make_store
from safetensors.torch import load_file

from pipeline.store.reader import open_store
from train.cli import cli
from train.loop.trainer import train
from train.model.inference import compute_logits
from train.run.folder import load_detector, open_run
from train.settings import TrainSettings

ARGUMENTS = [
    "--epochs",
    "1",
    "--batch-size",
    "8",
    "--device",
    "cpu",
    "--precision",
    "float32",
    "--network",
    "small",
    "--experts",
    "off",
]
SMALL = {"batch_size": 8, "device": "cpu", "precision": "float32", "network": "small", "experts": "off"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("recipe") / "features.zarr")


@pytest.fixture(scope="module")
def plain(store) -> dict:
    return run(store, store.parent / "plain")


def run(store: Path, folder: Path, *arguments: str) -> dict:
    result = CliRunner().invoke(cli, ["run", *ARGUMENTS, "--store", str(store), "--run", str(folder), *arguments])
    assert result.exit_code == 0, result.output
    return load_file(folder / "last.safetensors")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gain", "remove"),
        pytest.param("normalise", "channel", marks=pytest.mark.slow),
        pytest.param("normalise", "none", marks=pytest.mark.slow),
        ("normalise", "sample"),
        ("stem", "strided"),
        ("network", "resnet18"),
        ("dropout", "0"),
        ("label-smoothing", "0.3"),
        ("weight-decay", "0.9"),
    ],
)
def test_an_option_reaches_the_weights_and_the_record(store, plain, tmp_path, option, value):
    weights = run(store, tmp_path / "run", f"--{option}", value)
    name = "network.layer1.0.conv1.weight"
    assert weights[name].shape != plain[name].shape or not torch.equal(weights[name], plain[name])
    opened = open_run(tmp_path / "run")
    assert str(getattr(opened.settings, option.replace("-", "_"))).removesuffix(".0") == value
    if option in ("normalise", "gain", "stem"):  # opened again, it judges as it did
        rows = open_store(store).rows("val")
        logits = compute_logits(load_detector(opened, "cpu").plane_detector, open_store(store), rows, progress=False)
        right = (logits.argmax(axis=1) == open_store(store).columns["label"][rows]).mean()
        assert right == opened.history[-1]["val_accuracy"]


def test_validation_loss_is_without_label_smoothing(store, tmp_path):
    settings = {**SMALL, "epochs": 3, "label_smoothing": 0.4, "keep": "best"}
    summary = train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **settings))
    run, opened = open_run(tmp_path / "run"), open_store(store)
    rows = opened.rows("val")
    labels = opened.columns["label"][rows].astype(int)
    logits = compute_logits(load_detector(run, "cpu", "last").plane_detector, opened, rows, progress=False)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(rows)), labels]
    last = run.history[-1]
    assert last["val_loss"] == pytest.approx(losses.mean(), rel=1e-4)
    assert summary.best_epoch == 1 + int(np.argmin([row["val_loss"] for row in run.history]))
    assert summary.val_loss == run.history[summary.best_epoch - 1]["val_loss"]
