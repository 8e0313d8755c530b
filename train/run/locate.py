"""Lookup of a run: the named one, the newest under `runs/`, or the starter run of the program."""

from pathlib import Path

from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SETTINGS
from train.run.folder import Run, find_newest_run, open_run

# Trained on the pictures that its data card names; its folder is the program's own, and nothing is written into it.
STARTER = Path(__file__).parents[1] / "starter"
STARTER_NAME = "starter"
STARTER_NOTE = "no usable run under runs/: the starter run that comes with this program is used"


def find_run(path: str | Path | None) -> Run:
    """Open the run of that folder; None opens the newest usable one under `runs/`, else the starter run.

    Raises
    ------
    UserError : no such run, or none at all
    """
    if path is not None:
        return open_run(path)
    try:
        newest = find_newest_run()
    except UserError:
        if not (STARTER / RUN_SETTINGS).is_file():
            raise
        newest = STARTER
    return open_run(newest)


def is_starter(run: Run) -> bool:
    """Return whether a run is the starter run."""
    return run.path.resolve() == STARTER.resolve()


def name_run(run: Run) -> str:
    """Return the path of a run as it was given, or "starter"."""
    return STARTER_NAME if is_starter(run) else str(run.path)
