"""JSON of untrusted files, with bounded size, number of values and nesting."""

import json
import os
from typing import Any

from data_cards.core.contained import read_contained

MOST_BYTES = 2**26
MOST_VALUES = 2**22  # empty lists take twenty times the memory of their text
DEEPEST = 64  # nesting of lists and dicts; files of this program have five levels


def parse_json(data: bytes, most: int = MOST_BYTES) -> Any:
    """Parse JSON in UTF-8; raises `ValueError` if it is invalid, or larger or more nested than allowed.

    Parameters
    ----------
    data : bytes
    most : int, largest number of bytes
    """
    if len(data) > most:
        raise ValueError(f"JSON of {len(data):,} bytes, expected at most {most:,}")
    values = (
        data.count(b",") + data.count(b"[") + data.count(b"{")
    )  # an upper bound, since texts may contain these characters too
    if values > MOST_VALUES:
        raise ValueError(f"JSON of some {values:,} values, expected at most {MOST_VALUES:,}")
    try:
        parsed = json.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise _depth_error() from error
    level = [parsed]
    for _ in range(DEEPEST + 1):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return parsed
    raise _depth_error()


def read_json(folder: str | os.PathLike, name: str, most: int = MOST_BYTES) -> Any:
    """Read a JSON file of a folder.

    Raises
    ------
    ValueError : as `parse_json`
    UnsafeFileError, OSError : as `data_cards.core.contained.read_contained`
    """
    return parse_json(read_contained(folder, name, most), most)


def _depth_error() -> ValueError:
    return ValueError(f"JSON nested more than {DEEPEST} deep")
