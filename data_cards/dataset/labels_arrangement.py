"""Arrange the pictures of a set by its tables: labels, splits and sources of the files that the tables list.

A path is searched among the files that were found below the set's folders and nowhere else, so that a table cannot name
a file outside of them. All rows are checked before any picture is read.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

from data_cards.core.console import warn
from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN, read_yes_no
from data_cards.core.text import join_lines, replace_surrogates
from data_cards.dataset.labels_file import LabelsFile, Row, fold_name, format_values
from data_cards.dataset.layout import Place, arrange_pictures
from data_cards.dataset.names import Meaning, format_meaning, match_class, match_split, names_source
from data_cards.dataset.settings import SetSettings

_MOST_SOURCE = 100  # letters of a source's name


class _Fault(Enum):
    """A fault of a table's rows; the value is what is wrong and what was expected."""

    LABEL = "unknown labels; expected real, fake or a usual spelling of these"
    SPLIT = "unknown splits; expected train, val or test"
    AMBIGUOUS = "paths that fit several files; expected one file a row"
    REPEATED = "pictures that are listed twice with different values; expected one row a picture"

    def advise(self, values: Sequence[str], present: Collection[str | None]) -> str:
        """Return what to do about these wrong values; `present` are the classes of the other rows."""
        if self is _Fault.LABEL:
            return f"declare what they are, such as {format_meaning(values, present)}"
        if self is _Fault.SPLIT:
            return "correct them, or name another column with --columns split=NAME"
        if self is _Fault.AMBIGUOUS:
            return "write longer paths, with more of their folders"
        return "remove or correct one of the rows"


@dataclass(frozen=True)
class Listing:
    """The picture files below a folder of a set, by their paths in it; `own` is the source of the folder itself."""

    root: Path
    images: list[str]
    own: str


@dataclass(frozen=True)
class Arranged:
    """The places of the pictures of each listing, or the reasons why they have none; and the rows without a file."""

    places: list[list[Place | str]]
    missing: list[tuple[LabelsFile, Row]]


def arrange_by_labels(tables: Sequence[LabelsFile], listings: Sequence[Listing], settings: SetSettings) -> Arranged:
    """Find the place of every picture of a set by its tables.

    Folders give the values that the table lacks: the class without a column of labels, the split if a folder (or the
    table itself) is named after one, and the source if a folder's name can be a source.

    Raises
    ------
    UserError : labels or splits are unknown, rows contradict one another, or no listed file exists
    """
    tables = sorted(tables, key=lambda table: str(table.path))
    listed: dict[tuple[int, int], tuple[LabelsFile, Row]] = {}
    missing, repeated, wrong = [], [], _Problems()
    index = _Index(listings)
    for table in tables:
        for row in table.rows:
            found = index.find(table, row.path)
            if not found:
                missing.append((table, row))
            elif len(found) > 1:
                names = [listings[listing].images[number] for listing, number in found[:3]]
                wrong.add(table, _Fault.AMBIGUOUS, f"{row.path} ({' or '.join(names)})", row.line)
            elif found[0] in listed:
                before_table, before = listed[found[0]]
                repeated.append((table, row))
                if (before.label, before.split, before.source) != (row.label, row.split, row.source):
                    also = f"{row.path}, also in {before_table.path.name} line {before.line}"
                    wrong.add(table, _Fault.REPEATED, also, row.line)
            else:
                listed[found[0]] = table, row
    names = ", ".join(table.path.name for table in tables)
    places = []
    for which, listing in enumerate(listings):
        by_folders = None
        if not all("label" in table.columns for table in tables):
            by_folders = _arrange_by_folders(listing, tables, settings)
        own: list[Place | str] = by_folders or [f"not listed in {names}"] * len(listing.images)
        for number, image in enumerate(listing.images):
            if (which, number) in listed:
                own[number] = _place(*listed[which, number], image, own[number], listing.own, settings.classes, wrong)
        places.append(own)
    if wrong:
        rows = [(table, row) for table, row in listed.values() if row.label is not None]
        wrong.raise_all({_read_label(row.label, table.columns["label"], settings.classes) for table, row in rows})
    if not listed:
        table, row = missing[0]
        folders = ", ".join(str(listing.root) for listing in listings)
        raise UserError(
            f"{table.path}: none of its {len(table.rows)} files is below {folders}; the first: {row.path}. "
            "Give the folder that the paths start from with --src FOLDER"
        )
    if repeated:
        lines = format_values([f"{row.path} (line {row.line})" for _, row in repeated])
        rows = "row repeats another one and is" if len(repeated) == 1 else "rows repeat others and are"
        warn(f"{names}: {len(repeated)} {rows} used once: {lines}")
    return Arranged(places, missing)


def _arrange_by_folders(listing: Listing, tables: Sequence[LabelsFile], settings: SetSettings) -> list[Place | str]:
    """Return the places that folders give; raises `UserError` if they give no classes and a table has none either."""
    try:
        return arrange_pictures(listing.images, listing.own, settings.classes, str(listing.root))
    except UserError as error:
        table = next(one for one in tables if "label" not in one.columns)
        raise UserError(
            f"{table.path}: has no column of labels with a usual name, and the folders give no classes; name the "
            f"column with --columns label=NAME, or name the folders: {error}"
        ) from error


def clean_source(name: str) -> str:
    """Return a source's name as a valid folder name: no slashes, control characters and surrogates, not too long."""
    cleaned = re.sub(r"[\x00-\x1f\x7f/\\]+", "-", replace_surrogates(name)).strip(" .-") or "unnamed"
    return cleaned[:_MOST_SOURCE]


