"""The price of a run is printed before its first epoch, and its batch fits in the memory."""

import json
from dataclasses import replace

import pytest
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from train.loop import price
from train.loop.trainer import resume, train
from train.settings import TrainSettings

SMALL = {"epochs": 1, "device": "cpu", "precision": "float32", "network": "small", "experts": "off"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return str(
        make_store(tmp_path_factory.mktemp("store") / "features.zarr", pictures={"train": (20, 20), "val": (3, 3)})
    )


@pytest.fixture
def measured(monkeypatch):
    """Make a sample need 100 MB and all else nothing, with so many MB free; return the setter of the latter."""

    def set_free(megabytes):
        measure = price.measure_step_memory
        monkeypatch.setattr(price, "_LIBRARIES", 0)
        monkeypatch.setattr(
            price,
            "measure_step_memory",
            lambda context: replace(measure(context), saved=1e8, weights=0, levels=0, inputs=0, free=megabytes * 10**6),
        )

    return set_free


def recorded_batch_size(run):
    return json.loads((run / "settings.json").read_text())["train"]["batch_size"]


def test_price_is_printed_and_the_default_batch_is_kept_where_it_fits(store, tmp_path, capsys):
    train(TrainSettings(store=store, run=str(tmp_path / "run"), **SMALL))
    lines = capsys.readouterr().err.splitlines()
    [place] = [number for number, line in enumerate(lines) if line.startswith("an epoch takes about ")]
    assert "1 epoch at most" in lines[place]
    assert "a step of 20 samples about" in lines[place]
    assert lines[place + 1].startswith("epoch 1/1")
    assert recorded_batch_size(tmp_path / "run") == 32


@pytest.mark.parametrize("steps", [2, 5])  # trial steps of 4 and 8 samples, or up to whole batches of 20
def test_price_counts_validation_and_calibration_and_not_the_first_step(steps, tmp_path, monkeypatch, capsys):
    pictures, variants = {"train": (20, 20), "val": (3, 3)}, ("clean", "jpeg-75")
    store = make_store(tmp_path / "features.zarr", pictures=pictures, variants=variants)

    def take_time(trial, rows):
        """Take 10 s for a step and 1 s for each of its samples, and 0.5 s to score one; more in the first step."""
        return (1000.0, 1000.0) if len(rows) == 2 else (10.0 + len(rows), 0.5 * len(rows))

    monkeypatch.setattr(price, "_time_step", take_time)
    monkeypatch.setattr(price, "_TRIAL_STEPS", steps)
    train(TrainSettings(store=str(store), run=str(tmp_path / "run"), **SMALL | {"epochs": 3}))
    # Two steps of 20 samples and 6 samples to score; in the end also the other variant of these.
    assert "an epoch takes about 1 min 03 s, 3 epochs at most 3 min 15 s;" in capsys.readouterr().err


def test_time_left_of_an_epoch_counts_its_validation(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("data_cards.core.console.LINE_SECONDS", 0.0)
    train(TrainSettings(store=store, run=str(tmp_path / "run"), **SMALL))
    assert "epoch 1/1: 0 of 46 samples" in capsys.readouterr().err


def test_default_batch_is_what_fits_and_a_resumed_run_keeps_it(store, tmp_path, capsys, measured):
    measured(1400)  # 0.675 of it are for the batch, at 120 MB a sample
    train(TrainSettings(store=store, run=str(tmp_path / "run"), **SMALL))
    assert (
        "batch size 4: a step of 32 samples would take 3.8 GB of memory, and 1.4 GB are free" in capsys.readouterr().err
    )
    assert recorded_batch_size(tmp_path / "run") == 4
    measured(10**6)
    assert resume(tmp_path / "run").epochs == 1


def test_memory_that_cannot_suffice_ends_the_run_before_it_starts(store, tmp_path, measured):
    measured(300)
    with pytest.raises(UserError, match=r"a step of 4 samples needs 480.0 MB of memory, and 300.0 MB are free on cpu"):
        train(TrainSettings(store=store, run=str(tmp_path / "run"), **SMALL))
    assert not (tmp_path / "run").exists()


def test_given_batch_size_is_kept_or_refused(store, tmp_path, capsys, measured):
    measured(900)
    train(TrainSettings(store=store, run=str(tmp_path / "run"), batch_size=8, **SMALL))
    assert "a step of 8 samples may take 960.0 MB of memory, and 900.0 MB are free" in capsys.readouterr().err
    assert recorded_batch_size(tmp_path / "run") == 8
    with pytest.raises(UserError) as refused:
        train(TrainSettings(store=store, run=str(tmp_path / "other"), batch_size=256, **SMALL))
    assert "a step of 40 samples needs 4.0 GB of memory, and 900.0 MB are free" in str(refused.value)
    assert "a lower --batch-size (it is 256, and 7 would fit)" in str(refused.value)
    assert not (tmp_path / "other").exists()


def test_set_smaller_than_a_batch_is_trained_in_steps_of_all_its_samples(store, tmp_path, capsys):
    steps = []
    settings = TrainSettings(store=store, run=str(tmp_path / "run"), batch_size=64, **SMALL)
    train(settings, on_step=lambda record: steps.append(len(record.rows)))
    assert steps == [40]
    assert "an epoch is one step of 40 samples, fewer than the batch size of 64" in capsys.readouterr().err


def test_trial_steps_change_no_weight(store, tmp_path, monkeypatch):
    for name in ("with", "without"):
        train(TrainSettings(store=store, run=str(tmp_path / name), **SMALL))
        monkeypatch.setattr("train.loop.trainer.print_price", lambda context: None)
        monkeypatch.setattr("train.loop.trainer.check_batch_size", lambda context, is_given: None)
    weights = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("with", "without")]
    assert weights[0] == weights[1]
