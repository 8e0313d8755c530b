"""Scores of the validation rows, and the calibration that is chosen on them."""

import copy
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from data_cards.core.console import progress
from data_cards.core.errors import StoreError
from data_cards.core.labels import CLASS_NAMES
from train.loop.context import Training, describe_loss, describe_stop, note_skipped, save
from train.model.calibration import Calibration, fit_calibration
from train.model.detector import Detector
from train.model.inference import iterate_logits
from train.recipe.vrex import measure_spread
from train.run.best_epoch import count_confusion, read_best, write_best
from train.run.checkpoint import BEST, LAST, read_weights, save_weights


def validate(training: Training, detector: Detector, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits, float64 (N, 2), of the rows that can be read, and these; each process of the team scores its part.

    Raises
    ------
    StoreError : of a class not a single row can be read, or the store has changed
    UserError : logits are not finite
    Stopped : a stop was asked for; the state is saved, and all steps of the epoch are done
    """
    settings, team = training.settings, training.team
    part = team.part(rows)
    skipped = set() if settings.on_bad_sample == "skip" else None
    parts = [np.zeros((0, len(CLASS_NAMES)))]
    with (
        training.watch.checking(),
        closing(iterate_logits(detector, training.reader, part, settings.batch_size, skipped)) as scoring,
        progress(what="validation", unit="samples", total=len(part)) as bar,
    ):
        bar.leave = False
        for logits in scoring:
            parts.append(logits)
            bar.update(len(logits))
            if team.size == 1 and training.stop.received is not None:
                save(training)  # resuming validates first
                raise describe_stop(training, f"in the validation of epoch {training.position.epoch}")
    kept = ~np.isin(part, sorted(skipped or ()))
    note_skipped(training, part[~kept])
    scored = team.gather((np.concatenate(parts)[kept], part[kept]))
    logits, rows = (np.concatenate(values) for values in zip(*scored, strict=True))
    for label, name in enumerate(CLASS_NAMES):
        if label not in training.labels[rows]:
            raise StoreError(f"{training.store.path}: no {name} validation sample can be read; build it again")
    bad = ~np.isfinite(logits).all(axis=1)
    if bad.any():
        raise describe_loss(training, float("nan"), "validation", rows[bad])
    return logits, rows


def measure_logits(
    logits: np.ndarray, labels: np.ndarray, sources: np.ndarray, penalty: float = 0.0
) -> dict[str, float]:
    """The history's figures of a validation, of uncalibrated logits (N, 2).

    `val_loss` is the mean cross-entropy in nats, without smoothing; to `val_objective` a source penalty is added as
    in training: what is trained for is what the best epoch is chosen by.
    """
    losses = functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels), reduction="none").numpy()
    loss = float(losses.mean())
    return {
        "val_loss": loss,
        "val_objective": loss + (penalty * float(measure_spread(losses, sources)) if penalty else 0.0),
        "val_accuracy": float((logits.argmax(axis=1) == labels).mean()),
    }


def calibrate(training: Training, logits: np.ndarray, rows: np.ndarray) -> Calibration:
    """The calibration that these validation rows give; see `fit_calibration`."""
    pictures = training.store.columns["picture"][rows]
    return fit_calibration(logits, training.labels[rows], training.sources[rows], pictures)


def calibrate_kept(training: Training, of_last: bool) -> None:
    """Calibrate the kept weights anew, on all variants of the validation pictures, and write that.

    An epoch is judged by one variant of each, as it trains on one.

    Parameters
    ----------
    of_last : whether the weights that are kept are those of the last epoch
    """
    folder, rows, detector = training.folder, training.rows, training.detector
    if len(rows.calibration) == len(rows.val):
        return
    if not of_last:
        detector = copy.deepcopy(detector)
        detector.load_state_dict(training.team.lead(lambda: read_weights(folder, BEST)))
    logits, scored = validate(training, detector, rows.calibration)
    detector.calibration = calibrate(training, logits, scored)
    if not training.team.leads:
        return
    confusion = count_confusion(logits, training.labels[scored], detector.calibration)
    save_weights(detector, folder, BEST)
    if of_last:
        save_weights(detector, folder, LAST)
    write_best(folder, replace(read_best(folder), confusion=confusion, calibration=detector.calibration))
