"""Text for people: bytes, durations, and untrusted text without control characters."""

import os

MOST_SHOWN = 200  # characters of an untrusted value that is shown


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


def is_unicode(name: str) -> bool:
    """Return whether a file's name is text; in names of another encoding than the system's Python puts surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def escape_undecodable(name: str) -> str:
    """Escape the bytes of a file's name that are not text, as in caf\\xe9.jpg, to print and store it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


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
