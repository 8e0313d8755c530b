"""Text for people: bytes, durations, and untrusted text without control characters.

Names, metadata and error texts come from untrusted files. They are escaped here before they reach a terminal, a page, a
drawing or a table: the console escapes all texts except `Lines`, the templates escape all values that they print.
"""

import json
import os
from collections.abc import Iterable
from typing import Any

MOST_SHOWN = 200  # characters of an untrusted value that is shown
_FORMULA_STARTS = tuple("=+-@\uff1d\uff0b\uff0d\uff20")  # the last four are full-width characters


def format_bytes(count: float) -> str:
    """Format bytes in decimal units: 5.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_duration(seconds: float) -> str:
    """Format seconds as 12.3 s, 4 min 05 s or 2 h 03 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def format_count(number: int, noun: str, plural: str | None = None) -> str:
    """Format a number with its noun: 1 picture, 2 pictures, 1,000 pictures; `plural` is the noun and "s" by default."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def is_unicode(name: str) -> bool:
    """Return whether a file's name is text; Python represents bytes in another encoding as surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escape_undecodable(name: str) -> str:
    """Escape the bytes of a file's name that are not text, as in caf\\xe9.jpg, to print and store it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def replace_surrogates(text: str) -> str:
    """Replace surrogates, which JSON can name and UTF-8 cannot encode, by question marks."""
    return text.encode("utf-8", "replace").decode()


class Lines(str):
    """Text of several lines for a terminal, from `join_lines`, which escaped everything except the line ends.

    A text built from it, for example by an f-string, is ordinary text again and is escaped as one line.
    """


def join_lines(parts: Iterable[str], end: str = "\n") -> Lines:
    """Join texts of one line each, which are escaped, and `Lines`, which are kept."""
    return Lines(end.join(map(escape_line, parts)))


def escape_line(text: str) -> str:
    """Escape a text of one line; `Lines` are kept."""
    return text if isinstance(text, Lines) else escape_untrusted(text)


def escape_value(value: Any) -> Any:
    """Escape a value that a template prints, if it is a text and not our own markup."""
    return escape_untrusted(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def escape_cell(value: Any) -> Any:
    """Escape a value of a CSV file: a text that a spreadsheet would read as a formula gets a quote before it."""
    if not isinstance(value, str):
        return value
    escaped = escape_untrusted(value)
    return f"'{escaped}" if escaped.lstrip()[:1] in _FORMULA_STARTS else escaped


def dump_json(value: Any, **options: Any) -> str:
    """Serialise to JSON that is safe for a terminal, with escapes for characters that are not printable."""
    text = json.dumps(value, ensure_ascii=False, **options)
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def escape_untrusted(text: str, most: int | None = None) -> str:
    """Escape everything in a file name or in metadata that is not printable, such as \\x1b.

    That covers control characters, those that change the direction of writing, and bytes of a file name
    that are not UTF-8.

    Parameters
    ----------
    text : str, untrusted
    most : int, characters to keep; an ellipsis marks the cut
    """
    cut = most is not None and len(text) > most
    escaped = "".join(one if one.isprintable() else _escape(one) for one in (text[:most] if cut else text))
    return f"{escaped}…" if cut else escaped


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
