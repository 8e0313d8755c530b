"""Marker of simulated pictures: a file in the folder of their set, for programs and people."""

from pathlib import Path

from data_cards.archives.place import is_file

SIMULATION_MARKER = "SIMULATED.json"
SIMULATION_NOTICE = "simulation: made-up sample pictures; these scores say nothing about real ones"


def find_marker(path: Path | str) -> Path | None:
    """Find the marker of the simulated set that a file or folder belongs to; None if there is none."""
    path = Path(path).resolve()
    markers = (folder / SIMULATION_MARKER for folder in (path, *path.parents))
    return next((marker for marker in markers if is_file(marker)), None)


def is_simulated(path: Path | str) -> bool:
    """Return whether a file or folder belongs to a simulated set."""
    return find_marker(path) is not None
