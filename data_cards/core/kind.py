"""Kind of thing at a path, for errors about a path of the wrong kind."""

from enum import StrEnum
from pathlib import Path

from data_cards.core.files import RUN_HISTORY, RUN_SETTINGS, RUN_SUMMARY, ZARR_METADATA


class Kind(StrEnum):
    """Kinds of things at a path, in words."""

    FILE = "a file"
    STORE = "a feature store"
    RUN = "a run of `train run`"
    EMPTY = "an empty folder"
    FOLDER = "a folder"


def find_kind(path: Path) -> Kind:
    """Return what is at an existing path; a folder that cannot be read is a `FOLDER`, whose reader says so."""
    try:
        return _find_kind(path)
    except PermissionError:
        return Kind.FOLDER


def _find_kind(path: Path) -> Kind:
    if not path.is_dir():
        return Kind.FILE
    if (path / ZARR_METADATA).exists():
        return Kind.STORE
    # Other programs write files of these names, too; a run has at least two of them.
    if sum((path / name).exists() for name in (RUN_SETTINGS, RUN_HISTORY, RUN_SUMMARY)) > 1:
        return Kind.RUN
    return Kind.FOLDER if any(path.iterdir()) else Kind.EMPTY
