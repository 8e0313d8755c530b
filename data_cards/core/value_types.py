"""Types of values that come from outside: arguments and settings from Python, and records read from files.

A caller's value is converted if it means the same in the expected type: a NumPy number, a `Path` for text, a whole
number for a float, one text for a list of texts. Every other type is refused before any work.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache, wraps
from inspect import signature
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from data_cards.core.errors import UsageError

_LISTS = (list, tuple, Iterable, Sequence)


def check_types(kind: type, values: dict) -> None:
    """Check that values read from a file have the types of the dataclass fields of the same names.

    A whole number is valid for a float, a list for a tuple.

    Raises
    ------
    ValueError : a value has another type; the message names the first
    """
    hints = _read_hints(kind)
    for name, value in values.items():
        if name in hints and not _has_type(value, hints[name]):
            raise ValueError(f"{name} is {str(value)[:60]}, expected {_format_kind(hints[name])}")


def convert_fields(settings: Any) -> None:
    """Convert the fields of a dataclass, in `__post_init__`, to their types; raises `UsageError`."""
    hints = _read_hints(type(settings))
    for one in fields(settings):
        object.__setattr__(settings, one.name, convert_value(one.name, getattr(settings, one.name), hints[one.name]))


def converts_arguments(function: Callable) -> Callable:
    """Decorate a function of the Python interface: its arguments are converted to their annotated types.

    The function raises `UsageError` for an argument of another type.
    """
    parameters = signature(function)

    @wraps(function)
    def convert_and_call(*args: Any, **kwargs: Any) -> Any:
        bound = parameters.bind(*args, **kwargs)
        hints = _read_hints(function)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = convert_value(name, value, hints[name])
        return function(*bound.args, **bound.kwargs)

    return convert_and_call


def convert_value(name: str, value: Any, kind: Any) -> Any:
    """Convert a caller's value to a type, if it means the same there.

    Parameters
    ----------
    name : str, of the argument or the field, for the message
    value : of any type
    kind : a type, a union of types, or a list of a type

    Raises
    ------
    UsageError : the value is of another type
    """
    converted = _convert(value, kind)
    if not _has_type(converted, kind):
        inside = {type(one).__name__: None for one in converted} if type(converted) is tuple else ()
        found = type(value).__name__ + " of " * bool(inside) + " and ".join(inside)
        raise UsageError(f"{name} {repr(value)[:60]}: expected {_format_kind(kind)}, got {found}")
    return converted


def _convert(value: Any, kind: Any) -> Any:
    """Return the value in the type if it means the same there, or else unchanged."""
    if isinstance(kind, UnionType):
        each = [value] if _has_type(value, kind) else [_convert(value, one) for one in get_args(kind)]
        return next((one for one in each if _has_type(one, kind)), value)
    if get_origin(kind) in _LISTS:
        if isinstance(value, str | os.PathLike):
            return (_convert(value, get_args(kind)[0]),)
        if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
            return tuple(_convert(one, get_args(kind)[0]) for one in value)
        return value
    if kind in (bool, int, float, str) and getattr(value, "ndim", None) == 0:
        value = value.item()  # a number or a text of NumPy
    if kind is str and isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return str(path) if isinstance(path, str) else value
    return float(value) if kind is float and type(value) is int else value


def _has_type(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_has_type(value, one) for one in get_args(kind))
    if get_origin(kind) in _LISTS:
        of = get_args(kind)[0]
        return isinstance(value, list | tuple) and all(_has_type(one, of) for one in value)
    if kind is float:
        return type(value) in (int, float)
    return type(value) is kind if kind in (int, bool, str) else isinstance(value, get_origin(kind) or kind)


def _format_kind(kind: Any) -> str:
    """Format a type as callers know it, such as "int or None"."""
    if isinstance(kind, UnionType):
        return " or ".join(map(_format_kind, get_args(kind)))
    if get_origin(kind) in _LISTS:
        return f"a list of {_format_kind(get_args(kind)[0])}"
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


@cache
def _read_hints(of: Any) -> dict[str, Any]:
    hints = get_type_hints(of)
    hints.pop("return", None)
    return hints
