"""One epoch: its steps, its validation, and what is written after it.

Everything random is a pure function of the seed and the step, and all that a run goes on from is
in its `Position`, the weights and the optimiser: the epoch may be stopped after any step.
"""

import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch

from data_cards.console import progress
from data_cards.errors import StoreError, UserError
from pipeline.store import CLASS_NAMES, FeatureStore
from train.augment import Augmenter
from train.average import update_average
from train.batches import move_batches, read_batches
from train.best import judge_best, measure_logits, read_best, write_best
from train.calibrate import fit_calibration
from train.checkpoint import BEST, LAST, save_weights
from train.curves import draw_curves
from train.detector import Detector
from train.events import write_events
from train.files import whole_file
from train.history import tell_end, write_history
from train.optimise import learning_rate, set_learning_rate
from train.order import draw_epoch, draw_seed, split_batches
from train.predict import iterate_logits
from train.rows import Rows
from train.run_folder import CURVES
from train.settings import TrainSettings
from train.state import Position, save_state
from train.stopping import Stopped, StopSignals
from train.trouble import describe_bad_loss

# Reading a loss makes the computer wait for the GPU, so there they are read a few steps at a time.
_STEPS_BETWEEN_READINGS = 20


@dataclass
class Training:
    """A run in memory, ready for its next step."""

    settings: TrainSettings
    store: FeatureStore
    rows: Rows
    labels: np.ndarray  # int64 (N,), of every row of the store
    device: torch.device
    precision: torch.dtype
    detector: Detector  # that is trained
    judged: Detector  # that is validated and kept: with averaged weights, or the very same
    augmenter: Augmenter
    optimiser: torch.optim.Optimizer
    folder: Path
    position: Position
    stop: StopSignals


def run_epoch(training: Training) -> None:
    """Train what is left of the current epoch, validate, write; then the next epoch is current.

    Raises
    ------
    UserError : the loss is not finite
    Stopped : a stop was asked for; the state is saved
    """
    batches = _batches_of_epoch(training)
    _train_epoch(training, batches)
    _finish_epoch(training, batches)


def _batches_of_epoch(training: Training) -> list[np.ndarray]:
    settings, rows = training.settings, training.rows
    order = draw_epoch(
        rows.train, rows.train_pictures, settings.seed, training.position.epoch, settings.variants_per_epoch
    )
    return split_batches(order, settings.batch_size)


def _train_epoch(training: Training, batches: list[np.ndarray]) -> None:
    """Take the steps of the epoch that are not done yet."""
    settings, position = training.settings, training.position
    skipped = set(position.skipped) if settings.on_bad_sample == "skip" else None
    reading = read_batches(
        training.store,
        batches[position.batch :],
        threads=settings.threads,
        pinned=training.device.type == "cuda",
        kinds=settings.kinds,
        skipped=skipped,
    )
    every = 1 if training.device.type == "cpu" else _STEPS_BETWEEN_READINGS
    unread: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    begun = saved = time.monotonic()
    seconds_before = position.seconds
    bar = progress(what=f"epoch {position.epoch}/{settings.epochs}", unit="samples", total=sum(map(len, batches)))
    bar.leave = False  # the epoch's line takes its place
    bar.n = bar.initial = position.seen  # of a resumed epoch, for a true rate
    training.detector.train()
    with bar, closing(reading):
        for levels in move_batches(reading, training.device):
            rows = batches[position.batch]
            levels, rows = _leave_out(training, levels, rows, skipped)
            batches[position.batch] = rows
            step = (position.epoch - 1) * len(batches) + position.batch
            set_learning_rate(training.optimiser, learning_rate(step, len(batches), settings))
            if len(rows) > 1:  # batch normalisation needs two
                loss, correct = take_step(training, levels, rows, step)
                unread.append((position.batch, loss, correct))
                position.seen += len(rows)
            position.batch += 1
            bar.update(len(rows))
            now = time.monotonic()
            to_save = training.stop.received is not None or now - saved > 60 * settings.save_minutes
            if len(unread) >= every or to_save or position.batch == len(batches):
                _read_losses(training, batches, unread)
                bar.set_postfix(loss=f"{position.loss_sum / max(position.seen, 1):.3f}", refresh=False)
            position.seconds = seconds_before + now - begun
            if to_save:
                _save(training)
                saved = now
                done = f"after {position.batch} of {len(batches)} steps"
                _stop_if_asked(training, f"in epoch {position.epoch}, {done}")


def _leave_out(
    training: Training, levels: torch.Tensor, rows: np.ndarray, skipped: set[int] | None
) -> tuple[torch.Tensor, np.ndarray]:
    """The batch without its unreadable rows; each of them is noted and told of once."""
    if not skipped:
        return levels, rows
    kept = ~np.isin(rows, sorted(skipped))
    _note_skipped(training, rows[~kept])
    return (levels, rows) if kept.all() else (levels[torch.from_numpy(kept).to(levels.device)], rows[kept])


def _note_skipped(training: Training, rows: np.ndarray) -> None:
    new = sorted(set(rows.tolist()) - set(training.position.skipped))
    for row in new:
        image = training.store.columns["image"][row]
        click.echo(f"{training.store.path}: row {row} ({image}) cannot be read: skipped", err=True)
    training.position.skipped = sorted([*training.position.skipped, *new])


