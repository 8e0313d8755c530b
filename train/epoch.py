"""One epoch: its steps, its validation, and what is written after it."""

import math
import time
from contextlib import closing

import click
import numpy as np

from data_cards.console import progress
from data_cards.errors import StoreError
from pipeline.store import CLASS_NAMES
from train.best import judge_best, measure_logits, read_best, write_best
from train.calibrate import fit_calibration
from train.checkpoint import BEST, LAST, save_weights
from train.curves import draw_curves
from train.events import write_events
from train.files import whole_file
from train.history import choose_epoch, tell_end, write_history
from train.optimise import learning_rate
from train.predict import iterate_logits
from train.run_folder import CURVES
from train.steps import draw_batches, train_epoch
from train.training import Training, describe_loss, describe_stop, is_to_stop, note_skipped, save

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
    with training.watch.checking():
        logits, rows = _validate(training)
    labels = training.labels[rows]
    row = _judge_epoch(training, batches, logits, rows)
    row["seconds"] = round(training.position.seconds + time.monotonic() - begun, 3)
    row["waited"] = round(training.position.waited / max(row["seconds"], 1e-3), 4)
    to_stop = is_to_stop(training)
    _finish_epoch(training, row, logits, labels)
    if to_stop and not training.position.ended:
        raise describe_stop(training, f"after epoch {row['epoch']}")


def _judge_epoch(training: Training, batches: list[np.ndarray], logits: np.ndarray, rows: np.ndarray) -> dict:
    """The epoch's row of the history, but for its seconds."""
    position, steps = training.position, len(batches)
    penalty = training.settings.source_penalty or 0.0
    val_loss, val_accuracy = measure_logits(logits, training.labels[rows], training.sources[rows], penalty)
    if not math.isfinite(val_loss):
        raise describe_loss(training, val_loss, "validation", np.array([], dtype=np.int64))
    return {
        "epoch": position.epoch,
        "learning_rate": learning_rate(position.epoch * steps - 1, steps, training.settings),
        "train_loss": position.loss_sum / position.seen,
        "train_accuracy": position.correct / position.seen,
        "val_loss": val_loss,
        "val_accuracy": val_accuracy,
    }


def _finish_epoch(training: Training, row: dict, logits: np.ndarray, labels: np.ndarray) -> None:
    """Take up the epoch and write it; the state comes last, as it says that the rest is there."""
    settings, position, folder = training.settings, training.position, training.folder
    position.history.append(row)
    training.judged.calibration = fit_calibration(logits, labels)
    is_best = choose_epoch(position.history, settings.keep) is row
    if is_best:
        position.best_epoch = position.epoch
    position.ended = tell_end(position.epoch, position.best_epoch, settings)
    position.begin_next_epoch()
    if not training.team.leads:
        return
    save_weights(training.judged, folder, LAST)
    if is_best:
        save_weights(training.judged, folder, BEST)
        write_best(folder, judge_best(row, logits, labels, training.judged.calibration))
    write_history(folder, position.history)
    write_events(folder, row)
    if position.ended or row["seconds"] > _WORTH_DRAWING:
        with whole_file(folder / CURVES) as temporary:
            draw_curves(position.history, read_best(folder), temporary, folder.name)
    save(training)
    _report_epoch(row, settings.epochs, is_best and settings.keep == "best")


def _validate(training: Training) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float64 (N, 2), and rows of the validation; each process of the team scores its part of them."""
    settings, team = training.settings, training.team
    val = team.part(training.rows.val)
    skipped = set() if settings.on_bad_sample == "skip" else None
    parts = [np.zeros((0, len(CLASS_NAMES)))]
    with (
        closing(iterate_logits(training.judged, training.reader, val, settings.batch_size, skipped)) as scoring,
        progress(what="validation", unit="samples", total=len(val)) as bar,
    ):
        bar.leave = False
        for part in scoring:
            parts.append(part)
            bar.update(len(part))
            if team.size == 1 and training.stop.received is not None:
                save(training)  # all steps of the epoch are done; resuming validates first
                raise describe_stop(training, f"in the validation of epoch {training.position.epoch}")
    kept = ~np.isin(val, sorted(skipped or ()))
    note_skipped(training, val[~kept])
    scored = team.gather((np.concatenate(parts)[kept], val[kept]))
    logits, rows = (np.concatenate(values) for values in zip(*scored, strict=True))
    for label, name in enumerate(CLASS_NAMES):
        if label not in training.labels[rows]:
            raise StoreError(f"{training.store.path}: no {name} validation sample can be read; build it again")
    return logits, rows


def _report_epoch(row: dict, epochs: int, is_best: bool) -> None:
    click.echo(
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"training: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.1%}  "
        f"validation: loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}  "
        f"{row['seconds']:.1f} s{'  best' if is_best else ''}",
        err=True,
    )
