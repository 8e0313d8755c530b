"""Leakage: near-duplicate pictures in more than one split, or in both classes.

Across splits they inflate test scores; across classes one of the two labels is wrong or meaningless.
`data_cards.image.perceptual_hash` finds them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data_cards.archives.place import read_file
from data_cards.core.console import warn
from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import escape_untrusted, format_count
from data_cards.dataset.table import Picture
from data_cards.image.decode import decode_picture

SHEET_GROUPS = 40  # drawn on a contact sheet at most
_PER_GROUP = 6
_SIDE, _CAPTION, _GAP = 160, 34, 8
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


class Side(Enum):
    """A property that all pictures of a near-duplicate group should share; the value is its plural."""

    SPLIT = "splits"
    CLASS = "classes"

    def of(self, picture: Picture) -> str:
        """Return the picture's split or class."""
        return picture.file.split if self is Side.SPLIT else picture.file.label


CONSEQUENCES = {Side.SPLIT: "test scores are too high", Side.CLASS: "some labels are wrong or meaningless"}


@dataclass(frozen=True)
class Leak:
    """A near-duplicate group that has more than one split, or both classes.

    Attributes
    ----------
    across : which of the two differs
    pictures : of the group, in order of split, class and path
    """

    across: Side
    pictures: list[Picture]

    @property
    def pair(self) -> tuple[Picture, Picture]:
        """Two of its pictures with different splits or classes."""
        first = self.pictures[0]
        return first, next(one for one in self.pictures if self.across.of(one) != self.across.of(first))


@dataclass(frozen=True)
class Leaks:
    """Near-duplicate groups of a set.

    Attributes
    ----------
    repeated : all groups of more than one picture, each in order of split, class and path
    found : the groups across splits, then those across classes; a group that is both is listed twice
    """

    repeated: list[list[Picture]]
    found: list[Leak]

    def across(self, side: Side) -> list[Leak]:
        """Return the groups across splits, or across classes."""
        return [leak for leak in self.found if leak.across is side]

    @property
    def worst(self) -> list[list[Picture]]:
        """Groups across splits, then those across classes alone."""
        return list({id(leak.pictures): leak.pictures for leak in self.found}.values())

    def to_dict(self, limit: int | None = None) -> dict:
        """Return counts, and the pictures of at most `limit` groups of each kind."""
        across = {side: self.across(side) for side in Side}
        return {
            "groups": len(self.repeated),
            "pictures": sum(map(len, self.repeated)),
            "exact_copies": sum(
                len(group) - len({picture.facts.sha256 for picture in group}) for group in self.repeated
            ),
            **{f"groups_across_{side.value}": len(leaks) for side, leaks in across.items()},
            **{
                f"across_{side.value}": [[_to_dict(one) for one in leak.pictures] for leak in leaks[:limit]]
                for side, leaks in across.items()
            },
        }


def find_leaks(pictures: Sequence[Picture]) -> Leaks:
    """Find the near-duplicate groups of a set, and which of them are across splits or classes."""
    numbers = np.fromiter((picture.group for picture in pictures), np.int64, len(pictures))
    found, count = np.unique(numbers, return_counts=True)
    # Only repeated pictures become objects: a million of them would take a gigabyte.
    groups: dict[int, list[Picture]] = {}
    for index in np.flatnonzero(np.isin(numbers, found[count > 1])).tolist():
        groups.setdefault(int(numbers[index]), []).append(pictures[index])
    repeated = [
        sorted(members, key=lambda one: (one.file.split, one.file.label, one.file.root, one.file.image))
        for members in groups.values()
    ]
    repeated.sort(key=lambda members: (members[0].file.root, members[0].file.image))
    leaks = [Leak(side, members) for side in Side for members in repeated if len(set(map(side.of, members))) > 1]
    return Leaks(repeated, leaks)


def check_leaks(pictures: Sequence[Picture], allow: bool) -> None:
    """Refuse near-duplicates across splits, or warn of them if they are allowed; warn of those across classes.

    Raises
    ------
    UserError : some are across splits
    """
    leaks = find_leaks(pictures)
    for side in Side:
        across = leaks.across(side)
        if across and side is Side.SPLIT and not allow:
            raise UserError(
                f"{_format_count(across)}. `pipeline audit --contact-sheet FILE.png` lists and draws them; "
                "remove one of each pair, or build with --allow-leakage (in Python: allow_leakage=True)"
            )
        if across:
            warn(_format_count(across))