def take_step(
    training: Training, levels: torch.Tensor, rows: np.ndarray, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of the optimiser; returns the mean loss and the number of right answers, on the device."""
    # Dropout is seeded by the step: a resumed run draws what an uninterrupted one would have.
    torch.manual_seed(draw_seed(training.settings.seed, step))
    labels = torch.from_numpy(training.labels[rows]).to(training.device)
    draws = training.augmenter.draw(step, len(rows))
    values = training.detector.normalise(training.augmenter.change_levels(levels, draws))
    values = training.augmenter.change_values(values, draws)
    with torch.autocast(training.device.type, dtype=torch.bfloat16, enabled=training.precision == torch.bfloat16):
        logits = training.detector.network(values)
    logits = logits.float()
    loss = training.augmenter.loss(logits, labels, draws)
    training.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    training.optimiser.step()
    if training.judged is not training.detector:
        update_average(training.judged.network, training.detector.network, training.settings.ema, step)
    return loss.detach(), (logits.argmax(1) == labels).sum()


def _read_losses(
    training: Training, batches: list[np.ndarray], unread: list[tuple[int, torch.Tensor, torch.Tensor]]
) -> None:
    """Add the losses of the last steps to the sums; a loss that is not finite ends the run."""
    for number, loss, correct in unread:
        value = loss.item()
        if not math.isfinite(value):
            raise _describe_loss(training, value, f"step {number + 1}", batches[number])
        training.position.loss_sum += value * len(batches[number])
        training.position.correct += int(correct.item())
    unread.clear()


def _finish_epoch(training: Training, batches: list[np.ndarray]) -> None:
    """Validate, then write everything of the epoch; the state comes last, as it says that the rest is there."""
    settings, position, folder = training.settings, training.position, training.folder
    begun = time.monotonic()
    if not position.seen:
        raise StoreError(f"{training.store.path}: none of its training samples can be read; build it again")
    logits, labels = _validate(training)
    val_loss, val_accuracy = measure_logits(logits, labels)
    if not math.isfinite(val_loss):
        raise _describe_loss(training, val_loss, "validation", np.array([], dtype=np.int64))
    row = {
        "epoch": position.epoch,
        "learning_rate": learning_rate(position.epoch * len(batches) - 1, len(batches), settings),
        "train_loss": position.loss_sum / position.seen,
        "train_accuracy": position.correct / position.seen,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
        "seconds": round(position.seconds + time.monotonic() - begun, 3),
    }
    position.history.append(row)
    training.judged.calibration = fit_calibration(logits, labels)
    is_best = val_loss < position.best_loss
    if is_best:
        position.best_epoch, position.best_loss = position.epoch, val_loss
    position.ended = tell_end(position.epoch, position.best_epoch, settings)
    position.begin_next_epoch()
    save_weights(training.judged, folder, LAST)
    if is_best:
        save_weights(training.judged, folder, BEST)
        write_best(folder, judge_best(row, logits, labels, training.judged.calibration))
    write_history(folder, position.history)
    write_events(folder, row)
    with whole_file(folder / CURVES) as temporary:
        draw_curves(position.history, read_best(folder), temporary, folder.name)
    _save(training)
    _report_epoch(row, settings.epochs, is_best)
    if not position.ended:
        _stop_if_asked(training, f"after epoch {row['epoch']}")


def _validate(training: Training) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float64 (N, 2), and labels of the validation rows."""
    val, settings = training.rows.val, training.settings
    skipped = set() if settings.on_bad_sample == "skip" else None
    parts = []
    with (
        closing(
            iterate_logits(training.judged, training.store, val, settings.batch_size, settings.threads, skipped)
        ) as scoring,
        progress(what="validation", unit="samples", total=len(val)) as bar,
    ):
        bar.leave = False
        for part in scoring:
            parts.append(part)
            bar.update(len(part))
            if training.stop.received is not None:
                _save(training)  # all steps of the epoch are done; resuming validates first
                _stop_if_asked(training, f"in the validation of epoch {training.position.epoch}")
    kept = ~np.isin(val, sorted(skipped or ()))
    _note_skipped(training, val[~kept])
    labels = training.labels[val[kept]]
    for label, name in enumerate(CLASS_NAMES):
        if label not in labels:
            raise StoreError(f"{training.store.path}: no {name} validation sample can be read; build it again")
    return np.concatenate(parts)[kept], labels


def _save(training: Training) -> None:
    average = None if training.judged is training.detector else training.judged.network
    save_state(training.folder, training.position, training.detector.network, training.optimiser, average)


def _stop_if_asked(training: Training, when: str) -> None:
    if training.stop.received is not None:
        raise Stopped(training.folder, when, training.stop.received)


def _describe_loss(training: Training, value: float, where: str, rows: np.ndarray) -> UserError:
    where = f"epoch {training.position.epoch}, {where}"
    return describe_bad_loss(training.folder, training.settings, value, where, training.store, rows)


def _report_epoch(row: dict, epochs: int, is_best: bool) -> None:
    click.echo(
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"training: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.1%}  "
        f"validation: loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}  "
        f"{row['seconds']:.1f} s{'  best' if is_best else ''}",
        err=True,
    )
