"""The state of a run in memory, and the actions that its steps and its validation share: save, stop, report errors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import numpy as np
import torch
from torch import nn

from data_cards.core.console import echo
from pipeline.store.reader import FeatureStore
from train.data.loader import BatchLoader
from train.data.row_selection import Rows
from train.data.store_watch import ChangeDetector
from train.loop.failures import nonfinite_loss_error
from train.loop.resume_state import Position, save_state
from train.loop.signals import Stopped, StopSignals
from train.model.distributed import ProcessGroup
from train.model.plane_detector import PlaneDetector
from train.settings import TrainSettings


@dataclass(frozen=True)
class StepRecord:
    """One step of a run, as `on_step` of `train` gets it.

    Attributes
    ----------
    epoch, step : int, counted from 1; the step within its epoch
    rows : ndarray of int64, shape (n,); rows of the store in the batch, of all processes together
    loss : float, mean over the batch, in nats
    accuracy : float, share of the batch that was classified correctly, 0 to 1
    detector : the detector in training, with its weights after this step; not a copy
    """

    epoch: int
    step: int
    rows: np.ndarray
    loss: float
    accuracy: float
    detector: PlaneDetector


OnStep = Callable[[StepRecord], None]


@dataclass
class TrainContext:
    """A run in memory, ready for its next step."""

    settings: TrainSettings  # resolved: no "auto", no None
    store: FeatureStore
    loader: BatchLoader  # of the planes that the network reads
    store_changes: ChangeDetector
    rows: Rows
    labels: np.ndarray  # int64 (N,), of every row of the store
    sources: np.ndarray  # int64 (N,), number of each row's source
    device: torch.device
    precision: torch.dtype
    group: ProcessGroup
    detector: PlaneDetector
    network: nn.Module  # the detector's network, as a step calls it: wrapped if there are several processes
    optimiser: torch.optim.Optimizer
    folder: Path
    position: Position
    stop: StopSignals
    on_step: OnStep | None = None


def save_context(context: TrainContext) -> None:
    """Write the state from which the run can resume, on rank 0.

    Raises
    ------
    StoreError : the store has changed, so that the weights may have learned from another store's samples
    """
    if not context.group.is_rank0:
        return
    context.store_changes.check()
    save_state(context.folder, context.position, context.detector.network, context.optimiser)


def is_stop_requested(context: TrainContext) -> bool:
    """Return whether any process of the group was asked to stop."""
    return any(signal is not None for signal in context.group.all_gather(context.stop.received))


def stop_error(context: TrainContext, when: str) -> BaseException:
    """Return the exception that ends a run that was asked to stop; the state must have been saved."""
    return context.group.for_rank(Stopped(context.folder, when, context.stop.received or SIGTERM))


def loss_error(context: TrainContext, value: float, where: str, rows: np.ndarray) -> BaseException:
    """Return the exception for a loss that is not finite; see `nonfinite_loss_error`."""
    where = f"epoch {context.position.epoch}, {where}"
    error = nonfinite_loss_error(context.folder, context.settings, context.precision, value, where, context.store, rows)
    return context.group.for_rank(error)


def record_skipped(context: TrainContext, rows: np.ndarray) -> None:
    """Record rows that cannot be read, and print each of them once."""
    new = sorted(set(rows.tolist()) - set(context.position.skipped))
    for row in new:
        part, own = context.store.locate(row)
        echo(f"{part.path}: row {own} ({part.columns['image'][own]}) cannot be read: skipped", err=True)
    context.position.skipped = sorted([*context.position.skipped, *new])
