"""Scores of the validation rows, and the calibration that is fitted to them."""

import copy
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from data_cards.core.console import progress_bar
from data_cards.core.errors import StoreError
from data_cards.core.labels import CLASS_NAMES
from train.data.row_selection import format_single_sources
from train.loop.context import TrainContext, loss_error, record_skipped, save_context, stop_error
from train.loop.experts import weigh_network
from train.model.calibration import Calibration, fit_calibration
from train.model.inference import iterate_logits
from train.model.plane_detector import PlaneDetector
from train.run.best_epoch import compute_confusion, read_best_epoch, write_best_epoch
from train.run.checkpoint import read_weights, save_weights
from train.run.weights_file import BEST, LAST


def validate(
    context: TrainContext, detector: PlaneDetector, rows: np.ndarray, bar: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """Score rows, each process its part, and return the logits and the rows that could be read.

    Parameters
    ----------
    bar : the progress bar to which the process's part of the rows is added

    Returns
    -------
    logits : ndarray of float64, shape (n, 2)
    rows : ndarray of int64, shape (n,)

    Raises
    ------
    StoreError : no row of a class can be read, or the store has changed
    UserError : logits are not finite
    Stopped : a stop was requested; the state is saved, and all steps of the epoch are done
    """
    settings, group = context.settings, context.group
    part = group.local_part(rows)
    skipped = set() if settings.on_bad_sample == "skip" else None
    parts = [np.zeros((0, len(CLASS_NAMES)))]
    with (
        context.store_changes.checking(),
        closing(iterate_logits(detector, context.loader, part, settings.batch_size, skipped)) as scoring,
    ):
        for logits in scoring:
            parts.append(logits)
            bar.update(len(logits))
            if group.size == 1 and context.stop.received is not None:
                save_context(context)  # resuming validates first
                raise stop_error(context, f"in the validation of epoch {context.position.epoch}")
    kept = ~np.isin(part, sorted(skipped or ()))
    record_skipped(context, part[~kept])
    scored = group.all_gather((np.concatenate(parts)[kept], part[kept]))
    logits, rows = (np.concatenate(values) for values in zip(*scored, strict=True))
    for label, name in enumerate(CLASS_NAMES):
        if label not in context.labels[rows]:
            raise StoreError(f"{context.store.path}: no {name} validation sample can be read; build the store again")
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise loss_error(context, float("nan"), "validation", rows[bad])
    return logits, rows


def compute_validation_metrics(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Compute the validation columns of the history from uncalibrated logits.

    `val_loss` is the mean cross-entropy in nats, without smoothing.

    Parameters
    ----------
    logits : ndarray of float64, shape (n, 2)
    labels : ndarray of int64, shape (n,)
    """
    return {
        "val_loss": float(functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))),
        "val_accuracy": float((logits.argmax(axis=1) == labels).mean()),
    }


def calibrate(context: TrainContext, logits: np.ndarray, rows: np.ndarray) -> Calibration:
    """Fit a calibration to the logits of validation rows; see `fit_calibration`.

    It allows no sure verdict if a class had one source in training: the network may recognise that collection.
    """
    pictures = context.store.columns["picture"][rows]
    fitted = fit_calibration(logits, context.labels[rows], context.sources[rows], pictures)
    return fitted.to_always_unsure() if format_single_sources(context.store, context.rows.train) else fitted


def is_recalibrated(context: TrainContext) -> bool:
    """Return whether a run ends with `recalibrate_kept` scoring rows."""
    return context.settings.has_experts or len(context.rows.calibration) != len(context.rows.val)


def recalibrate_kept(context: TrainContext, of_last: bool) -> None:
    """Calibrate the kept weights on all variants of the validation pictures, and write the result.

    Beside experts the network's weight is fitted to the same scores. Each epoch is validated on one variant of each
    picture, as it trains on one.

    Parameters
    ----------
    of_last : whether the kept weights are those of the last epoch
    """
    folder, rows, detector = context.folder, context.rows, context.detector
    if not is_recalibrated(context):
        return
    if not of_last:
        detector = copy.deepcopy(detector)
        detector.load_state_dict(context.group.on_rank0(lambda: read_weights(detector, folder, BEST)))
    count = len(context.group.local_part(rows.calibration))
    with progress_bar(what="calibration", unit="samples", total=count) as bar:
        bar.leave = False
        logits, scored = validate(context, detector, rows.calibration, bar)
    detector.calibration = calibrate(context, logits, scored)
    if not context.group.is_rank0:
        return
    confusion = compute_confusion(logits, context.labels[scored], detector.calibration)
    save_weights(detector, folder, BEST)
    if of_last:
        save_weights(detector, folder, LAST)
    loss, accuracy = None, None
    if context.settings.has_experts:
        loss, accuracy = weigh_network(folder, context.settings, context.store, rows.train, scored, logits)
    results = {"confusion": confusion, "calibration": detector.calibration}
    results |= {"experts_loss": loss, "experts_accuracy": accuracy}
    write_best_epoch(folder, replace(read_best_epoch(folder), **results))
