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
