"""Records of a run: git commit, data card, best epoch, TensorBoard events."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from pipeline.store.reader import open_store
from train.model.calibration import Calibration
from train.run.best_epoch import BestEpoch, compute_confusion, read_best_epoch, write_best_epoch
from train.run.environment import find_commit
from train.run.folder import write_run_settings
from train.run.plot_history import plot_history
from train.run.tensorboard import EVENTS, has_tensorboard, write_events
from train.settings import TrainSettings

ROW = {"epoch": 3, "learning_rate": 0.5, "train_loss": 0.25, "val_loss": 0.75, "val_accuracy": 1.0, "seconds": 2.0}


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_find_commit_names_commit_and_changes(tmp_path):
    assert find_commit(tmp_path) is None  # no repository
    git(tmp_path, "init", "-q")
    assert find_commit(tmp_path) is None  # without a commit
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "beside").write_text("not tracked")
    assert find_commit(tmp_path) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("two")
    assert find_commit(tmp_path)["dirty"] is True
    assert find_commit(tmp_path / "absent") is None


def test_write_run_settings_without_git_records_none(tmp_path, monkeypatch):
    store = open_store(make_store(tmp_path / "features.zarr"))
    monkeypatch.setenv("PATH", "")
    (tmp_path / "run").mkdir()
    write_run_settings(tmp_path / "run", TrainSettings(), store)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["git"] is None


def test_write_run_settings_copies_the_data_card(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr"))
    (tmp_path / "run").mkdir()
    write_run_settings(tmp_path / "run", TrainSettings(), store)
    assert [json.loads((tmp_path / "run" / "data_card.json").read_text())] == list(store.cards)


def test_confusion_counts_by_the_threshold():
    calibration = Calibration(2.0, 0.75, 0.5, 0.9)  # a probability of 0.75 is log-odds of 2 ln 3 before calibration
    odds = np.array([-1, 2.1, 2.3, 2.1, 2.3, 9])
    logits = np.stack([0 * odds, odds], axis=1)
    confusion = compute_confusion(logits, np.array([0, 0, 0, 1, 1, 1]), calibration)
    assert confusion == {"real": {"real": 2, "fake": 1}, "fake": {"real": 1, "fake": 2}}


def test_best_epoch_survives_its_file(tmp_path):
    best = BestEpoch(2, 0.5, 0.75, {"real": {"real": 9, "fake": 1}, "fake": {"real": 0, "fake": 4}}, Calibration(1.5))
    write_best_epoch(tmp_path, best)
    assert read_best_epoch(tmp_path) == best
    plot_history([{**ROW, "epoch": 1, "train_accuracy": 0.5}], best, tmp_path / "curves.png", "a run")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for text in ("{", "{}", "[]", '{"epoch": 1}'):
        (tmp_path / "best.json").write_text(text)
        with pytest.raises(UserError, match=r"best\.json: damaged"):
            read_best_epoch(tmp_path)
    (tmp_path / "best.json").unlink()
    with pytest.raises(UserError, match=r"best\.json: no such file"):
        read_best_epoch(tmp_path)


def test_write_events_writes_the_history(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    write_events(tmp_path, ROW)
    write_events(tmp_path, {**ROW, "epoch": 4})
    found = {}
    for file in sorted((tmp_path / EVENTS).iterdir()):
        data, place = file.read_bytes(), 0
        while place < len(data):  # length, its checksum, the event, its checksum
            length = int.from_bytes(data[place : place + 8], "little")
            event = Event.FromString(data[place + 12 : place + 12 + length])
            found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
            place += 16 + length
    wanted = {"learning_rate": 0.5, "loss/train": 0.25, "loss/val": 0.75, "accuracy/val": 1.0, "seconds": 2.0}
    assert found == {(tag, step): value for tag, value in wanted.items() for step in (3, 4)}


def test_write_events_without_the_library_writes_none(tmp_path, monkeypatch):
    monkeypatch.setattr("train.run.tensorboard.find_spec", lambda name: None)
    assert not has_tensorboard()
    write_events(tmp_path, ROW)
    assert list(tmp_path.iterdir()) == []
