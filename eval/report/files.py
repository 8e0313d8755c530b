"""Files of a report or comparison: their folder, their names, and writing them.

`report.html` is the report of a run on the test split of its own store. The name of another report names its split or
store, and a comparison of other runs gets a number: a report replaces only an earlier one on the same pictures.
"""

import json
import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePath

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import DAMAGE, UsageError
from data_cards.core.files import whole_file
from data_cards.core.kind import Kind, find_kind
from data_cards.core.labels import TEST
from train.run.folder import Run
from train.run.locate import is_starter

STARTER_REPORT = "starter-report"  # folder of the starter run's reports, in the current folder

_LONGEST = 60  # characters of a store's name


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes
    ----------
    contents : dict, all of the JSON file; `rows` holds each sample's own score
    json, html : Path of the two files
    """

    contents: dict
    json: Path
    html: Path


def choose_folder(run: Run, out: str | Path | None) -> Path:
    """Choose the folder of a report: `out`, else the run's folder; for the starter run, `STARTER_REPORT`."""
    if out is not None:
        return Path(out)
    return Path(STARTER_REPORT) if is_starter(run) else run.path


def create_folder(path: Path) -> Path:
    """Create the folder of a report if it does not exist; return it."""
    if (kind := find_kind(path)) in (Kind.STORE, Kind.UNFINISHED):
        raise UsageError(f"{path}: is {kind}; --out needs a folder for the report; give a store as --store")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path}: is a file, or is below a file; --out needs a folder") from error
    return path


def write_report(contents: dict, html: str, folder: Path, kind: str, split: str, other_store: str | None) -> Report:
    """Write the two files of a report, both or none.

    Parameters
    ----------
    contents, html : of the JSON file and of the page
    folder : must exist
    kind : {"report", "comparison"}
    split : of the pictures
    other_store : path of the store if it is not the one that each run was trained on, else None
    """
    # NaN is not valid JSON: an undefined score must be None with a reason.
    text = json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    name = _choose_name(contents, folder, kind, split, other_store)
    report = Report(contents, folder / f"{name}.json", folder / f"{name}.html")
    with whole_file(report.json) as json_file, whole_file(report.html) as html_file:
        json_file.write_text(text, encoding="utf-8", errors="replace")
        html_file.write_text(html, encoding="utf-8", errors="replace")
    return report


def _choose_name(contents: dict, folder: Path, kind: str, split: str, other_store: str | None) -> str:
    name = kind if split == TEST else f"{kind}-{split}"
    if other_store is not None:
        store = PurePath(other_store).name.removesuffix(".zarr")
        name += f"-on-{re.sub(r'[^0-9A-Za-z_.-]', '_', store)[:_LONGEST]}"
    elif kind == "report":
        return name  # it replaces the run's earlier report on its own pictures
    numbered = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(
        one
        for one in numbered
        if not (folder / f"{one}.json").exists() or _read_subject(folder, one) == _find_subject(contents)
    )


def _read_subject(folder: Path, name: str) -> list | None:
    """Read the runs and stores of an existing report; None if it cannot be read."""
    try:
        return _find_subject(read_json(folder, f"{name}.json"))
    except (OSError, *DAMAGE):
        return None


def _find_subject(contents: dict) -> list:
    if "runs" in contents:
        return [[run["created"], run["store"]["path"]] for run in contents["runs"]]
    return [contents["store"]["path"]]
