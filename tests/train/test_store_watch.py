"""`ChangeDetector`: a store that changes under a training ends it, and nothing is kept of it."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.make_store import make_store

from data_cards.core.errors import StoreError
from train.data.store_watch import ChangeDetector
from train.loop import trainer as loop
from train.loop import validation as train_validation
from train.loop.trainer import resume, train
from train.settings import TrainSettings

SMALL = {"epochs": 2, "batch_size": 8, "device": "cpu", "network": "radial", "experts": "off", "save_minutes": 0.0}
SHARD = "features/c/1/0/0/0"


@pytest.fixture
def settings(tmp_path) -> TrainSettings:
    store = make_store(tmp_path / "features.zarr", variants=("clean", "jpeg-1"))
    return TrainSettings(store=str(store), run=str(tmp_path / "run"), **SMALL)


def touch(settings: TrainSettings, file: str = SHARD) -> None:
    """Write a file of the store again with the same content, as a copy over it would."""
    path = Path(settings.store[0], file)
    status = path.stat()
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # however coarse the clock


def append(settings: TrainSettings, file: str) -> None:
    path = Path(settings.store[0], file)
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("change", [touch, append])
def test_store_change_in_an_epoch_ends_the_run(settings, tmp_path, change):
    def change_store(record):
        if record.step == 2:
            change(settings, SHARD)

    with pytest.raises(StoreError, match=rf"features.zarr: changed while .*\({SHARD}"):
        train(settings, on_step=change_store)
    assert not (tmp_path / "run" / "best.safetensors").exists()
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["position"]
    assert state["batch"] == 1  # the step before


def test_store_change_at_opening_ends_the_run(settings, tmp_path, monkeypatch):
    choose_rows = loop.choose_rows

    def replace_store(store, chosen):
        Path(store.path).rename(tmp_path / "old.zarr")
        make_store(Path(store.path), variants=("clean", "jpeg-1"), seed=1)
        return choose_rows(store, chosen)

    monkeypatch.setattr(loop, "choose_rows", replace_store)
    with pytest.raises(StoreError, match=r"features.zarr: changed while the run was reading it"):
        train(settings)
    assert not (tmp_path / "run" / "state.pt").exists()


@pytest.mark.parametrize("validation", [1, 2, 3], ids=["first", "last", "of all variants"])
def test_store_change_in_a_validation_ends_the_run(settings, tmp_path, monkeypatch, validation):
    iterate_logits, calls = train_validation.iterate_logits, []

    def change(*arguments):
        calls.append(arguments)
        for logits in iterate_logits(*arguments):
            if len(calls) == validation:
                append(settings, "zarr.json")
            yield logits

    monkeypatch.setattr(train_validation, "iterate_logits", change)
    with pytest.raises(StoreError, match=r"features.zarr: changed while .*\(zarr.json"):
        train(settings)
    assert (tmp_path / "run" / "best.safetensors").exists() == (validation > 1)


def test_a_run_goes_on_once_its_store_is_brought_back(settings, tmp_path):
    train(replace(settings, run=str(tmp_path / "whole")))
    path = Path(settings.store[0])

    def remove(record):
        if (record.epoch, record.step) == (2, 2):
            path.rename(tmp_path / "away.zarr")

    with pytest.raises(StoreError, match=r"features.zarr: changed while"):
        train(settings, on_step=remove)
    (tmp_path / "away.zarr").rename(path)
    resume(settings.run)
    for name in ("best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_file_removed_while_watched_counts_as_a_change(settings, monkeypatch):
    watch, found = ChangeDetector(settings.store), list(os.walk(f"{settings.store[0]}/features"))
    monkeypatch.setattr(os, "walk", lambda _: found)
    Path(settings.store[0], SHARD).unlink()
    with pytest.raises(StoreError, match=rf"changed while .*\({SHARD}"):
        watch.check()


def test_the_order_of_the_sources_given_does_not_matter(tmp_path):
    store = make_store(tmp_path / "features.zarr", variants=("clean", "jpeg-1"))
    chosen = {"where": ("variant=clean,jpeg-1", "format=JPEG"), "hold_out": ("b", "a", "b"), "validate_on": ("d", "c")}
    settings = TrainSettings(store=str(store), **chosen)
    assert settings == TrainSettings(store=str(store), **{name: values[::-1] for name, values in chosen.items()})
    assert settings.hold_out == ("a", "b")
    assert settings == replace(settings, where=("format=JPEG", "variant=jpeg-1,clean"))
