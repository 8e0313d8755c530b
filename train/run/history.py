"""History of a run's epochs, as CSV in its folder.

Losses are in nats, accuracies 0 to 1; `waited` is the share of `seconds` in which steps waited for data.
"""

import csv
import io
from pathlib import Path

from data_cards.core.contained import read_contained
from data_cards.core.files import RUN_HISTORY, whole_file
from train.settings import TrainSettings

_MOST_BYTES = 2**24  # a hundred thousand epochs
HISTORY_COLUMNS = (
    "epoch", "learning_rate", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "seconds", "waited",
)  # fmt: skip


def format_end_reason(epochs: int, best_epoch: int, settings: TrainSettings, prolonged: int = 0) -> str:
    """Format why a run ends after `epochs` epochs; "" if it continues. Patience counts from epoch `prolonged` on."""
    if epochs >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    if 0 < settings.patience <= epochs - max(best_epoch, prolonged):
        return f"validation loss no better for {settings.patience} epochs"
    return ""


def choose_epoch(history: list[dict], keep: str) -> dict:
    """Choose the epoch whose weights a run keeps: the last, or the first with the lowest validation loss."""
    return history[-1] if keep == "last" else min(history, key=lambda row: row["val_loss"])


def compute_waited_share(history: list[dict]) -> float:
    """Compute the share of a run's time in which its steps waited for data, 0 to 1."""
    seconds = sum(row["seconds"] for row in history)
    return sum(row["seconds"] * row["waited"] for row in history) / seconds if seconds else 0.0


def write_history(folder: Path, history: list[dict]) -> None:
    """Write the history as CSV, one row an epoch."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, HISTORY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with whole_file(folder / RUN_HISTORY) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def read_history(folder: Path) -> list[dict]:
    """Read the history: one dict an epoch, with `HISTORY_COLUMNS` as keys; empty before the first epoch's end.

    Raises
    ------
    ValueError, KeyError, TypeError : the file is damaged
    """
    file = folder / RUN_HISTORY
    if not file.exists():
        return []
    text = read_contained(folder, RUN_HISTORY, _MOST_BYTES).decode("utf-8")
    try:
        return [
            {name: int(row[name]) if name == "epoch" else float(row[name]) for name in HISTORY_COLUMNS}
            for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
    except csv.Error as error:
        raise ValueError(f"{RUN_HISTORY}: {error}") from error
