"""A table of a set's pictures: CSV, TSV or JSON Lines with paths, and with labels, splits or sources.

Examples are `metadata.csv` and `metadata.jsonl` of Hugging Face's folders, and Kaggle's `train.csv`, whose ids have no
suffix. A path is searched among the files that were found below the set's folders and nowhere else, so that a table
cannot name a file outside of them. All rows are checked before any picture is read.
"""

import csv
import io
import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from data_cards.archives.place import read_file
from data_cards.core.console import warn
from data_cards.core.errors import PictureError, UserError, format_error
from data_cards.core.labels import CLASS_NAMES, TRAIN
from data_cards.core.text import escape_untrusted, join_lines
from data_cards.dataset.layout import Place, arrange_pictures
from data_cards.dataset.names import Meaning, format_meaning, match_class, match_split, names_source
from data_cards.dataset.settings import COLUMNS, SetSettings

_USUAL = {
    "path": "file_name filename file_path filepath path file image_path image_file image_name image img_path img_name "
    "img image_id img_id id name",
    "label": "label labels class class_name target is_fake is_ai is_generated is_ai_generated ai_generated fake "
    "generated ai is_real real is_human y category",
    "split": "split subset partition set",
    "source": "source generator model generator_name model_name dataset collection camera",
}
# Columns whose names give the meaning of 1 and true.
_YES = {
    "fake": frozenset("is_fake is_ai is_generated is_ai_generated ai_generated fake generated ai".split()),
    "real": frozenset("is_real real is_human".split()),
}
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_MOST_SOURCE = 100  # letters of a source's name
_NAMED = 5


class _Fault(Enum):
    """A fault of a table's rows; the value is what is wrong and what was expected."""

    LABEL = "unknown labels; expected real, fake or a usual spelling of these"
    SPLIT = "unknown splits; expected train, val or test"
    AMBIGUOUS = "paths that fit several files; expected one file a row"
    REPEATED = "pictures that are listed twice with different values; expected one row a picture"

    def advise(self, values: Sequence[str]) -> str:
        """Return what to do about these wrong values."""
        if self is _Fault.LABEL:
            return f"declare what they are, such as {format_meaning(values)}"
        if self is _Fault.SPLIT:
            return "correct them, or name another column with --columns split=NAME"
        if self is _Fault.AMBIGUOUS:
            return "write more of these paths, as in the list of files"
        return "remove or correct one of the rows"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: the values of its columns as text, None where there is none; `line` counts from 1."""

    line: int
    path: str
    label: str | None
    split: str | None
    source: str | None


@dataclass(frozen=True)
class LabelsFile:
    """A table that was read; `columns` has the table's name of each of `COLUMNS` that it has."""

    path: Path
    columns: dict[str, str]
    rows: list[Row]


@dataclass(frozen=True)
class Listing:
    """The picture files below a folder of a set, by their paths in it; `own` is the folder's own source."""

    root: Path
    images: list[str]
    own: str


@dataclass(frozen=True)
class Arranged:
    """The places of the pictures of each listing, or the reasons why they have none; and the rows without a file."""

    places: list[list[Place | str]]
    missing: list[tuple[LabelsFile, Row]]


def read_labels(path: Path, settings: SetSettings) -> LabelsFile:
    """Read a table of pictures.

    Raises
    ------
    UserError : it cannot be read, is not CSV or JSON Lines, or lacks a column
    """
    try:
        text = read_file(path).decode("utf-8-sig")
    except PictureError as error:
        raise UserError(f"{path}: {error}; expected a CSV, TSV or JSON Lines file after --labels") from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 text ({error}); --labels takes a CSV, TSV or JSON Lines file; save a table "
            "with its program as UTF-8"
        ) from error
    is_json = path.suffix.lower() in (".jsonl", ".ndjson", ".json") or text.lstrip()[:1] in ("{", "[")
    try:
        names, records = _parse_json(text) if is_json else _parse_csv(text)
    except (ValueError, csv.Error, RecursionError) as error:
        kind = "JSON Lines" if is_json else "CSV"
        raise UserError(f"{path}: not {kind} ({format_error(error)}); correct the file") from error
    columns = _find_columns(path, names, settings)
    rows = []
    for line, record in records:
        values = {column: _format_value(record.get(name)) for column, name in columns.items()}
        if values["path"]:
            rows.append(Row(line, values["path"], *(values.get(column) for column in COLUMNS[1:])))
        elif any(values.values()):
            raise UserError(
                f"{path}: line {line} has no {columns['path']}; expected a picture's path; add it, or remove the line"
            )
    if not rows:
        raise UserError(f"{path}: has no rows below its first line; expected one for each picture; add them")
    return LabelsFile(path, columns, rows)


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
    wrong.raise_any()
    if not listed:
        table, row = missing[0]
        folders = ", ".join(str(listing.root) for listing in listings)
        raise UserError(
            f"{table.path}: none of its {len(table.rows)} files is below {folders}; the first: {row.path}. "
            "Give the folder that the paths start from with --src FOLDER"
        )
    if repeated:
        lines = _format_some([f"{row.path} (line {row.line})" for _, row in repeated])
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
    """Return a source's name as a valid folder name: without slashes and control characters, not too long."""
    cleaned = re.sub(r"[\x00-\x1f\x7f/\\]+", "-", name).strip(" .-") or "unnamed"
    return cleaned[:_MOST_SOURCE]


