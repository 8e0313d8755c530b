"""Kind of thing at a path, for errors about a path of the wrong kind."""

from enum import StrEnum
from pathlib import Path
from shlex import quote

from data_cards.core.files import PARTIAL, RUN_HISTORY, RUN_SETTINGS, RUN_SUMMARY, ZARR_METADATA


class Kind(StrEnum):
    """Kinds of things at a path, in words."""

    FILE = "a file"
    STORE = "a feature store"
    UNFINISHED = "a feature store whose build is not finished"
    RUN = "a run of `train run`"
    EMPTY = "an empty folder"
    FOLDER = "a folder"


# What reads a thing.
_USES = {
    Kind.FILE: "`predict {0}` judges a picture",
    Kind.STORE: "`train run --store {0}` trains on it, `report --store {0}` scores its pictures",
    Kind.UNFINISHED: "`pipeline inspect {0}` shows its progress",
    Kind.RUN: "`report --run {0}` scores it, `predict --run {0} PICTURE` judges pictures with it",
    Kind.FOLDER: "`predict {0}` judges pictures, `pipeline build --src {0}` makes a feature store of them",
}


def find_kind(path: Path) -> Kind:
    """Return what is at an existing path, or at the name of an unfinished store.

    A folder that cannot be read is a `FOLDER`, whose reader says so.
    """
    try:
        return _find_kind(path)
    except PermissionError:
        return Kind.FOLDER


def is_unfinished(path: Path) -> bool:
    """Return whether an unfinished store is at a path, or has this name without its ending."""
    if not path.name.endswith(PARTIAL):
        return not path.exists() and is_unfinished(path.with_name(path.name + PARTIAL))
    return (path / ZARR_METADATA).exists()


def format_progress(path: Path) -> str:
    """Format the command that shows the progress of an unfinished store."""
    return format_use(Kind.UNFINISHED, path)


def format_use(kind: Kind, path: Path) -> str:
    """Format the commands that read a thing of any kind but an empty folder."""
    return _USES[kind].format(quote(str(path).removesuffix(PARTIAL) if kind is Kind.UNFINISHED else str(path)))


def _find_kind(path: Path) -> Kind:
    if is_unfinished(path):
        return Kind.UNFINISHED
    if not path.is_dir():
        return Kind.FILE
    if (path / ZARR_METADATA).exists():
        return Kind.STORE
    # Other programs write files of these names, too; a run has at least two of them.
    if sum((path / name).exists() for name in (RUN_SETTINGS, RUN_HISTORY, RUN_SUMMARY)) > 1:
        return Kind.RUN
    return Kind.FOLDER if any(path.iterdir()) else Kind.EMPTY