def format_leaks(leaks: Leaks, limit: int = 10) -> list[str]:
    """Format the groups as lines for a terminal, at most `limit` of each kind."""
    if not leaks.repeated:
        return ["no near-duplicate pictures"]
    found = leaks.to_dict()
    lines = [
        f"pictures with a near-duplicate: {found['pictures']}, in {format_count(found['groups'], 'group')}; "
        f"exact copies of another picture: {found['exact_copies']}"
    ]
    for side in Side:
        across = leaks.across(side)
        if across:
            groups = "group" if len(across) == 1 else "groups"
            lines.append(f"{len(across)} {groups} across {side.value}: {CONSEQUENCES[side]}")
            lines += ["  " + "  =  ".join(map(_format_place, leak.pictures[:4])) for leak in across[:limit]]
            lines += [f"  and {len(across) - limit} more"] if len(across) > limit else []
    return lines


def plot_contact_sheet(groups: Sequence[Sequence[Picture]], path: Path, max_pixels: int) -> int:
    """Plot at most `SHEET_GROUPS` groups of near-duplicates into a PNG file, one in each row.

    Parameters
    ----------
    groups : at least one
    path : of the PNG
    max_pixels : int, larger pictures are not shown

    Returns
    -------
    int, number of groups plotted

    Raises
    ------
    UserError : the file cannot be written
    """
    drawn = list(groups)[:SHEET_GROUPS]
    columns = max(min(len(group), _PER_GROUP) for group in drawn)
    step = (_SIDE + _GAP, _SIDE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_GAP + columns * step[0], _GAP + len(drawn) * step[1]), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, group in enumerate(drawn):
        # One picture of each split and class comes first, because the sheet is made to compare these.
        sides = {(one.file.split, one.file.label): one for one in reversed(group)}
        first = sorted(sides.values(), key=lambda one: (one.file.split, one.file.label))
        shown = (first + [one for one in group if one not in first])[:_PER_GROUP]
        for column, picture in enumerate(shown):
            corner = (_GAP + column * step[0], _GAP + row * step[1])
            _plot_picture(sheet, pen, picture, corner, max_pixels)
    try:
        sheet.save(path, "PNG")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: {error.strerror}; name a file in a folder that exists") from error
    return len(drawn)


def _plot_picture(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int], max_pixels: int
) -> None:
    left, top = corner
    try:
        small = decode_picture(read_file(picture.file.path), max_pixels)
        small = ImageOps.contain(small, (_SIDE, _SIDE))
        sheet.paste(small, (left + (_SIDE - small.width) // 2, top + (_SIDE - small.height) // 2))
    except PictureError:
        pen.text((left + 4, top + _SIDE // 2), "not found", fill=_INK)
    for line, words in enumerate((f"{picture.file.split} {picture.file.label}", picture.file.image)):
        pen.text((left, top + _SIDE + 2 + 15 * line), _fit(pen, words), fill=_INK)


def _fit(pen: ImageDraw.ImageDraw, words: str) -> str:
    """Cut the start of a text until it fits the width of a picture, so that the file's name is kept."""
    words = (
        escape_untrusted(words).encode("latin-1", "replace").decode("latin-1")
    )  # the only characters in Pillow's built-in font
    while len(words) > 1 and pen.textlength(words) > _SIDE:
        words = words[1:]
    return words


def _to_dict(picture: Picture) -> dict:
    return {
        "path": str(picture.file.path),
        "image": picture.file.image,
        "split": picture.file.split,
        "class": picture.file.label,
        "sha256": picture.facts.sha256.hex(),
    }


def _format_place(picture: Picture) -> str:
    return f"{picture.file.path} ({picture.file.split}, {picture.file.label})"


def _format_count(leaks: Sequence[Leak]) -> str:
    """Format the number of groups across splits or classes, the consequence, and two pictures as an example."""
    groups = "group of near-duplicates is" if len(leaks) == 1 else "groups of near-duplicates are"
    side, (one, other) = leaks[0].across, leaks[0].pair
    pair = f"the first: {one.file.path} and {other.file.path}"
    return f"{len(leaks)} {groups} across {side.value}, so {CONSEQUENCES[side]}; {pair}"
