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
from train.data.loader import BatchLoader
from train.data.row_selection import Rows
from train.data.store_watch import ChangeDetector
from train.loop.failures import nonfinite_loss_error
from train.loop.resume_state import Position, save_state
from train.loop.signals import Stopped, StopSignals
from train.model.detector import Detector
from train.model.distributed import ProcessGroup
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
class TrainContext:
    """A run in memory, ready for its next step."""

    settings: TrainSettings
    store: FeatureStore
    loader: BatchLoader  # of the planes that the network is fed
    store_changes: ChangeDetector
    rows: Rows
    labels: np.ndarray  # int64 (N,), of every row of the store
    sources: np.ndarray  # int64 (N,), number of each row's source
    device: torch.device
    precision: torch.dtype
    group: ProcessGroup
    detector: Detector
    network: nn.Module  # its network, as it is called in a step: wrapped where the team is of several processes
    augmenter: Augmenter
    optimiser: torch.optim.Optimizer
    folder: Path
    position: Position
    stop: StopSignals
    on_step: OnStep | None = None


def save_context(context: TrainContext) -> None:
    """Write the state that the run goes on from, unless the store has changed: it may be of another one's samples.

    Raises
    ------
    StoreError : it has
    """
    if not context.group.is_rank0:
        return
    context.store_changes.check()
    save_state(context.folder, context.position, context.detector.network, context.optimiser)


def is_stop_requested(context: TrainContext) -> bool:
    """Whether a process of the team was asked to stop."""
    return any(signal is not None for signal in context.group.all_gather(context.stop.received))


def stop_error(context: TrainContext, when: str) -> BaseException:
    """What ends a run that was asked to stop; the state must be saved."""
    return context.group.for_rank(Stopped(context.folder, when, context.stop.received or SIGTERM))


def record_skipped(context: TrainContext, rows: np.ndarray) -> None:
    """Note rows that cannot be read, and tell of each once."""
    new = sorted(set(rows.tolist()) - set(context.position.skipped))
    for row in new:
        part, own = context.store.locate(row)
        click.echo(f"{part.path}: row {own} ({part.columns['image'][own]}) cannot be read: skipped", err=True)
    context.position.skipped = sorted([*context.position.skipped, *new])


def loss_error(context: TrainContext, value: float, where: str, rows: np.ndarray) -> BaseException:
    """The error for a loss that is not finite; `rows` are those of the batch, or of a validation those it is of."""
    where = f"epoch {context.position.epoch}, {where}"
    error = nonfinite_loss_error(context.folder, context.settings, context.precision, value, where, context.store, rows)
    return context.group.for_rank(error)