class _Problems:
    """The faults of tables, by table and kind, so that all are reported at once."""

    def __init__(self):
        self._found: dict[tuple[Path, _Fault], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def add(self, table: LabelsFile, fault: _Fault, value: str, line: int) -> None:
        self._found[table.path, fault][value].append(line)

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_all(self, present: Collection[str | None]) -> NoReturn:
        """Raise `UserError` with a line for each table and kind; `present` are the classes that rows have."""
        lines = []
        for (path, fault), values in self._found.items():
            count = sum(map(len, values.values()))
            more = {value: f" and {len(at) - 1} more" if len(at) > 1 else "" for value, at in values.items()}
            some = format_values([f"{value} (line {at[0]}{more[value]})" for value, at in values.items()])
            rows = "1 row has" if count == 1 else f"{count} rows have"
            lines.append(f"{path}: {rows} {fault.value}, got {some}; {fault.advise(list(values), present)}")
        raise UserError(join_lines(lines))


class _Index:
    """The files of a set by their paths in the forms that a table may use: without suffix, or from any folder."""

    def __init__(self, listings: Sequence[Listing]):
        self._listings = listings
        self._exact: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for which, listing in enumerate(listings):
            for number, image in enumerate(listing.images):
                for path in {image, posixpath.splitext(image)[0]}:
                    self._exact[path].append((which, number))
        self._endings: dict[int, dict[str, list[tuple[int, int]]]] = {}
        self._prefixes: dict[Path, list[tuple[int, str]]] = {}

    def find(self, table: LabelsFile, written: str) -> list[tuple[int, int]]:
        """Find the files that a path in a table fits: none, one, or several if it is ambiguous."""
        path = posixpath.normpath(written.replace("\\", "/")).lstrip("/")
        for which, prefix in self._find_prefixes(table):  # from the table's own folder
            full = posixpath.normpath(prefix + path)
            if found := [at for at in self._exact.get(full, ()) if at[0] == which]:
                return self._prefer(table, full, found)
        if path in self._exact:
            return self._prefer(table, path, self._exact[path])
        # An absolute path, or one that starts with the set's own folder: /kaggle/input/set/train/a.jpg.
        for listing in self._listings:
            marker = f"/{listing.root.name}/"
            rest = f"/{path}".rpartition(marker)[2]
            if marker in f"/{path}" and rest in self._exact:
                return self._prefer(table, rest, self._exact[rest])
        names = path.count("/") + 1
        if names not in self._endings:
            self._endings[names] = self._index_endings(names)
        return self._prefer(table, path, self._endings[names].get(path, []))

    def _find_prefixes(self, table: LabelsFile) -> list[tuple[int, str]]:
        """Return the listings that contain a table's folder, each with the folder's path in it."""
        folder = table.path.parent
        if folder not in self._prefixes:
            self._prefixes[folder] = [
                (which, f"{folder.relative_to(listing.root).as_posix()}/")
                for which, listing in enumerate(self._listings)
                if folder.is_relative_to(listing.root)
            ]
        return self._prefixes[folder]

    def _index_endings(self, names: int) -> dict[str, list[tuple[int, int]]]:
        """Index the files by the last names of their paths."""
        endings = defaultdict(list)
        for path, found in self._exact.items():
            if path.count("/") >= names:
                endings["/".join(path.split("/")[-names:])] += found
        return endings

    def _prefer(self, table: LabelsFile, path: str, found: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Prefer, among several files, those with exactly this name, then those in the split of the table's name."""
        exact = [at for at in found if f"/{self._image(at)}".endswith(f"/{path}")] if len(found) > 1 else found
        found = exact or found
        if len(found) > 1 and (split := match_split(table.path.stem.split("_")[0])):
            found = [at for at in found if _find_split(self._image(at)) == split] or found
        return found

    def _image(self, at: tuple[int, int]) -> str:
        return self._listings[at[0]].images[at[1]]


def _place(
    table: LabelsFile, row: Row, image: str, by_folders: Place | str, own: str, meaning: Meaning, wrong: _Problems
) -> Place | str:
    known = by_folders if isinstance(by_folders, Place) else None
    label = known.label if known else None
    if "label" in table.columns:
        if row.label is None:
            return f"without a label in {table.path.name}"
        label = _read_label(row.label, table.columns["label"], meaning)
        if label is None:
            wrong.add(table, _Fault.LABEL, row.label, row.line)
    elif label is None:
        return by_folders
    split = match_split(row.split) if row.split else None
    if row.split and split is None:
        wrong.add(table, _Fault.SPLIT, row.split, row.line)
    split = split or (known.split if known else _find_split(image) or _find_split_of_table(table) or TRAIN)
    source = clean_source(row.source) if row.source else known.source if known else _find_source(image) or own
    # Unknown labels are reported together, after the last row.
    return Place(split, label or CLASS_NAMES[0], source)


def _read_label(text: str, column: str, meaning: Meaning) -> str | None:
    """Read a label: any spelling of a class, or yes or no in a column such as `is_fake`."""
    value = text.strip().lower()
    value = value.removesuffix(".0") if value in ("0.0", "1.0") else value
    if value in meaning:
        return meaning[value]
    return read_yes_no(fold_name(column), value) or match_class(text)


def _find_split(image: str) -> str | None:
    return next(filter(None, map(match_split, image.split("/")[:-1])), None)


def _find_split_of_table(table: LabelsFile) -> str | None:
    """Find the split of a table: `train.csv`, or `metadata.csv` in the folder `train`."""
    return match_split(table.path.stem.replace("labels", "")) or match_split(table.path.parent.name)


def _find_source(image: str) -> str | None:
    return next(filter(names_source, image.split("/")[:-1]), None)
