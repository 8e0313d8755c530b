"""`resume`: a stopped run ends in the same weights, to the last bit, as one that was never stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.make_store import make_store

from data_cards.core.errors import UsageError, UserError
from train.loop import validation as train_validation
from train.loop.context import StepRecord
from train.loop.signals import Stopped, StopSignals
from train.loop.trainer import resume, train
from train.run.folder import open_run, prolong_run
from train.run.history import read_history
from train.run.reported_score import ReportedScore, read_reported_score, write_reported_score
from train.settings import TrainSettings

EPOCHS, STEPS = 2, 3  # steps an epoch
SMALL = {
    "epochs": EPOCHS,
    "batch_size": 8,
    "device": "cpu",
    "precision": "float32",
    "threads": 2,
    "network": "small",
    "experts": "off",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(
        tmp_path_factory.mktemp("store") / "features.zarr",
        pictures={"train": (11, 11), "val": (3, 3)},
        variants=("clean", "jpeg-1", "jpeg-2"),
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, store) -> Path:
    path = tmp_path_factory.mktemp("run") / "whole"
    train(TrainSettings(store=str(store), run=str(path), **SMALL))
    return path


def assert_same_run(path: Path, other: Path) -> None:
    for name in ("last.safetensors", "best.safetensors"):
        assert (path / name).read_bytes() == (other / name).read_bytes(), name
    histories = [[{**row, "seconds": 0, "waited": 0} for row in open_run(run).history] for run in (path, other)]
    assert histories[0] == histories[1]


def stop_at(wanted: int) -> Callable[[StepRecord], None]:
    """A hook that sends this process a Ctrl-C after a step, counted from 0 over all epochs."""

    def interrupt(record):
        if STEPS * (record.epoch - 1) + record.step - 1 == wanted:
            os.kill(os.getpid(), signal.SIGINT)

    return interrupt


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(0, id="first step"),
        pytest.param(STEPS + 1, id="mid-epoch"),
        pytest.param(STEPS - 1, id="last step of an epoch"),
    ],
)
def test_resume_after_ctrl_c_gives_the_same_weights(store, uninterrupted, tmp_path, step):
    path, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped, match=f"train run --resume --run {path}") as caught:
        train(TrainSettings(store=str(store), run=str(path), **SMALL), stop_at(step))
    assert caught.value.exit_status == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(path.glob("*.partial"))
    torch.rand(10)  # the global generator's state must not matter
    resume(path, {"threads": 5})
    assert_same_run(path, uninterrupted)


def test_resume_with_the_whole_recipe_gives_the_same_weights(store, uninterrupted, tmp_path):
    settings = {**SMALL, "label_smoothing": 0.3, "normalise": "channel"}
    train(TrainSettings(store=str(store), run=str(tmp_path / "whole"), **settings))
    with pytest.raises(Stopped):
        train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **settings), stop_at(STEPS + 1))
    resume(tmp_path / "run", {"threads": 1, "in_memory": 0.0})
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    assert open_run(tmp_path / "run").settings.label_smoothing == 0.3


@pytest.mark.parametrize(("validation", "ended"), [(1, 0), (EPOCHS + 1, EPOCHS - 1)], ids=["first", "calibration"])
def test_resume_after_ctrl_c_in_validation_gives_the_same_weights(
    store, uninterrupted, tmp_path, monkeypatch, validation, ended
):
    path = tmp_path / "run"
    iterate_logits, calls = train_validation.iterate_logits, []

    def interrupt(*arguments):
        calls.append(arguments)
        for part in iterate_logits(*arguments):
            if len(calls) == validation:
                os.kill(os.getpid(), signal.SIGINT)
            yield part

    with monkeypatch.context() as patch:
        patch.setattr(train_validation, "iterate_logits", interrupt)
        with pytest.raises(Stopped, match=f"in the validation of epoch {ended + 1}"):
            train(TrainSettings(store=str(store), run=str(path), **SMALL))
    assert len(read_history(path)) == ended
    resume(path)
    assert_same_run(path, uninterrupted)


def test_run_that_is_stopped_before_its_first_step_runs_none_and_resumes(store, uninterrupted, tmp_path, monkeypatch):
    path, steps = tmp_path / "run", []
    with monkeypatch.context() as patch:
        patch.setattr("train.loop.trainer.print_price", lambda context: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped, match="stopped in epoch 1, before its next step; resume with"):
            train(TrainSettings(store=str(store), run=str(path), **SMALL), on_step=steps.append)
    assert not steps
    resume(path)
    assert_same_run(path, uninterrupted)


def test_resume_after_a_kill_gives_the_same_weights(store, uninterrupted, tmp_path):
    # The process ends without a word in the fifth step; the state of the fourth is there.
    path = tmp_path / "run"
    code = f"""
import os, signal
from train.loop.trainer import train
from train.settings import TrainSettings
def die(record):
    if (record.epoch, record.step) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)
train(TrainSettings(store={str(store)!r}, run={str(path)!r}, save_minutes=0.0, **{SMALL!r}), on_step=die)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL, done.stderr
    state = torch.load(path / "state.pt", weights_only=True)["position"]
    assert (state["epoch"], state["batch"]) == (2, 1)
    resume(path)
    assert_same_run(path, uninterrupted)


