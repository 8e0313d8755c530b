"""Filters of pictures by their file and facts: conditions such as width>=512 or source=coco,ffhq."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from operator import ge, gt, le, lt

from data_cards.core.console import warn
from data_cards.core.errors import UsageError
from data_cards.dataset.table import Picture
from data_cards.image.jpeg import NO_QUALITY

_TEXTS: dict[str, Callable[[Picture], str]] = {
    "split": lambda one: one.file.split,
    "class": lambda one: one.file.label,
    "source": lambda one: one.file.source,
    "format": lambda one: one.facts.format,
    "mode": lambda one: one.facts.mode,
    "subsampling": lambda one: one.facts.subsampling,
    "exif": lambda one: "yes" if one.facts.exif else "no",
    "camera": lambda one: "yes" if one.facts.camera else "no",
}
_NUMBERS: dict[str, Callable[[Picture], float]] = {
    "width": lambda one: one.facts.width,
    "height": lambda one: one.facts.height,
    "short": lambda one: min(one.facts.width, one.facts.height),
    "aspect": lambda one: one.facts.width / one.facts.height,
    "bytes": lambda one: one.facts.bytes,
    "quality": lambda one: one.facts.quality,
}
_NAMES = ("split", "class", "source", "format")  # whose values a user may misspell
_SHOWN = 10  # names in a warning
_COMPARE = {">=": ge, "<=": le, ">": gt, "<": lt}
EXPECTED = (
    f"a name ({', '.join([*_TEXTS, *_NUMBERS])}), one of = != >= <= > <, and a value; "
    "for example width>=512 or source=coco,ffhq"
)


def parse_condition(text: str) -> Callable[[Picture], bool]:
    """Parse a condition such as `width>=512`; commas separate alternatives of = and !=.

    A picture without a JPEG quality meets no comparison with one, such as `quality<80`.

    Raises
    ------
    UsageError : the text is not a condition
    """
    name, sign, values = _split_condition(text)
    if name in _TEXTS:
        if sign in _COMPARE:
            raise UsageError(f"--where {text!r}: only = or != can be used with {name}")
        return lambda one: (_TEXTS[name](one).lower() in values) == (sign == "=")
    try:
        numbers = [float(one) for one in values]
    except ValueError as error:
        raise UsageError(f"--where {text!r}: expected a number, got {','.join(values)!r}") from error
    if sign in _COMPARE:
        if len(numbers) > 1:
            raise UsageError(f"--where {text!r}: expected one number after {sign}")
        return lambda one: (value := _NUMBERS[name](one)) != NO_QUALITY and _COMPARE[sign](value, numbers[0])
    return lambda one: (_NUMBERS[name](one) in numbers) == (sign == "=")


def _split_condition(text: str) -> tuple[str, str, list[str]]:
    """Split a condition into its name, its sign, and its values in lower case; raises `UsageError`."""
    match = re.fullmatch(r"\s*(\w+)\s*(!=|>=|<=|=|>|<)\s*(.+?)\s*", text)
    if not match or match[1] not in {*_TEXTS, *_NUMBERS}:
        raise UsageError(f"--where {text!r}: expected {EXPECTED}")
    return match[1], match[2], [one.strip().lower() for one in match[3].split(",")]


def filter_pictures(pictures: Sequence[Picture], conditions: Sequence[str]) -> list[Picture]:
    """Return the pictures that meet all conditions; warn of names that no picture has, which may be misspelt."""
    tests = [parse_condition(text) for text in conditions]
    named = [(text, *_split_condition(text)) for text in conditions]
    named = [(text, name, values) for text, name, _, values in named if name in _NAMES]
    present = {name: set() for _, name, _ in named}
    for picture in pictures if named else ():
        for name, found in present.items():
            found.add(_TEXTS[name](picture))
    for text, name, values in named:
        known = {one.lower(): one for one in sorted(present[name])}
        if absent := [one for one in values if one not in known]:
            close = get_close_matches(absent[0], known) or list(known)[:_SHOWN]
            has = ", ".join(known[one] for one in close)
            warn(f"--where {text!r} (in Python: where): no picture has {name} {', '.join(absent)}; some have {has}")
    return [picture for picture in pictures if all(test(picture) for test in tests)]
