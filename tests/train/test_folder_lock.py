"""`folder_lock`: one training at a time writes into a run's folder; readers are not hindered."""

import errno
import os
from pathlib import Path

import pytest
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from train.loop.trainer import resume, train
from train.run.folder import folder_lock, open_run
from train.run.listing import list_runs
from train.settings import TrainSettings

SMALL = {"epochs": 1, "batch_size": 8, "device": "cpu", "precision": "float32", "network": "radial", "experts": "off"}


@pytest.fixture
def settings(tmp_path) -> TrainSettings:
    store = make_store(tmp_path / "features.zarr")
    return TrainSettings(store=str(store), run=str(tmp_path / "runs" / "one"), **SMALL)


def test_train_holds_the_folder_lock(settings):
    told = []

    def go_on_elsewhere(_):
        if not told:
            with pytest.raises(UserError) as caught:
                resume(settings.run)
            told.append(str(caught.value))

    train(settings, on_step=go_on_elsewhere)
    assert told[0].startswith(f"{settings.run}: another training is writing there (")
    assert told[0].endswith("); wait for it, or stop it")
    assert resume(settings.run).epochs == 1  # let go of at its end


def test_a_held_folder_is_read_but_not_trained_into(settings):
    train(settings)
    path = Path(settings.run)
    before = sorted(path.iterdir())
    with folder_lock(path):
        for begin in (lambda: resume(path), lambda: train(settings)):
            with pytest.raises(UserError, match="one: another training is writing there"):
                begin()
        assert [one.state for one in list_runs(path.parent)] == ["finished"]
        assert open_run(path).history
    assert sorted(path.iterdir()) == before


def test_train_without_file_locks_trains(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)  # as on some network file systems
    with folder_lock(tmp_path):
        pass
