"""A run in memory, and what both its steps and its validation do: save, stop, tell of trouble."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import click
import numpy as np
import torch
from torch import nn

from pipeline.store.reader import FeatureStore
from train.data.loader import BatchReader
from train.data.row_selection import Rows
from train.data.store_watch import StoreWatch
from train.loop.failures import describe_bad_loss
from train.loop.resume_state import Position, save_state
from train.loop.signals import Stopped, StopSignals
from train.model.detector import Detector
from train.model.distributed import Team
from train.recipe.augment import Augmenter
from train.settings import TrainSettings


@dataclass(frozen=True)
class StepRecord:
    """One step of a run, as `on_step` of `train` gets it.

    Attributes
    ----------
    epoch, step : counted from 1; the step within its epoch
    rows : int64 (n,), rows of the store in the batch, of all processes together
    loss : mean over the batch, in nats, without the source penalty
    accuracy : share of the batch that was classified correctly, 0 to 1
    detector : that is trained, with its weights after this step; not a copy
    """

    epoch: int
    step: int
    rows: np.ndarray
    loss: float
    accuracy: float
    detector: Detector


OnStep = Callable[[StepRecord], None]


@dataclass
class Training:
    """A run in memory, ready for its next step."""

    settings: TrainSettings
    store: FeatureStore
    reader: BatchReader  # of the planes that the network is fed
    watch: StoreWatch
    rows: Rows
    labels: np.ndarray  # int64 (N,), of every row of the store
    sources: np.ndarray  # int64 (N,), number of each row's source
    device: torch.device
    precision: torch.dtype
    team: Team
    detector: Detector
    network: nn.Module  # its network, as it is called in a step: wrapped where the team is of several processes
    augmenter: Augmenter
    optimiser: torch.optim.Optimizer
    folder: Path
    position: Position
    stop: StopSignals
    on_step: OnStep | None = None


def save(training: Training) -> None:
    """Write the state that the run goes on from, unless the store has changed: it may be of another one's samples.

    Raises
    ------
    StoreError : it has
    """
    if not training.team.leads:
        return
    training.watch.check()
    save_state(training.folder, training.position, training.detector.network, training.optimiser)


def is_to_stop(training: Training) -> bool:
    """Whether a process of the team was asked to stop."""
    return any(signal is not None for signal in training.team.gather(training.stop.received))


def describe_stop(training: Training, when: str) -> BaseException:
    """What ends a run that was asked to stop; the state must be saved."""
    return training.team.tell(Stopped(training.folder, when, training.stop.received or SIGTERM))


def note_skipped(training: Training, rows: np.ndarray) -> None:
    """Note rows that cannot be read, and tell of each once."""
    new = sorted(set(rows.tolist()) - set(training.position.skipped))
    for row in new:
        part, own = training.store.locate(row)
        click.echo(f"{part.path}: row {own} ({part.columns['image'][own]}) cannot be read: skipped", err=True)
    training.position.skipped = sorted([*training.position.skipped, *new])


def describe_loss(training: Training, value: float, where: str, rows: np.ndarray) -> BaseException:
    """The error for a loss that is not finite; `rows` are those of the batch, or of a validation those it is of."""
    where = f"epoch {training.position.epoch}, {where}"
    error = describe_bad_loss(
        training.folder, training.settings, training.precision, value, where, training.store, rows
    )
    return training.team.tell(error)
