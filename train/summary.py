"""How a run ended and what it was trained with: told by `train run`, and kept as `summary.json` in its folder.

There is none while a run trains, nor after it was killed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_cards.files import write_json
from train.best import read_best
from train.calibrate import Calibration
from train.device import name_device, name_precision
from train.history import choose_epoch, share_waited
from train.steps import draw_batches
from train.stopping import Stopped
from train.training import Training

SUMMARY = "summary.json"
FINISHED, STOPPED_EARLY, INTERRUPTED, FAILED = "finished", "stopped early", "interrupted", "failed"


@dataclass(frozen=True)
class Summary:
    """How a run ended; what is not known is None.

    Attributes
    ----------
    run : its folder
    state : "finished" or "stopped early", "interrupted" where it can go on, "failed" at an error
    ended : the same in words
    epochs : finished
    best_epoch : whose weights are kept: with the lowest validation loss, unless the settings keep the last
    val_loss, val_accuracy : of the best epoch, in nats and 0 to 1
    skipped : samples that could not be read and were left out
    seconds : in which it trained and validated
    samples_per_second : trained and validated on, over its finished epochs
    waited : share of the time in which steps waited for data, 0 to 1
    device, device_name, processes, precision : that it was trained with last, such as "cuda", its model, 1, "bf16"
    calibration : how its logits are read; of a run that came to its end
    """

    run: Path
    state: str
    ended: str
    epochs: int
    best_epoch: int | None
    val_loss: float | None
    val_accuracy: float | None
    skipped: int
    seconds: float
    samples_per_second: float | None
    waited: float
    device: str
    device_name: str
    processes: int
    precision: str
    calibration: Calibration | None = None

    def as_json(self) -> dict:
        """Plain values."""
        return {**asdict(self), "run": str(self.run)}


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
    _write_summary(summary)
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
                _write_summary(_summarise(training, state, why))
        raise


def forget_summary(folder: Path) -> None:
    """Take away the summary of an earlier end, as the run goes on."""
    (folder / SUMMARY).unlink(missing_ok=True)


def read_summary(folder: Path) -> Summary | None:
    """Read it again; None where there is none, or a damaged one."""
    try:
        record = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        if record["calibration"] is not None:
            record["calibration"] = Calibration(**record["calibration"])
        record.pop("payback", None)  # of runs of an earlier version
        return Summary(**{**record, "run": folder})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _write_summary(summary: Summary) -> None:
    write_json(summary.run / SUMMARY, summary.as_json())


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
