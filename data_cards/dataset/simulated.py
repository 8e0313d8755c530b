"""Whether pictures are simulated: a set of them has a file that says so, for programs and people."""

from pathlib import Path

SIMULATION_MARKER = "SIMULATED.json"
SIMULATION_NOTICE = "simulation: made-up sample pictures; these scores say nothing about real ones"


def find_marker(path: Path | str) -> Path | None:
    """The marker of the simulated set that a file or folder is, or lies in; None where there is none."""
    path = Path(path).resolve()
    markers = (folder / SIMULATION_MARKER for folder in (path, *path.parents))
    return next((marker for marker in markers if marker.is_file()), None)


def is_simulated(path: Path | str) -> bool:
    """Whether a file or folder is, or lies in, a simulated set."""
    return find_marker(path) is not None
