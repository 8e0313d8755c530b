"""The difference of two data cards: every value in which they differ."""

from typing import Any

from data_cards.core.console import format_table

_WIDTH = 60


def compare_cards(one: dict, other: dict) -> list[dict]:
    """Return the values that differ, in the first card's order: `what`, `first`, `second` (None for a missing one)."""
    first, second = _flatten(_normalise(one)), _flatten(_normalise(other))
    names = [*first, *(name for name in second if name not in first)]
    return [
        {"what": name, "first": first.get(name), "second": second.get(name)}
        for name in names
        if first.get(name) != second.get(name)
    ]


def format_comparison(differences: list[dict], first: str, second: str) -> str:
    """Format the result of `compare_cards` as a table for a terminal."""
    if not differences:
        return "the cards say the same"
    rows = [[one["what"], *(_shorten(one[side]) for side in ("first", "second"))] for one in differences]
    return format_table(rows, ["what", first, second])


def _shorten(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _normalise(card: dict) -> dict:
    """Key the lists by name, and drop what follows from the rest."""
    kept = {
        name: value for name, value in card.items() if name not in ("histograms", "limits", "sources", "audit", "name")
    }
    kept["sources"] = {f"{one['class']}/{one['source']}": one for one in card["sources"]}
    kept["audit"] = {
        "verdict": card["audit"]["verdict"],
        **{
            one["family"]: {"AUROC": one["auroc"]["value"], "verdict": one["verdict"],
                            "most telling": one["telling"][0]["words"] if one["telling"] else None}
            for one in card["audit"]["findings"]
        },
    }  # fmt: skip
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
