"""Texts of strangers (file names, metadata) made fit for a terminal: nothing in them is ever obeyed."""

MOST = 200  # characters of a value that is shown


def show_text(text: str, most: int | None = None) -> str:
    """The text with everything that is not printable as an escape, such as \\x1b; cut behind `most` characters.

    That covers control characters, those that turn the direction of writing, and bytes of a file name
    that are no text.
    """
    cut = most is not None and len(text) > most
    shown = "".join(one if one.isprintable() else _escape(one) for one in (text[:most] if cut else text))
    return f"{shown}…" if cut else shown


def _escape(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
