"""Record of the best epoch on the validation rows: confusion and calibration, as JSON in the run folder."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import DAMAGE, UserError
from data_cards.core.files import write_json
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.value_types import check_types
from train.model.calibration import Calibration

BEST_EPOCH_FILE = "best.json"


@dataclass(frozen=True)
class BestEpoch:
    """The best epoch of a run so far.

    Attributes
    ----------
    epoch : int, from 1
    val_loss, val_accuracy : float, as in the history; the accuracy is that of uncalibrated scores at 0.5
    confusion : number of validation rows by true class and by predicted class at the calibrated threshold
    calibration : Calibration, fitted on the same rows
    experts_loss, experts_accuracy : float or None, of a finished run's experts without the network, in nats and 0 to
        1, on the sources (or pictures) that a fit left out; None without experts, or in runs of older versions
    """

    epoch: int
    val_loss: float
    val_accuracy: float
    confusion: dict[str, dict[str, int]]
    calibration: Calibration
    experts_loss: float | None = None
    experts_accuracy: float | None = None


def compute_confusion(logits: np.ndarray, labels: np.ndarray, calibration: Calibration) -> dict[str, dict[str, int]]:
    """Count rows by true class and by predicted class at the calibration's threshold."""
    called = calibration.is_fake(calibration.probability(logits)).astype(int)
    return {
        true: {name: int(np.sum((labels == label) & (called == other))) for other, name in enumerate(CLASS_NAMES)}
        for label, true in enumerate(CLASS_NAMES)
    }


def compute_best_epoch(row: dict, logits: np.ndarray, labels: np.ndarray, calibration: Calibration) -> BestEpoch:
    """Compute the best epoch's record from its row of the history and its validation logits."""
    confusion = compute_confusion(logits, labels, calibration)
    return BestEpoch(row["epoch"], row["val_loss"], row["val_accuracy"], confusion, calibration)


def write_best_epoch(folder: Path, best: BestEpoch) -> None:
    """Write the record as `best.json`."""
    write_json(folder / BEST_EPOCH_FILE, asdict(best))


def read_best_epoch(folder: Path) -> BestEpoch:
    """Read the record of `write_best_epoch`.

    Raises
    ------
    UserError : the file is missing or damaged
    """
    file = folder / BEST_EPOCH_FILE
    try:
        record = read_json(folder, BEST_EPOCH_FILE)
        record["calibration"] = Calibration(**record["calibration"])
        check_types(BestEpoch, record)
        counts = [[record["confusion"][true][called] for called in CLASS_NAMES] for true in CLASS_NAMES]
        if not all(type(count) is int and count >= 0 for row in counts for count in row):
            raise ValueError(f"counts {counts}")
        return BestEpoch(**record)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; the run is incomplete, train it again") from error
    except DAMAGE as error:
        raise UserError(f"{file}: damaged ({error!r}); train it again") from error
