"""A run's history as TensorBoard events, where the extra "tensorboard" is installed."""

from importlib.util import find_spec
from pathlib import Path

EVENTS = "events"  # the folder in a run's


def has_tensorboard() -> bool:
    """Whether the library that writes them is there."""
    return find_spec("tensorboardX") is not None


def write_events(folder: Path, row: dict) -> None:
    """Add an epoch to the events of a run; without the library nothing is written.

    Parameters
    ----------
    folder : of the run
    row : of the history; its epoch is the step, all else a scalar
    """
    if not has_tensorboard():
        return
    from tensorboardX import SummaryWriter

    # One file an epoch, so that one that is stopped at any moment can go on; TensorBoard reads them all.
    with SummaryWriter(str(folder / EVENTS), filename_suffix=f".epoch-{row['epoch']}", flush_secs=1) as writer:
        for name, value in row.items():
            if name != "epoch":
                writer.add_scalar(_tag(name), value, row["epoch"])


def _tag(name: str) -> str:
    """Curves of the same quantity side by side: loss/train and loss/val."""
    split, _, what = name.partition("_")
    return f"{what}/{split}" if split in ("train", "val") else name
