"""One epoch: its steps, its validation, and the files that are written after it."""

import time

import numpy as np
from tqdm import tqdm

from data_cards.core.console import echo, progress_bar
from data_cards.core.errors import StoreError
from data_cards.core.files import whole_file
from train.loop.context import TrainContext, is_stop_requested, save_context, stop_error
from train.loop.step import sample_batches, train_epoch
from train.loop.validation import calibrate, compute_validation_metrics, recalibrate_kept, validate
from train.recipe.optimizer import learning_rate
from train.run.best_epoch import compute_best_epoch, read_best_epoch, write_best_epoch
from train.run.checkpoint import save_weights
from train.run.folder import CURVES
from train.run.history import choose_epoch, format_end_reason, write_history
from train.run.plot_history import plot_history
from train.run.tensorboard import write_events
from train.run.weights_file import BEST, LAST

_LONG_EPOCH = 10.0  # seconds of an epoch: plotting takes half a second, as long as the epochs of a small run


def run_epoch(context: TrainContext) -> None:
    """Train the rest of the current epoch, validate, write the results, and begin the next epoch.

    Raises
    ------
    UserError : the loss is not finite
    StoreError : no training sample can be read, or the store has changed
    Stopped : a stop was requested; the state is saved
    """
    batches = sample_batches(context)
    with _epoch_bar(context, batches) as bar:
        with context.store_changes.checking():
            train_epoch(context, batches, bar)
        begun = time.monotonic()
        if not context.position.seen:
            raise StoreError(f"{context.store.path}: none of its training samples can be read; build the store again")
        context.group.broadcast_buffers(context.detector.network)
        logits, rows = validate(context, context.detector, context.rows.val, bar)
    row = _compute_history_row(context, batches, logits, rows)
    row["seconds"] = round(context.position.seconds + time.monotonic() - begun, 3)
    row["waited"] = round(context.position.waited / max(row["seconds"], 1e-3), 4)
    stop_requested = is_stop_requested(context)
    _record_epoch(context, row, logits, rows)
    if stop_requested and not context.position.ended:
        raise stop_error(context, f"after epoch {row['epoch']}")


def _epoch_bar(context: TrainContext, batches: list[np.ndarray]) -> tqdm:
    """Return a progress bar of the samples that the epoch trains on and validates."""
    position = context.position
    total = sum(map(len, batches)) + len(context.group.local_part(context.rows.val))
    bar = progress_bar(what=f"epoch {position.epoch}/{context.settings.epochs}", unit="samples", total=total)
    bar.leave = False  # the epoch's line replaces it
    bar.n = bar.initial = position.seen  # of a resumed epoch, for a true rate
    return bar


def _compute_history_row(
    context: TrainContext, batches: list[np.ndarray], logits: np.ndarray, rows: np.ndarray
) -> dict:
    """Return the epoch's row of the history, except its seconds."""
    position, steps = context.position, len(batches)
    metrics = compute_validation_metrics(logits, context.labels[rows])
    return {
        "epoch": position.epoch,
        "learning_rate": learning_rate(position.epoch * steps - 1, steps, context.settings, position.prolonged),
        "train_loss": position.loss_sum / position.seen,
        "train_accuracy": position.correct / position.seen,
        **metrics,
    }


def _record_epoch(context: TrainContext, row: dict, logits: np.ndarray, rows: np.ndarray) -> None:
    """Write the results of an epoch; the state comes last, because it implies that the other files are written."""
    settings, position, folder = context.settings, context.position, context.folder
    history = [*position.history, row]
    context.detector.calibration = calibrate(context, logits, rows)
    is_best = choose_epoch(history, settings.keep) is row
    best_epoch = position.epoch if is_best else position.best_epoch
    ended = format_end_reason(position.epoch, best_epoch, settings, position.prolonged)
    if context.group.is_rank0:
        save_weights(context.detector, folder, LAST)
        if is_best:
            save_weights(context.detector, folder, BEST)
            write_best_epoch(
                folder, compute_best_epoch(row, logits, context.labels[rows], context.detector.calibration)
            )
    if ended:
        recalibrate_kept(context, is_best)
    # Only now: a run that is stopped before this line validates the epoch again.
    position.history, position.best_epoch, position.ended = history, best_epoch, ended
    position.begin_next_epoch()
    if not context.group.is_rank0:
        return
    write_history(folder, position.history)
    write_events(folder, row)
    if position.ended or row["seconds"] > _LONG_EPOCH:
        with whole_file(folder / CURVES) as temporary:
            plot_history(position.history, read_best_epoch(folder), temporary, folder.name)
    save_context(context)
    _print_epoch(row, settings.epochs, is_best and settings.keep == "best")


def _print_epoch(row: dict, epochs: int, is_best: bool) -> None:
    echo(
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"training: loss {row['train_loss']:.4f}, accuracy {row['train_accuracy']:.1%}  "
        f"validation: loss {row['val_loss']:.4f}, accuracy {row['val_accuracy']:.1%}  "
        f"{row['seconds']:.1f} s{'  best' if is_best else ''}",
        err=True,
    )
