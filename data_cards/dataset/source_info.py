"""Information about a source: `source.toml` or `source.json` in its folder, or in one above it.

A file in a higher folder describes all sources below it; a table in it with the name of a source
describes that source. Fields that are not stated are shown as missing, never guessed.
"""

import json
import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from data_cards.archives.place import is_file, read_start, read_status
from data_cards.core.errors import PictureError, UserError, format_error
from data_cards.core.text import replace_surrogates
from data_cards.dataset.table import Picture

NAMES = ("source.toml", "source.json")
FIELDS = ("name", "generator", "camera", "url", "licence", "date", "consent", "note")
_SPELLINGS = {"license": "licence", "homepage": "url", "description": "note", "model": "generator"}
_MOST_BYTES = 100_000
_MOST_LETTERS = 2_000


def read_source_info(pictures: Sequence[Picture]) -> dict[tuple[str, str], dict[str, str | None]]:
    """Read the `FIELDS` of every (class, source); None for a field that is not stated.

    Raises
    ------
    UserError : a file is not TOML or JSON
    """
    found: dict[tuple[str, str], dict[str, str | None]] = {}
    seen = set()
    for picture in pictures:
        file = picture.file
        key = file.label, file.source
        place = (*key, file.root, file.path.parent)
        if place in seen:
            continue
        seen.add(place)
        stated = _read_fields(file.source, find_source_file(Path(file.root), file.path.parent))
        before = found.setdefault(key, dict.fromkeys(FIELDS))
        found[key] = {name: before[name] or stated.get(name) for name in FIELDS}
    return found


def find_source_file(root: Path, folder: Path) -> Path | None:
    """Find the nearest file about sources, from a picture's folder up to its root."""
    while True:
        for name in NAMES:
            if is_file(folder / name):
                return folder / name
        if folder == root or folder == folder.parent:
            return None
        folder = folder.parent


def _read_fields(source: str, path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    status = read_status(path)
    values = _parse(path, (status.st_size, status.st_mtime_ns))
    own = values.get(source)
    values = own if isinstance(own, dict) else values
    return {
        _SPELLINGS.get(name.lower(), name.lower()): replace_surrogates(str(value)[:_MOST_LETTERS])
        for name, value in values.items()
        if not isinstance(value, dict | list)
    }


@lru_cache(maxsize=4096)
def _parse(path: Path, stamp: tuple[int, int]) -> dict:
    try:
        data = read_start(path, _MOST_BYTES + 1)
    except PictureError as error:
        raise UserError(f"{path}: {error}") from error
    if len(data) > _MOST_BYTES:
        raise UserError(f"{path}: too large; expected a few lines about a source, at most {_MOST_BYTES:,} bytes")
    try:
        text = data.decode("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:  # both parsers' errors are ValueErrors, wrong bytes too
        raise UserError(
            f"{path}: not {path.suffix[1:].upper()} ({format_error(error)}); correct or remove the file"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f'{path}: expected names and values, such as licence = "CC0"')
    return values
