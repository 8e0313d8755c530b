"""Attributes of the group of an untrusted store, read with bounded size and checked types."""

from collections.abc import Callable
from typing import Any

from data_cards.core.bounded_json import MOST_BYTES, parse_json
from data_cards.core.files import ZARR_METADATA
from data_cards.core.labels import CLASS_NAMES
from pipeline.store.filesystem import Storage
from pipeline.store.schema import Attribute


def read_attributes(storage: Storage) -> dict:
    """Read the attributes of a store's group as a dict, without checking their values.

    Raises
    ------
    FileNotFoundError : the store does not exist
    ValueError : the file does not describe a group of Zarr's format 3
    """
    document = parse_json(storage.read(ZARR_METADATA, MOST_BYTES))
    expect(isinstance(document, dict), "not a JSON object")
    expect((document.get("zarr_format"), document.get("node_type")) == (3, "group"), "not a group of Zarr's format 3")
    others = document.keys() - {"zarr_format", "node_type", "attributes"}
    expect(all(document[name] is None for name in others), f"unexpected entries {', '.join(sorted(others))[:80]}")
    attributes = document.get("attributes", {})
    expect(isinstance(attributes, dict), "the attributes are not a JSON object")
    return attributes


def check_attributes(attributes: dict) -> None:
    """Check the types of all attributes of a complete store; raises `ValueError` for the first wrong one."""
    for name, is_right in _RIGHT.items():
        expect(name in attributes, f"the attribute {name} is missing")
        expect(is_right(attributes[name]), f"unexpected {name}: {str(attributes[name])[:60]}")


def expect(condition: bool, problem: str) -> None:
    """Raise `ValueError` with the problem unless the condition holds."""
    if not condition:
        raise ValueError(problem)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: type(value) is kind


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def are_set_aside(value: Any) -> bool:
    """Return whether a value is a list of files set aside, each with its reason."""
    return isinstance(value, list) and all(_are_named_texts(one) and one.keys() == {"path", "reason"} for one in value)


_RIGHT = {
    Attribute.FORMAT_VERSION: _is(int),
    Attribute.SETTINGS: _is(dict),
    Attribute.VERSIONS: _are_named_texts,
    Attribute.PROGRAM: _is(str),
    Attribute.FINGERPRINT: _is(str),
    Attribute.CLASS_NAMES: lambda value: value == list(CLASS_NAMES),
    Attribute.PLANES: _are_texts,
    Attribute.ROOTS: _are_texts,
    Attribute.SET_ASIDE: are_set_aside,
    Attribute.SIMULATED: _is(bool),
    Attribute.COMPLETE: _is(bool),
    Attribute.ARRAYS: _are_named_texts,
    Attribute.DIGEST: _is(str),
}
