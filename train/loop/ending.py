"""The end of a run, whether it finished, was stopped or failed: its summary is made and written."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from train.loop.context import Training
from train.loop.signals import Stopped
from train.loop.step import draw_batches
from train.model.device import name_device, name_precision
from train.run.best_epoch import read_best
from train.run.history import choose_epoch, share_waited
from train.run.summary import FAILED, FINISHED, INTERRUPTED, STOPPED_EARLY, Summary, read_summary, write_summary


def sum_up(training: Training) -> Summary:
    """The summary of a run that came to its end; it is written, unless it has been."""
    folder, position = training.folder, training.position
    known = read_summary(folder)
    if known is not None and known.state in (FINISHED, STOPPED_EARLY):
        return known
    summary = replace(
        _summarise(training, STOPPED_EARLY if position.epoch <= training.settings.epochs else FINISHED, position.ended),
        calibration=read_best(folder).calibration,
    )
    write_summary(summary)
    return summary


@contextmanager
def recording_end(training: Training) -> Iterator[None]:
    """Write a summary if an error or a stop ends the work within it."""
    try:
        yield
    except Exception as error:
        state = INTERRUPTED if isinstance(error, Stopped) else FAILED
        why = str(error).removeprefix(f"{training.folder}: ") or type(error).__name__
        if training.team.leads:
            with suppress(OSError):  # which may be the error itself
                write_summary(_summarise(training, state, why))
        raise


def _summarise(training: Training, state: str, ended: str) -> Summary:
    """The summary of a run as it stands."""
    position = training.position
    best = choose_epoch(position.history, training.settings.keep) if position.history else {}
    seconds = sum(row["seconds"] for row in position.history)
    return Summary(
        run=training.folder,
        state=state,
        ended=ended,
        epochs=len(position.history),
        best_epoch=best.get("epoch"),
        val_loss=best.get("val_loss"),
        val_accuracy=best.get("val_accuracy"),
        skipped=len(position.skipped),
        seconds=round(seconds + position.seconds, 3),
        samples_per_second=round(len(position.history) * _count_samples(training) / seconds, 1) if seconds else None,
        waited=share_waited(position.history),
        device=training.device.type,
        device_name=name_device(training.device),
        processes=training.team.size,
        precision=name_precision(training.precision),
    )


def _count_samples(training: Training) -> int:
    """How many samples an epoch trains and validates on."""
    return sum(map(len, draw_batches(training))) + len(training.rows.val)
