"""Pictures that stand on two sides: near-duplicates in more than one split, or in both classes.

Across splits they make test scores flatter than the truth; across classes one of the two labels
is wrong, or the picture cannot be told by its class. The hashes decide what a near-duplicate
is (`data_cards.hashes`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from data_cards.decode import decode_picture
from data_cards.errors import PictureError, UserError
from data_cards.files import read_file
from data_cards.pictures import Picture

SHEET_GROUPS = 40  # drawn on a contact sheet at most
_PER_GROUP = 6
_SIDE, _CAPTION, _GAP = 160, 34, 8
_PAPER, _INK = (250, 250, 250), (20, 20, 20)


@dataclass(frozen=True)
class Leaks:
    """Near-duplicate groups of a set; each group lists its pictures in order of split, class and path.

    Attributes
    ----------
    repeated : all groups of more than one picture
    across_splits : those that stand in more than one split
    across_classes : those that hold both classes
    """

    repeated: list[list[Picture]]
    across_splits: list[list[Picture]]
    across_classes: list[list[Picture]]

    @property
    def worst(self) -> list[list[Picture]]:
        """Groups across splits, then those across classes alone."""
        seen = {id(group) for group in self.across_splits}
        return self.across_splits + [group for group in self.across_classes if id(group) not in seen]

    def as_json(self, limit: int | None = None) -> dict:
        """Counts, and the pictures of at most `limit` groups of each kind."""
        return {
            "groups": len(self.repeated),
            "pictures": sum(map(len, self.repeated)),
            "exact_copies": sum(
                len(group) - len({picture.facts.sha256 for picture in group}) for group in self.repeated
            ),
            "groups_across_splits": len(self.across_splits),
            "groups_across_classes": len(self.across_classes),
            "across_splits": [[_name(one) for one in group] for group in self.across_splits[:limit]],
            "across_classes": [[_name(one) for one in group] for group in self.across_classes[:limit]],
        }


def find_leaks(pictures: Sequence[Picture]) -> Leaks:
    """Sort the near-duplicate groups of a set by which sides they stand on."""
    numbers = np.fromiter((picture.group for picture in pictures), np.int64, len(pictures))
    found, count = np.unique(numbers, return_counts=True)
    # Only of those that are repeated are the pictures held: of a million that would take a gigabyte.
    groups: dict[int, list[Picture]] = {}
    for index in np.flatnonzero(np.isin(numbers, found[count > 1])).tolist():
        groups.setdefault(int(numbers[index]), []).append(pictures[index])
    repeated = [
        sorted(members, key=lambda one: (one.file.split, one.file.label, one.file.root, one.file.image))
        for members in groups.values()
    ]
    repeated.sort(key=lambda members: (members[0].file.root, members[0].file.image))
    return Leaks(
        repeated,
        [members for members in repeated if len({one.file.split for one in members}) > 1],
        [members for members in repeated if len({one.file.label for one in members}) > 1],
    )


def describe_leaks(leaks: Leaks, limit: int = 10) -> list[str]:
    """What was found, as lines for a terminal; `limit` groups of each kind are listed."""
    if not leaks.repeated:
        return ["no near-duplicate pictures"]
    found = leaks.as_json(limit)
    lines = [
        f"{found['pictures']} pictures have a near-duplicate, in {found['groups']} groups "
        f"({found['exact_copies']} are exact copies of another)"
    ]
    kinds = (("splits", "test scores will flatter"), ("classes", "a label is wrong, or tells nothing"))
    for kind, meaning in kinds:
        count, listed = found[f"groups_across_{kind}"], found[f"across_{kind}"]
        if count:
            lines.append(f"{count} {'group stands' if count == 1 else 'groups stand'} across {kind}: {meaning}")
            lines += ["  " + "  =  ".join(_place(one) for one in group[:4]) for group in listed]
            lines += [f"  and {count - len(listed)} more"] if count > len(listed) else []
    return lines


def draw_contact_sheet(groups: Sequence[Sequence[Picture]], path: Path, max_pixels: int) -> int:
    """Draw groups of near-duplicates to a PNG, a row each, at most `SHEET_GROUPS`; returns how many were drawn.

    Raises
    ------
    UserError : there is none to draw, or the file cannot be written
    """
    drawn = list(groups)[:SHEET_GROUPS]
    if not drawn:
        raise UserError("no near-duplicates stand across splits or classes, so there is no contact sheet to draw")
    columns = max(min(len(group), _PER_GROUP) for group in drawn)
    step = (_SIDE + _GAP, _SIDE + _CAPTION + _GAP)
    sheet = Image.new("RGB", (_GAP + columns * step[0], _GAP + len(drawn) * step[1]), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, group in enumerate(drawn):
        # One of each side first: that is what the sheet is for.
        sides = {(one.file.split, one.file.label): one for one in reversed(group)}
        first = sorted(sides.values(), key=lambda one: (one.file.split, one.file.label))
        shown = (first + [one for one in group if one not in first])[:_PER_GROUP]
        for column, picture in enumerate(shown):
            corner = (_GAP + column * step[0], _GAP + row * step[1])
            _draw_picture(sheet, pen, picture, corner, max_pixels)
    try:
        sheet.save(path, "PNG")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{path}: {error.strerror}; name a file in a folder that is there") from error
    return len(drawn)


def _draw_picture(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, picture: Picture, corner: tuple[int, int], max_pixels: int
) -> None:
    left, top = corner
    try:
        small = decode_picture(read_file(picture.file.path), max_pixels)
        small = ImageOps.contain(small, (_SIDE, _SIDE))
        sheet.paste(small, (left + (_SIDE - small.width) // 2, top + (_SIDE - small.height) // 2))
    except PictureError:
        pen.text((left + 4, top + _SIDE // 2), "not at hand", fill=_INK)
    for line, words in enumerate((f"{picture.file.split} {picture.file.label}", picture.file.image)):
        pen.text((left, top + _SIDE + 2 + 15 * line), _fit(pen, words), fill=_INK)


def _fit(pen: ImageDraw.ImageDraw, words: str) -> str:
    """The end of a text that is as wide as a picture: of a path, the file's name."""
    words = words.encode("latin-1", "replace").decode("latin-1")  # Pillow's own font knows no more
    while len(words) > 1 and pen.textlength(words) > _SIDE:
        words = words[1:]
    return words


def _name(picture: Picture) -> dict:
    return {
        "path": str(picture.file.path),
        "image": picture.file.image,
        "split": picture.file.split,
        "class": picture.file.label,
        "sha256": picture.facts.sha256.hex(),
    }


def _place(one: dict) -> str:
    return f"{one['path']} ({one['split']}, {one['class']})"
