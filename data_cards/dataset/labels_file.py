"""A table of a set's pictures: CSV, TSV or JSON Lines with paths, and with labels, splits or sources.

Examples are `metadata.csv` and `metadata.jsonl` of Hugging Face's folders, and Kaggle's `train.csv`, whose ids have no
suffix. `data_cards.dataset.labels_arrangement` searches the paths and reads the values.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_cards.archives.place import read_file
from data_cards.core.errors import PictureError, UserError, format_error
from data_cards.core.text import escape_untrusted
from data_cards.dataset.settings import COLUMNS, SetSettings

_USUAL = {
    "path": "file_name filename file_path filepath path file image_path image_file image_name image img_path img_name "
    "img image_id img_id id name",
    "label": "label labels class class_name target is_fake is_ai is_generated is_ai_generated ai_generated fake "
    "generated ai is_real real is_human y category",
    "split": "split subset partition set",
    "source": "source generator model generator_name model_name dataset collection camera",
}
_NAMED = 5


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
            f"{path}: not UTF-8 text ({error}); expected a CSV, TSV or JSON Lines file after --labels; save the table "
            "as UTF-8"
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
                    f"{path}: has no column {declared}; expected one of {format_values(names)}; correct --columns"
                )
            columns[column] = declared
            continue
        for usual in _USUAL[column].split():
            found = next((name for name in names if name and fold_name(name) == usual), None)
            if found is not None and found not in columns.values():
                columns[column] = found
                break
    if "path" not in columns or len(columns) == 1:
        lacks = "of paths" if "path" not in columns else "of labels, splits or sources"
        raise UserError(
            f"{path}: has no column {lacks} with a usual name; it has {format_values(names) or 'none'}. "
            "Expected a first line with names, such as path,label; or name them with --columns path=NAME,label=NAME"
        )
    return columns


def fold_name(name: str) -> str:
    """Fold a column's name to lower-case letters and digits, with _ between words."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _format_value(value: Any) -> str | None:
    if value is None or isinstance(value, list | dict):
        return None
    text = str(value).strip()
    return text or None


def format_values(values: Iterable[str]) -> str:
    """Format the first values of a table, and the number of the others."""
    values = list(values)
    some = ", ".join(escape_untrusted(str(value), 200) for value in values[:_NAMED])
    return some + (f" and {len(values) - _NAMED} more" if len(values) > _NAMED else "")
