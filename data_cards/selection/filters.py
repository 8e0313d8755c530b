"""Filters of pictures by their file and facts: conditions such as width>=512 or source=coco,ffhq."""

import re
from collections.abc import Callable, Sequence
from operator import ge, gt, le, lt

from data_cards.core.errors import UsageError
from data_cards.dataset.table import Picture

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
_COMPARE = {">=": ge, "<=": le, ">": gt, "<": lt}
EXPECTED = (
    f"a name ({', '.join([*_TEXTS, *_NUMBERS])}), one of = != >= <= > <, and a value; "
    "for example width>=512 or source=coco,ffhq"
)


def parse_condition(text: str) -> Callable[[Picture], bool]:
    """Parse a condition such as `width>=512`; commas separate alternatives of = and !=.

    Raises
    ------
    UsageError : the text is not a condition
    """
    match = re.fullmatch(r"\s*(\w+)\s*(!=|>=|<=|=|>|<)\s*(.+?)\s*", text)
    if not match or match[1] not in {*_TEXTS, *_NUMBERS}:
        raise UsageError(f"--where {text!r}: expected {EXPECTED}")
    name, sign, value = match.groups()
    values = [one.strip().lower() for one in value.split(",")]
    if name in _TEXTS:
        if sign in _COMPARE:
            raise UsageError(f"--where {text!r}: only = or != can be used with {name}")
        return lambda one: (_TEXTS[name](one).lower() in values) == (sign == "=")
    try:
        numbers = [float(one) for one in values]
    except ValueError as error:
        raise UsageError(f"--where {text!r}: expected a number, got {value!r}") from error
    if sign in _COMPARE:
        if len(numbers) > 1:
            raise UsageError(f"--where {text!r}: expected one number after {sign}")
        return lambda one: _COMPARE[sign](_NUMBERS[name](one), numbers[0])
    return lambda one: (_NUMBERS[name](one) in numbers) == (sign == "=")


def filter_pictures(pictures: Sequence[Picture], conditions: Sequence[str]) -> list[Picture]:
    """Return the pictures that meet all conditions."""
    tests = [parse_condition(text) for text in conditions]
    return [picture for picture in pictures if all(test(picture) for test in tests)]
