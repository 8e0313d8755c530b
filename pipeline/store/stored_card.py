"""The data card of a store, checked when it is read: a store may come from anybody."""

from data_cards.core.bounded_json import parse_json

# Parts of a data card that builds, training and reports read, and their types.
_CARD_PARTS = {
    "pictures": int,
    "splits": dict,
    "sources": list,
    "selections": list,
    "split_rule": str,
    "limits": list,
    "audit": dict,
}


def parse_stored_card(data: bytes) -> dict:
    """Parse a data card; raise `ValueError` unless it has the parts that builds, training and reports read."""
    card = parse_json(data)
    for name, kind in _CARD_PARTS.items():
        if not isinstance(card[name], kind):
            raise ValueError(f"{name} is {str(card[name])[:60]!r}, expected {kind.__name__}")
    parts = [card["audit"]["words"]]
    for one in card["sources"]:
        parts += [one["class"], one["source"], *(value for value in one["provenance"].values() if value is not None)]
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("its audit or its sources are not those of a data card")
    if not all(isinstance(one, dict) for one in card["selections"]):
        raise ValueError("its selections are not those of a data card")
    return card
