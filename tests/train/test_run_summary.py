"""`summary.json` of a run: at its end, after a stop, and after an error."""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SUMMARY
from train.loop.signals import Stopped
from train.loop.trainer import resume, train
from train.model.device import name_device
from train.run.folder import open_run
from train.run.summary import read_summary
from train.settings import TrainSettings

SMALL = {"epochs": 3, "batch_size": 8, "device": "cpu", "network": "radial", "experts": "off"}


@pytest.fixture
def settings(tmp_path) -> TrainSettings:
    return TrainSettings(store=str(make_store(tmp_path / "features.zarr")), run=str(tmp_path / "run"), **SMALL)


def test_summary_of_a_finished_run_says_so(settings, tmp_path):
    summary = train(settings)
    assert read_summary(tmp_path / "run") == summary
    record, history = json.loads((tmp_path / "run" / RUN_SUMMARY).read_text()), open_run(tmp_path / "run").history
    wanted = {
        "run": settings.run, "state": "finished", "ended": "all 3 epochs done", "epochs": 3, "best_epoch": 3,
        "val_loss": history[2]["val_loss"], "device": "cpu", "precision": "float32", "processes": 1, "skipped": 0,
    }  # fmt: skip
    assert {name: record[name] for name in wanted} == wanted
    assert record["device_name"] == name_device(torch.device("cpu"))
    assert record["seconds"] == pytest.approx(sum(row["seconds"] for row in history), abs=2e-3)
    assert record["samples_per_second"] == pytest.approx(3 * (24 + 12) / record["seconds"], rel=0.1)
    assert record["calibration"] == json.loads((tmp_path / "run" / "best.json").read_text())["calibration"]


def test_summary_of_an_early_stop_says_so(tmp_path):
    store = make_store(tmp_path / "noise.zarr", signal=0)
    summary = train(
        TrainSettings(store=str(store), run=str(tmp_path / "run"), **{**SMALL, "epochs": 60}, keep="best", patience=1)
    )
    assert summary.state == "stopped early"
    assert summary.ended == "validation loss no better for 1 epochs"
    assert read_summary(tmp_path / "run") == summary


def test_an_interrupted_run_goes_on(settings, tmp_path):
    def interrupt(record):
        if (record.epoch, record.step) == (2, 2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Stopped):
        train(settings, on_step=interrupt)
    summary = read_summary(tmp_path / "run")
    assert (summary.state, summary.epochs, summary.best_epoch, summary.calibration) == ("interrupted", 1, 1, None)
    assert summary.ended.startswith("stopped in epoch 2, after 2 of 3 steps; resume with")

    def look(record):
        assert not (tmp_path / "run" / RUN_SUMMARY).exists()  # after a kill here, it would still report the stop
        steps.append((record.epoch, record.step))

    steps = []
    assert resume(settings.run, on_step=look).state == "finished"
    assert steps == [(2, 3), (3, 1), (3, 2), (3, 3)]
    assert read_summary(tmp_path / "run").state == "finished"


def test_summary_of_a_failed_run_has_the_error(settings, tmp_path):
    with pytest.raises(UserError) as caught:
        train(replace(settings, lr=1e30))
    summary = read_summary(tmp_path / "run")
    assert summary.state == "failed"
    assert str(caught.value) == f"{settings.run}: {summary.ended}"
    assert summary.ended.startswith("the loss became ")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"state": "finished"}'])
def test_a_damaged_summary_is_none(tmp_path, content):
    assert read_summary(tmp_path) is None
    (tmp_path / RUN_SUMMARY).write_text(content)
    assert read_summary(tmp_path) is None


def test_resume_writes_a_summary_that_a_kill_prevented(settings, tmp_path):
    summary = train(settings)
    (tmp_path / "run" / RUN_SUMMARY).unlink()
    assert resume(settings.run) == summary
    assert (tmp_path / "run" / RUN_SUMMARY).exists()
