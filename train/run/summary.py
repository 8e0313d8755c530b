"""How a run ended and what it was trained with: told by `train run`, and kept as `summary.json` in its folder.

There is none while a run trains, nor after it was killed.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data_cards.core.files import write_json
from train.model.calibration import Calibration

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

    def to_dict(self) -> dict:
        """Plain values."""
        return {**asdict(self), "run": str(self.run)}


def delete_summary(folder: Path) -> None:
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


def write_summary(summary: Summary) -> None:
    """Write it into the run's folder."""
    write_json(summary.run / SUMMARY, summary.to_dict())
