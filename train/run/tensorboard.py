"""TensorBoard events of a run's history, if the extra "tensorboard" is installed."""

from importlib.util import find_spec
from pathlib import Path

from data_cards.core.labels import TRAIN, VAL

EVENTS = "events"  # subfolder of a run folder


def has_tensorboard() -> bool:
    """Return whether the library that writes events is installed."""
    return find_spec("tensorboardX") is not None


def write_events(folder: Path, row: dict) -> None:
    """Add an epoch to the events of a run; without the library write nothing.

    Parameters
    ----------
    folder : of the run
    row : of the history; its epoch is the step, all else a scalar
    """
    if not has_tensorboard():
        return
    from tensorboardX import SummaryWriter

    # One file an epoch, so that a run can be resumed after any stop; TensorBoard reads them all.
    with SummaryWriter(str(folder / EVENTS), filename_suffix=f".epoch-{row['epoch']}", flush_secs=1) as writer:
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(_tag(name), value, row["epoch"])


def _tag(name: str) -> str:
    """Format a tag that groups the curves of a quantity: loss/train and loss/val."""
    split, _, what = name.partition("_")
    return f"{what}/{split}" if split in (TRAIN, VAL) else name
