"""Summary of a run's end: printed by `train run`, and stored as `summary.json` in its folder.

The file is absent while a run trains and after it was killed.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import DAMAGE
from data_cards.core.files import RUN_SUMMARY, write_json
from data_cards.core.value_types import check_types
from train.model.calibration import Calibration
from train.run.reported_score import TEST_SCORE

FINISHED, STOPPED_EARLY, INTERRUPTED, FAILED = "finished", "stopped early", "interrupted", "failed"
UNFINISHED = "unfinished"  # without a summary: still training, or killed


@dataclass(frozen=True)
class Summary:
    """End of a run; unknown fields are None.

    Attributes
    ----------
    run : its folder
    state : "finished", "stopped early", "interrupted" if it can be resumed, or "failed" at an error
    ended : str, the reason
    epochs : int, finished
    best_epoch : whose weights are kept: with the lowest validation loss, unless the settings keep the last
    val_loss, val_accuracy : of the best epoch, in nats and 0 to 1
    skipped : int, samples that could not be read
    seconds : float, spent on training and validation
    samples_per_second : trained and validated on, over its finished epochs
    waited : share of the time in which steps waited for data, 0 to 1
    device, device_name, processes, precision : of the last training, such as "cuda", its model, 1, "bf16"
    calibration : Calibration of the logits, of a run that was finished
    network_weight : float, by which a network's log-odds count beside the experts'; of a finished run of both
    experts_loss, experts_accuracy : of such a run, the experts' without the network, as of `BestEpoch`
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
    network_weight: float | None = None
    experts_loss: float | None = None
    experts_accuracy: float | None = None

    def to_dict(self) -> dict:
        """Convert to plain values."""
        return {**asdict(self), "run": str(self.run)}


def delete_summary(folder: Path) -> None:
    """Delete the summary of an earlier end, and the score of its report, as the run is resumed."""
    for name in (RUN_SUMMARY, TEST_SCORE):
        (folder / name).unlink(missing_ok=True)


def read_summary(folder: Path) -> Summary | None:
    """Read the summary in a run's folder; None if it is missing or damaged."""
    try:
        record = read_json(folder, RUN_SUMMARY)
        if record["calibration"] is not None:
            record["calibration"] = Calibration(**record["calibration"])
        record.pop("payback", None)  # in older runs
        record["run"] = folder
        check_types(Summary, record)
        return Summary(**record)
    except (OSError, *DAMAGE):
        return None


def read_state(folder: Path) -> str:
    """Return the state of a run, as in its summary, or "unfinished"."""
    summary = read_summary(folder)
    return UNFINISHED if summary is None else summary.state


def write_summary(summary: Summary) -> None:
    """Write the summary into the run's folder."""
    write_json(summary.run / RUN_SUMMARY, summary.to_dict())