class _Problems:
    """The faults of tables, by table and kind, so that all are reported at once."""

    def __init__(self):
        self._found: dict[tuple[Path, _Fault], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))

    def add(self, table: LabelsFile, fault: _Fault, value: str, line: int) -> None:
        self._found[table.path, fault][value].append(line)

    def raise_any(self) -> None:
        if not self._found:
            return
        lines = []
        for (path, fault), values in self._found.items():
            count = sum(map(len, values.values()))
            more = {value: f" and {len(at) - 1} more" if len(at) > 1 else "" for value, at in values.items()}
            some = _format_some([f"{value} (line {at[0]}{more[value]})" for value, at in values.items()])
            rows = "1 row has" if count == 1 else f"{count} rows have"
            lines.append(f"{path}: {rows} {fault.value}, got {some}; {fault.advise(list(values))}")
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
    truth = _TRUTH.get(value)
    yes = next((label for label, names in _YES.items() if _fold(column) in names), None)
    if truth is not None and yes:
        return yes if truth else next(label for label in CLASS_NAMES if label != yes)
    return match_class(text)


def _find_split(image: str) -> str | None:
    return next(filter(None, map(match_split, image.split("/")[:-1])), None)


def _find_split_of_table(table: LabelsFile) -> str | None:
    """Find the split of a table: `train.csv`, or `metadata.csv` in the folder `train`."""
    return match_split(table.path.stem.replace("labels", "")) or match_split(table.path.parent.name)


def _find_source(image: str) -> str | None:
    return next(filter(names_source, image.split("/")[:-1]), None)


def _parse_csv(text: str) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    head = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=head.count)
    if "\0" in text:
        raise ValueError("it has zero bytes")
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names = list(reader.fieldnames or ())
    return names, [(reader.line_num, record) for record in reader]


def _parse_json(text: str) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    if text.lstrip().startswith("["):
        records = list(enumerate(json.loads(text), start=1))
    else:
        records = [(line, _parse_line(line, one)) for line, one in enumerate(text.split("\n"), start=1) if one.strip()]
    for line, record in records:
        if not isinstance(record, dict):
            raise ValueError(f"line {line}: expected an object, got {type(record).__name__}")
    return list(dict.fromkeys(name for _, record in records for name in record)), records


def _parse_line(line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"line {line}: {format_error(error)}") from error


def _find_columns(path: Path, names: Sequence[str], settings: SetSettings) -> dict[str, str]:
    """Find the columns by their declared or usual names; raises `UserError` if one is missing."""
    columns = {}
    for column in COLUMNS:
        if declared := settings.column_names.get(column):
            if declared not in names:
                raise UserError(
                    f"{path}: has no column {declared}; expected one of {_format_some(names)}; correct --columns"
                )
            columns[column] = declared
            continue
        for usual in _USUAL[column].split():
            found = next((name for name in names if name and _fold(name) == usual), None)
            if found is not None and found not in columns.values():
                columns[column] = found
                break
    if "path" not in columns or len(columns) == 1:
        lacks = "of paths" if "path" not in columns else "of labels, splits or sources"
        raise UserError(
            f"{path}: has no column {lacks} with a usual name; it has {_format_some(names) or 'none'}. "
            "Expected a first line with names, such as path,label; or name them with --columns path=NAME,label=NAME"
        )
    return columns


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _format_value(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    text = str(value).strip()
    return text or None


def _format_some(values: Iterable[str]) -> str:
    values = list(values)
    some = ", ".join(escape_untrusted(str(value), 200) for value in values[:_NAMED])
    return some + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")
