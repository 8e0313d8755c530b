"""Changes of JSON documents, drawn by hypothesis."""

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st


def change_document(document: Any, data: st.DataObject, values: st.SearchStrategy) -> None:
    """Replace one to three drawn places of a document, at any depth, by drawn values."""
    for _ in range(data.draw(st.integers(1, 3))):
        place = document
        while True:
            keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], list | dict) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = deepcopy(data.draw(values))
