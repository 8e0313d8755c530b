"""The summary at the end of a run, whether it finished, was stopped or failed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from train.loop.context import TrainContext
from train.loop.signals import Stopped
from train.loop.step import sample_batches
from train.model.device import name_device, name_precision
from train.run.best_epoch import read_best_epoch
from train.run.experts_file import load_experts
from train.run.history import choose_epoch, compute_waited_share
from train.run.summary import FAILED, FINISHED, INTERRUPTED, STOPPED_EARLY, Summary, read_summary, write_summary


def write_final_summary(context: TrainContext) -> Summary:
    """Write and return the summary of a run that came to its end, unless an earlier call wrote it."""
    folder, position = context.folder, context.position
    known = read_summary(folder)
    if known is not None and known.state in (FINISHED, STOPPED_EARLY):
        return known
    summary = replace(
        compute_summary(
            context, STOPPED_EARLY if position.epoch <= context.settings.epochs else FINISHED, position.ended
        ),
        **_read_results(context),
    )
    write_summary(summary)
    return summary


def _read_results(context: TrainContext) -> dict:
    """Return the fields of the summary that only the end of a run determines."""
    best = read_best_epoch(context.folder)
    if not context.settings.has_experts:
        return {"calibration": best.calibration}
    experts = load_experts(context.folder)
    return {
        "calibration": experts.calibration,
        "network_weight": experts.network_weight,
        "experts_loss": best.experts_loss,
        "experts_accuracy": best.experts_accuracy,
    }


@contextmanager
def recording_end(folder: Path, compute: Callable[[str, str], Summary], writes: bool = True) -> Iterator[None]:
    """Write a summary if an error or a stop ends the block.

    Parameters
    ----------
    compute : callable(state, ended) that returns the summary of the run in this state
    writes : whether this process is the one that writes
    """
    try:
        yield
    except Exception as error:
        state = INTERRUPTED if isinstance(error, Stopped) else FAILED
        why = str(error).removeprefix(f"{folder}: ") or type(error).__name__
        if writes:
            with suppress(OSError):  # which may be the error itself
                write_summary(compute(state, why))
        raise


def compute_summary(context: TrainContext, state: str, ended: str) -> Summary:
    """Return the summary of a run in its present state."""
    position = context.position
    best = choose_epoch(position.history, context.settings.keep) if position.history else {}
    seconds = sum(row["seconds"] for row in position.history)
    return Summary(
        run=context.folder,
        state=state,
        ended=ended,
        epochs=len(position.history),
        best_epoch=best.get("epoch"),
        val_loss=best.get("val_loss"),
        val_accuracy=best.get("val_accuracy"),
        skipped=len(position.skipped),
        seconds=round(seconds + position.seconds, 3),
        samples_per_second=round(len(position.history) * _count_samples(context) / seconds, 1) if seconds else None,
        waited=compute_waited_share(position.history),
        device=context.device.type,
        device_name=name_device(context.device),
        processes=context.group.size,
        precision=name_precision(context.precision),
    )


def _count_samples(context: TrainContext) -> int:
    """Return how many samples an epoch trains and validates on."""
    return sum(map(len, sample_batches(context))) + len(context.rows.val)
