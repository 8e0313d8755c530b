"""Lookup of a run: the named one, the newest under `runs/`, or the starter run of the program."""

from contextlib import suppress
from pathlib import Path
from shlex import quote

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SETTINGS
from train.run.folder import RUNS, Run, find_newest_run, open_run, read_run
from train.run.summary import FINISHED, STOPPED_EARLY, read_state

# Trained on the pictures that its data card names; its folder is the program's own, and nothing is written into it.
STARTER = Path(__file__).parents[1] / "starter"
STARTER_NAME = "starter"
STARTER_SCORES = "scores.json"  # shortened reports on pictures that the starter run was not trained on


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


def format_unfinished(run: Run) -> str | None:
    """Format that a run has not come to its end, and how to finish it; None if it has."""
    if read_state(run.path) in (FINISHED, STOPPED_EARLY):
        return None
    done = f" ({len(run.history)} of {run.settings.epochs} epochs)" if run.settings.has_network else ""
    return (
        f"{run.path}: the run is unfinished{done}; unless it is still training, "
        f"`train run --resume --run {quote(str(run.path))}` finishes it"
    )


def list_unfinished() -> list[str]:
    """List the lines of `format_unfinished` of the runs under `runs/`."""
    lines = []
    for path in sorted(RUNS.glob(f"*/{RUN_SETTINGS}")):
        with suppress(UserError):  # damaged, or of an earlier version
            lines.append(format_unfinished(read_run(path.parent)))
    return [line for line in lines if line is not None]


def format_starter_use() -> str:
    """Format why the starter run is used, and how far to trust it."""
    return (
        f"no usable run under runs/, so the starter run that comes with this program is used; {format_starter_tests()}"
    )


def format_starter_tests() -> str:
    """Format how many of the starter run's sure verdicts on its test pictures were wrong."""
    verdicts = [scores["verdicts"] for scores in read_json(STARTER, STARTER_SCORES).values()]
    pictures, sure, wrong = (sum(one[name] for one in verdicts) for name in ("pictures", "sure", "wrong"))
    return f"in tests on {pictures} pictures of other sources, {wrong} of {sure} sure verdicts were wrong"
