"""Drawing a subset: a pure function of the pictures, the seed and the selection.

A share is drawn of every split, class and source alike, by a hash of (seed, picture): the same
pictures whatever the order, and a smaller share is part of a larger one.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from data_cards.core.errors import UsageError, UserError
from data_cards.core.seeding import draw_key
from data_cards.dataset.table import Picture
from data_cards.selection.filters import filter_pictures
from data_cards.selection.matching import check_names, match_pictures


@dataclass(frozen=True)
class Selection:
    """What makes a subset, in the order in which it is applied.

    Attributes
    ----------
    where : conditions that pictures must meet
    max_per_source : at most so many pictures of a source, in each split; None for all
    fraction : share of the pictures, above 0, at most 1
    balance : properties in which the classes are made to match
    seed : of everything drawn
    """

    where: tuple[str, ...] = ()
    max_per_source: int | None = None
    fraction: float = 1.0
    balance: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise UsageError(f"fraction {self.fraction}: expected above 0, at most 1")
        if self.max_per_source is not None and self.max_per_source < 1:
            raise UsageError(f"max per source {self.max_per_source}: expected at least 1")
        if self.balance:
            check_names(self.balance)

    def to_dict(self) -> dict:
        return {**asdict(self), "where": list(self.where), "balance": list(self.balance)}


@dataclass(frozen=True)
class Drawn:
    """A drawn subset.

    Attributes
    ----------
    pictures : in the order given
    steps : after each step that was asked for, its name and the number of pictures then left
    remaining : AUROC with which the balanced properties still tell the classes apart; None where not balanced
    """

    pictures: list[Picture]
    steps: list[tuple[str, int]]
    remaining: float | None


def draw_subset(pictures: Sequence[Picture], selection: Selection) -> Drawn:
    """Draw a subset.

    Raises
    ------
    UserError : no picture is left
    """
    left, steps, remaining = list(pictures), [("found", len(pictures))], None
    if selection.where:
        left = filter_pictures(left, selection.where)
        steps.append((" and ".join(selection.where), len(left)))
    if selection.max_per_source is not None:
        left = _draw_most(left, selection.max_per_source, selection.seed)
        steps.append((f"at most {selection.max_per_source} of a source and split", len(left)))
    if selection.fraction < 1:
        left = _draw_fraction(left, selection.fraction, selection.seed)
        steps.append((f"a fraction of {selection.fraction:g}", len(left)))
    if selection.balance and left:
        match = match_pictures(left, selection.balance, selection.seed)
        left, remaining = match.pictures, match.remaining
        steps.append((f"classes match in {', '.join(selection.balance)}", len(left)))
    if not left:
        raise UserError(f"no picture is left: {'; '.join(f'{name}: {count}' for name, count in steps)}")
    return Drawn(left, steps, remaining)


def _strata(pictures: Sequence[Picture]) -> dict[tuple[str, str], dict[str, list[int]]]:
    strata: dict = defaultdict(lambda: defaultdict(list))
    for number, picture in enumerate(pictures):
        strata[picture.file.split, picture.file.label][picture.file.source].append(number)
    return strata


def _draw_most(pictures: list[Picture], most: int, seed: int) -> list[Picture]:
    kept: list[int] = []
    for sources in _strata(pictures).values():
        for numbers in sources.values():
            kept += _first(pictures, numbers, most, seed)
    return [pictures[number] for number in sorted(kept)]


def _draw_fraction(pictures: list[Picture], fraction: float, seed: int) -> list[Picture]:
    kept: list[int] = []
    for sources in _strata(pictures).values():
        exact = {source: fraction * len(numbers) for source, numbers in sources.items()}
        counts = {source: int(share) for source, share in exact.items()}
        # Largest remainders: a split's class gets its share to the picture, each source its own to within one.
        missing = max(round(sum(exact.values())), 1) - sum(counts.values())
        for source in sorted(exact, key=lambda one: (counts[one] - exact[one], one))[:missing]:
            counts[source] += 1
        for source, numbers in sources.items():
            kept += _first(pictures, numbers, counts[source], seed)
    return [pictures[number] for number in sorted(kept)]


def _first(pictures: list[Picture], numbers: list[int], count: int, seed: int) -> list[int]:
    def place(number: int) -> tuple:
        picture = pictures[number]
        return draw_key(seed, picture.facts.sha256, "subset"), picture.file.root, picture.file.image

    return sorted(numbers, key=place)[:count]