def test_finished_run_trains_on_to_more_epochs_and_ends_the_same_after_a_stop(store, uninterrupted, tmp_path):
    for name in ("whole", "stopped"):
        shutil.copytree(uninterrupted, tmp_path / name)
    reported = ReportedScore(open_run(uninterrupted).created, "clean", 0.75, 0.5, 1.0, "2026-11-28T12:00:00+00:00")
    write_reported_score(tmp_path / "whole", reported)
    assert resume(tmp_path / "whole").epochs == EPOCHS
    assert read_reported_score(tmp_path / "whole") == reported
    assert resume(tmp_path / "whole", {"epochs": 4}).epochs == 4
    assert read_reported_score(tmp_path / "whole") is None  # it was of other weights, as that of the stopped run
    with pytest.raises(Stopped):
        resume(tmp_path / "stopped", {"epochs": 4}, stop_at(STEPS * EPOCHS + 1))
    write_reported_score(tmp_path / "stopped", reported)
    resume(tmp_path / "stopped")  # the settings record the epochs
    assert read_reported_score(tmp_path / "stopped") is None
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    run = open_run(tmp_path / "whole")
    assert (run.settings.epochs, run.prolonged) == (4, EPOCHS)
    assert run.history[:EPOCHS] == open_run(uninterrupted).history
    rates = [row["learning_rate"] for row in run.history]
    assert rates[1] < rates[2] > rates[3]  # the cosine of four epochs, at the end of each
    assert resume(tmp_path / "whole").ended == "all 4 epochs done"
    with pytest.raises(UsageError, match=r"epochs 3 \(the run has 4\)"):
        resume(tmp_path / "whole", {"epochs": 3})


def test_kill_after_the_settings_of_a_prolonged_run_are_written_loses_nothing(store, uninterrupted, tmp_path):
    for name in ("whole", "killed"):
        shutil.copytree(uninterrupted, tmp_path / name)
    prolong_run(tmp_path / "killed", 3, EPOCHS)  # all that a kill right after it leaves
    resume(tmp_path / "killed")
    resume(tmp_path / "whole", {"epochs": 3})
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param({}, id="plain"),
        pytest.param({"dropout": 0.5, "balance": "source", "variants_per_epoch": "all"}, id="recipe"),
    ],
)
def test_resume_after_many_kills_gives_the_same_weights(store, tmp_path, recipe):
    # Whatever the process is at when it dies: reading, a step, validating, drawing, or writing any of its files.
    epochs = 4 if recipe else 12  # of three times as many steps
    settings = {**SMALL, "epochs": epochs, "patience": 0, **recipe}
    train(TrainSettings(store=str(store), run=str(tmp_path / "whole"), **settings))
    begin = ["--store", str(store), "--epochs", str(epochs), "--patience", "0", "--batch-size", "8", "--device", "cpu",
             "--precision", "float32", "--network", "small", "--experts", "off"]  # fmt: skip
    begin += [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]
    command = [sys.executable, "-m", "train", "run", "--run", str(tmp_path / "run"), "--save-minutes", "0"]
    rng, moments = np.random.default_rng(5), set()
    for kills_left in reversed(range(40)):
        arguments = ["--resume"] if (tmp_path / "run" / "settings.json").exists() else begin
        process = subprocess.Popen(
            [*command, *arguments, "--threads", str(rng.integers(1, 6))],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        line = process.stderr.readline()
        assert "small on cpu" in line or "finished already" in line, line
        if kills_left:
            # After some lines, not after some time: a busy machine is killed at the same places.
            for _ in range(rng.integers(0, 5)):
                process.stderr.readline()
            time.sleep(rng.uniform(0, 0.2))
        if not kills_left or process.poll() is not None:
            told = process.communicate()[1]
            assert process.returncode == 0, told
            break
        process.kill()
        process.communicate()
        if (tmp_path / "run" / "state.pt").exists():
            state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["position"]
            moments.add((state["epoch"], state["batch"]))
    assert len(moments) >= 3, "it was killed too seldom to prove a thing"
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_resume_without_a_state_starts_over(uninterrupted, store, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "settings.json").write_bytes((uninterrupted / "settings.json").read_bytes())
    resume(path)
    assert_same_run(path, uninterrupted)


def test_resume_of_a_finished_run_changes_nothing(uninterrupted):
    before = {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()}
    summary = resume(uninterrupted)
    assert summary.epochs == EPOCHS
    assert {path: path.read_bytes() for path in uninterrupted.rglob("*") if path.is_file()} == before


def test_other_settings_are_refused_by_name(uninterrupted):
    with pytest.raises(UsageError) as caught:
        resume(uninterrupted, {"lr": 0.5, "seed": 4, "epochs": EPOCHS, "threads": 1})
    message = str(caught.value)
    assert "lr 0.5 (the run has 0.001), seed 4 (the run has 0)" in message
    assert "epochs" not in message
    assert "threads" not in message


def test_another_store_is_refused(uninterrupted, tmp_path):
    other = make_store(tmp_path / "other.zarr", seed=1)
    with pytest.raises(UserError, match=r"other\.zarr: not the store that .* was trained on"):
        resume(uninterrupted, {"store": str(other)})


def test_resume_with_a_moved_store_goes_on(uninterrupted, store, tmp_path):
    moved = tmp_path / "moved.zarr"
    moved.symlink_to(store, target_is_directory=True)
    assert resume(uninterrupted, {"store": str(moved)}).epochs == EPOCHS


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "a bit", "the last bit"])
def test_resume_with_a_damaged_state_is_refused(uninterrupted, tmp_path, damage):
    path = tmp_path / "run"
    path.mkdir()
    (path / "settings.json").write_bytes((uninterrupted / "settings.json").read_bytes())
    state = bytearray((uninterrupted / "state.pt").read_bytes())
    if damage in ("a bit", "the last bit"):
        state[len(state) // 2 if damage == "a bit" else -1] ^= 1
    else:
        state = {"empty": b"", "text": b"hello", "cut": state[: len(state) // 2]}[damage]
    (path / "state.pt").write_bytes(state)
    with pytest.raises(UserError, match=r"state\.pt: the saved state is damaged"):
        resume(path)


def test_second_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
