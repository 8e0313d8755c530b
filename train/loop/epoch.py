"""One epoch: its steps, its validation, and what is written after it."""

import time

import click
import numpy as np

from data_cards.core.errors import StoreError
from data_cards.core.files import whole_file
from train.loop.context import Training, describe_stop, is_to_stop, save
from train.loop.step import draw_batches, train_epoch
from train.loop.validation import calibrate, calibrate_kept, measure_logits, validate
from train.recipe.optimizer import learning_rate
from train.run.best_epoch import judge_best, read_best, write_best
from train.run.checkpoint import BEST, LAST, save_weights
from train.run.folder import CURVES
from train.run.history import choose_epoch, tell_end, write_history
from train.run.plot_history import draw_curves
from train.run.tensorboard import write_events

_WORTH_DRAWING = 10.0  # seconds of an epoch: drawing takes half a second, as long as the epochs of a small run


def run_epoch(training: Training) -> None:
    """Train what is left of the current epoch, validate, write; then the next epoch is current.

    Raises
    ------
    UserError : the loss is not finite
    Stopped : a stop was asked for; the state is saved
    """
    batches = draw_batches(training)
    with training.watch.checking():
        train_epoch(training, batches)
    begun = time.monotonic()
    if not training.position.seen:
        raise StoreError(f"{training.store.path}: none of its training samples can be read; build it again")
    training.team.share_buffers(training.detector.network)
    logits, rows = validate(training, training.detector, training.rows.val)
    row = _judge_epoch(training, batches, logits, rows)
    row["seconds"] = round(training.position.seconds + time.monotonic() - begun, 3)
    row["waited"] = round(training.position.waited / max(row["seconds"], 1e-3), 4)
    to_stop = is_to_stop(training)
    _finish_epoch(training, row, logits, rows)
    if to_stop and not training.position.ended:
        raise describe_stop(training, f"after epoch {row['epoch']}")


def _judge_epoch(training: Training, batches: list[np.ndarray], logits: np.ndarray, rows: np.ndarray) -> dict:
    """The epoch's row of the history, but for its seconds."""
    position, steps = training.position, len(batches)
    penalty = training.settings.source_penalty or 0.0
    found = measure_logits(logits, training.labels[rows], training.sources[rows], penalty)
    return {
        "epoch": position.epoch,
        "learning_rate": learning_rate(position.epoch * steps - 1, steps, training.settings),
        "train_loss": position.loss_sum / position.seen,
        "train_accuracy": position.correct / position.seen,
        **found,
    }


def _finish_epoch(training: Training, row: dict, logits: np.ndarray, rows: np.ndarray) -> None:
    """Take up the epoch and write it; the state comes last, as it says that the rest is there."""
    settings, position, folder = training.settings, training.position, training.folder
    history = [*position.history, row]
    training.detector.calibration = calibrate(training, logits, rows)
    is_best = choose_epoch(history, settings.keep) is row
    best_epoch = position.epoch if is_best else position.best_epoch
    ended = tell_end(position.epoch, best_epoch, settings)
    if training.team.leads:
        save_weights(training.detector, folder, LAST)
        if is_best:
            save_weights(training.detector, folder, BEST)
            write_best(folder, judge_best(row, logits, training.labels[rows], training.detector.calibration))
    if ended:
        calibrate_kept(training, is_best)
    # Only now: a run that is stopped meanwhile validates this epoch again.
    position.history, position.best_epoch, position.ended = history, best_epoch, ended
    position.begin_next_epoch()
    if not training.team.leads:
        return
    write_history(folder, position.history)
    write_events(folder, row)
    if position.ended or row["seconds"] > _WORTH_DRAWING:
        with whole_file(folder / CURVES) as temporary:
            draw_curves(position.history, read_best(folder), temporary, folder.name)
    save(training)
    _report_epoch(row, settings.epochs, is_best and settings.keep == "best")


def _report_epoch(row: dict, epochs: int, is_best: bool) -> None:
    click.echo(
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"training: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.1%}  "
        f"validation: loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}  "
        f"{row['seconds']:.1f} s{'  best' if is_best else ''}",
        err=True,
    )
