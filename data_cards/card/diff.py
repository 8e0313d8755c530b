"""Difference between two data cards: every value in which they differ."""

from typing import Any

from data_cards.audit.properties import FORMER_NAMES
from data_cards.core.console import format_table
from data_cards.core.text import Lines, escape_untrusted, join_lines

_WIDTHS = (50, 22, 22)  # most characters of the table's columns: with the gaps between them 98
_COLUMNS = ("what", "first", "second")


def compare_cards(one: dict, other: dict) -> list[dict]:
    """Return the values that differ: `what`, `first`, `second` (None for a missing one).

    Values are in the first card's order, followed by values that only the second card has. For a source that one card
    lacks, only the number of pictures is listed.
    """
    cards = [_normalise(one), _normalise(other)]
    shared = cards[0]["sources"].keys() & cards[1]["sources"].keys()
    for card in cards:
        for name, source in card["sources"].items():
            card["sources"][name] = source if name in shared else {"pictures": source["pictures"]}
    first, second = map(_flatten, cards)
    names = [*first, *(name for name in second if name not in first)]
    return [
        {"what": name, "first": first.get(name), "second": second.get(name)}
        for name in names
        if first.get(name) != second.get(name)
    ]


def format_comparison(differences: list[dict], first: str, second: str) -> Lines:
    """Format the result of `compare_cards` as a table for a terminal of 100 columns; longer values are cut."""
    if not differences:
        return join_lines(["the cards do not differ"])
    rows = [
        [_shorten(_format_value(one[column]), most) for column, most in zip(_COLUMNS, _WIDTHS, strict=True)]
        for one in differences
    ]
    values = "value differs" if len(rows) == 1 else "values differ"
    lines = [f"{len(rows):,} {values}", f"first:  {first}", f"second: {second}", ""]
    return join_lines([*lines, format_table(rows, list(_COLUMNS))])


def _format_value(value: Any) -> str:
    if value is None:
        return ""
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and value % 1 == 0
    return f"{value:,.0f}" if is_whole else str(value)  # with all digits, because the values may differ in the last


def _shorten(text: str, most: int) -> str:
    """Cut the middle of a text that is too long when escaped, since both ends of a name identify it."""
    text = escape_untrusted(text)
    if len(text) <= most:
        return text
    kept = most - len("...")
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def _normalise(card: dict) -> dict:
    """Key the lists by name, and drop values that are derived from others."""
    kept = {
        name: value for name, value in card.items() if name not in ("histograms", "limits", "sources", "audit", "name")
    }
    kept["sources"] = {f"{one['class']}/{one['source']}": one for one in card["sources"]}
    kept["audit"] = {"verdict": card["audit"]["verdict"]}
    for one in card["audit"]["findings"]:
        kept["audit"][FORMER_NAMES.get(one["family"], one["family"])] = {
            "AUROC": one["auroc"]["value"],
            "verdict": one["verdict"],
            "example": one["telling"][0]["words"] if one["telling"] else None,
        }
    return kept


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        flat = {}
        for key, inner in value.items():
            flat |= _flatten(inner, f"{name} > {key}" if name else str(key))
        return flat
    if isinstance(value, list):
        return {name: len(value)} if value and isinstance(value[0], dict | list) else {name: ", ".join(map(str, value))}
    return {name: value}
