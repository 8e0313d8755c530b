"""Parquet tables with a column of pictures, as Hugging Face writes them: each row is a file.

A row is called `ROW-NAME`: its number from 0, and the name of its file if the table has one, so that names have the
order of the rows. It belongs in the folder `CLASS/[SOURCE]`. The class is from the column `label` (a `ClassLabel` by
its name) or one such as `is_fake`, the source from the column `source` or `generator`. Needs the extra `parquet`.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Any

from data_cards.archives.archive import Archive, ArchiveError, check_size, damage_error, find_numbers
from data_cards.archives.members import Members, normalise_name
from data_cards.core.errors import PictureError, format_error
from data_cards.core.extras import format_install
from data_cards.core.files import MAX_BYTES
from data_cards.core.labels import YES_COLUMNS, read_yes_no

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_METADATA = b"huggingface"  # key of the schema's metadata: JSON with the features of the columns
_PICTURES = ("image", "img", "picture")  # the first of these that is a column of pictures is used
_LABELS, _SOURCES = ("label", "labels", "class"), ("source", "generator")
_UNLABELLED = "unlabelled"  # folder of rows without a class
_BATCH_BYTES = 16 * 2**20
_MOST_BATCH_ROWS = 64
_BUFFER = 2**20  # bytes of a column that are read at a time
_CURSORS = 2  # row groups that stay open in a process: scanning threads read from at most two


class ParquetTable(Archive):
    """A Parquet file with a column of picture files.

    Raises
    ------
    ArchiveError : the file is damaged or cut short, does not have exactly one such column, or has row groups that are
        too large; or the extra `parquet` is not installed
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with _open(path) as opened:
                self._metadata = opened.metadata
                self._column, self._leaf = _find_pictures(path, opened)
                self._check_groups()
                self._folders: list[str] = []
                self.members = Members(_list_rows(opened, self._column, self._folders), 3)
        except (ArchiveError, MemoryError):
            raise
        except Exception as error:  # pyarrow raises many kinds for a damaged file
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ArchiveError(
                path,
                f"not a complete Parquet file ({format_error(error)}); download it again, or give the pictures in "
                "folders",
            ) from error

    def read(self, name: str, most: int | None = None) -> bytes:
        group, row, _ = find_numbers(self.members, name)
        try:
            data = _find_cursor(self, group).read(row)
        except Exception as error:
            raise damage_error(format_error(error)) from error
        if data is None:
            raise PictureError("the table has only its name, not its bytes; give the folder of the files instead")
        check_size(len(data))
        return data[:most]

    def find_folder(self, name: str) -> str:
        return self._folders[find_numbers(self.members, name)[2]]

    def iterate_pictures(self, group: int) -> Iterator[tuple[int, Any]]:
        """Yield the pictures of a row group in batches, each with the number of its first row in the group."""
        rows = self._metadata.row_group(group).num_rows
        mean = max(_measure_column(self._metadata, group, self._leaf) // max(rows, 1), 1)
        count = min(max(_BATCH_BYTES // mean, 1), _MOST_BATCH_ROWS)
        start = 0
        with _open(self.path, self._metadata) as opened:
            for batch in opened.iter_batches(count, row_groups=[group], columns=[self._leaf], use_threads=False):
                column = batch.column(0)
                yield start, column.field("bytes") if self._leaf != self._column else column
                start += len(batch)

    def _check_groups(self) -> None:
        for group in range(self._metadata.num_row_groups):
            size = _measure_column(self._metadata, group, self._leaf)
            if size > MAX_BYTES:
                raise ArchiveError(
                    self.path,
                    f"its row groups have {size:,} bytes of pictures; expected at most {MAX_BYTES:,}; write it with "
                    "smaller row groups (row_group_size=100), or give its pictures in folders",
                )


class _Cursor:
    """The pictures of a row group, read in order; reading an earlier one starts again from the first."""

    def __init__(self, table: ParquetTable, group: int):
        self._table, self._group = table, group
        self._lock = Lock()
        self._batches: Iterator[tuple[int, Any]] | None = None
        self._held: list[tuple[int, Any]] = []  # the last two batches, because threads of a scan overtake each other

    def read(self, row: int) -> bytes | None:
        with self._lock:
            if self._batches is None or (self._held and row < self._held[0][0]):
                self._batches, self._held = self._table.iterate_pictures(self._group), []
            while not self._held or row >= self._held[-1][0] + len(self._held[-1][1]):
                self._held = [*self._held[-1:], next(self._batches)]
            start, pictures = next(one for one in reversed(self._held) if one[0] <= row)
            return pictures[row - start].as_py()


_cursors: OrderedDict[tuple[int, int], _Cursor] = OrderedDict()
_cursors_lock = Lock()


def _find_cursor(table: ParquetTable, group: int) -> _Cursor:
    with _cursors_lock:
        key = id(table), group  # a cursor keeps its table alive, so the id is not reused
        cursor = _cursors.setdefault(key, _Cursor(table, group))
        _cursors.move_to_end(key)
        while len(_cursors) > _CURSORS:
            _cursors.popitem(last=False)
        return cursor


def _open(path: str, metadata: Any = None) -> "ParquetFile":
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise ArchiveError(
            path,
            f"Parquet needs pyarrow: `{format_install('parquet')}`; or give its pictures in folders",
        ) from error
    return ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=_BUFFER)


def _measure_column(metadata: Any, group: int, leaf: str) -> int:
    columns = (metadata.row_group(group).column(number) for number in range(metadata.num_columns))
    return sum(one.total_uncompressed_size for one in columns if one.path_in_schema == leaf)


def _read_features(opened: "ParquetFile") -> dict[str, dict]:
    """Read the features of the columns from Hugging Face's metadata; empty without metadata."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features = json.loads(opened.schema_arrow.metadata[_METADATA])["info"]["features"]
        return {name: one for name, one in features.items() if isinstance(one, dict)}
    return {}


def _find_pictures(path: str, opened: "ParquetFile") -> tuple[str, str]:
    """Return the name of the column of pictures, and of the leaf that holds their bytes."""
    leaves = {}
    for field in opened.schema_arrow:
        for name, kind in [(field.name, field.type), *((f"{field.name}.bytes", one.type) for one in _fields(field))]:
            if str(kind) in ("binary", "large_binary"):
                leaves[field.name] = name
    declared = [name for name, one in _read_features(opened).items() if one.get("_type") == "Image" and name in leaves]
    found = declared or list(leaves)
    chosen = found if len(found) == 1 else [name for name in _PICTURES if name in found][:1]
    if not chosen:
        names = ", ".join(leaves if leaves else opened.schema_arrow.names)
        raise ArchiveError(
            path,
            f"expected one column of pictures, `image` with their `bytes`, as Hugging Face writes it, got "
            f"{'several' if leaves else 'none'} ({names}); give its pictures in folders",
        )
    return chosen[0], leaves[chosen[0]]


def _fields(field: Any) -> list[Any]:
    kind = field.type
    return [kind.field("bytes")] if str(kind).startswith("struct<") and kind.get_field_index("bytes") >= 0 else []


def _list_rows(opened: "ParquetFile", pictures: str, folders: list[str]) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Yield the name of each row with its row group, its number there and the number of its folder; fill `folders`."""
    schema, features = opened.schema_arrow, _read_features(opened)
    declared = [name for name, one in features.items() if one.get("_type") == "ClassLabel"]
    of_class = [name for name in (*_LABELS, *declared, *YES_COLUMNS) if name in schema.names][:1]
    of_source = [name for name in _SOURCES if name in schema.names][:1]
    kind = schema.field(pictures).type
    named = str(kind).startswith("struct<") and kind.get_field_index("path") >= 0
    numbers: dict[str, int] = {}
    first = 0  # number of the group's first row in the table
    for group in range(opened.metadata.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        columns = [
            [_format_folder(name, value, features.get(name)) for value in _read_values(opened, group, name)]
            for name in of_class + of_source
        ]
        files = _read_values(opened, group, f"{pictures}.path") if named else [None] * rows
        for row, (*parts, file) in enumerate(zip(*columns, files, strict=True)):
            folder = normalise_name("/".join(parts))
            number = numbers.setdefault(folder, len(folders))
            folders += [folder] if number == len(folders) else []
            last = normalise_name(file or "").rpartition("/")[2]
            yield f"{first + row:07}{last and '-'}{last}", (group, row, number)
        first += rows


def _read_values(opened: "ParquetFile", group: int, leaf: str) -> list[Any]:
    column = opened.read_row_group(group, columns=[leaf], use_threads=False).column(0)
    return [one["path"] if isinstance(one, dict) else one for one in column.to_pylist()]


def _format_folder(column: str, value: Any, feature: dict | None) -> str:
    """Format the class or source of a row as the name of a folder."""
    if label := read_yes_no(column, str(value)):
        return label
    names = (feature or {}).get("names")
    if isinstance(names, list) and isinstance(value, int) and not isinstance(value, bool):
        value = names[value] if 0 <= value < len(names) else None
    return _UNLABELLED if value is None else str(value).replace("/", "_")
