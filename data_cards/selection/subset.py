"""Random draw of a subset: a pure function of the pictures, the seed and the selection.

The same share of every split, class and source is drawn by a hash of (seed, picture): the draw does
not depend on the order of the pictures, and a smaller share is part of a larger one.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from data_cards.core.errors import UsageError, UserError
from data_cards.core.seeding import draw_key
from data_cards.core.value_types import convert_fields
from data_cards.dataset.table import Picture
from data_cards.selection.filters import filter_pictures
from data_cards.selection.matching import check_names, match_pictures


@dataclass(frozen=True)
class Selection:
    """The steps that select a subset, in the order in which they are applied.

    Attributes
    ----------
    where : conditions that pictures must meet, see `data_cards.selection.filters`
    max_per_source : int, largest number of pictures of a source in each split; None for all
    fraction : float, share of the pictures, above 0, at most 1
    balance : properties in which the classes are matched, see `data_cards.selection.matching`
    seed : int, of all draws
    """

    where: tuple[str, ...] = ()
    max_per_source: int | None = None
    fraction: float = 1.0
    balance: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        convert_fields(self)
        if not 0 < self.fraction <= 1:
            raise UsageError(f"--fraction {self.fraction}: expected above 0, at most 1")
        if self.max_per_source is not None and self.max_per_source < 1:
            raise UsageError(f"--max-per-source {self.max_per_source}: expected at least 1")
        if self.balance:
            check_names(self.balance)

    def to_dict(self) -> dict:
        return {**asdict(self), "where": list(self.where), "balance": list(self.balance)}


@dataclass(frozen=True)
class Subset:
    """A drawn subset.

    Attributes
    ----------
    pictures : in the order of the set
    steps : list of dict, for each requested step its name, `step`, and the number of pictures left, `pictures`
    remaining : AUROC with which the balanced properties still separate the classes; None if not balanced
    """

    pictures: list[Picture]
    steps: list[dict]
    remaining: float | None


def draw_subset(pictures: Sequence[Picture], selection: Selection) -> Subset:
    """Draw a subset.

    Raises
    ------
    UserError : no pictures are left
    """
    left, steps, remaining = list(pictures), [], None

    def record(step: str) -> None:
        steps.append({"step": step, "pictures": len(left)})

    record("found")
    if selection.where:
        left = filter_pictures(left, selection.where)
        record(" and ".join(selection.where))
    if selection.max_per_source is not None:
        left = _draw_per_source(left, selection.seed, lambda found: dict.fromkeys(found, selection.max_per_source))
        record(f"at most {selection.max_per_source} of a source and split")
    if selection.fraction < 1:
        left = _draw_per_source(left, selection.seed, lambda found: _share_out_fraction(found, selection.fraction))
        record(f"a fraction of {selection.fraction:g}")
    if selection.balance and left:
        match = match_pictures(left, selection.balance, selection.seed)
        left, remaining = match.pictures, match.remaining
        record(f"classes match in {', '.join(selection.balance)}")
    if not left:
        raise UserError(f"no picture is left: {'; '.join('{step}: {pictures}'.format(**one) for one in steps)}")
    return Subset(left, steps, remaining)


def _draw_per_source(
    pictures: list[Picture], seed: int, share_out: Callable[[dict[str, int]], dict[str, int]]
) -> list[Picture]:
    """Draw pictures from each source of a split and class; `share_out` maps counts to numbers to draw."""
    strata: dict = defaultdict(lambda: defaultdict(list))
    for picture in pictures:
        key = draw_key(seed, picture.facts.sha256, "subset"), picture.file.root, picture.file.image
        strata[picture.file.split, picture.file.label][picture.file.source].append(key)
    kept: set[tuple] = set()
    for sources in strata.values():
        counts = share_out({source: len(keys) for source, keys in sources.items()})
        kept.update(key[1:] for source, keys in sources.items() for key in sorted(keys)[: counts[source]])
    return [picture for picture in pictures if (picture.file.root, picture.file.image) in kept]


def _share_out_fraction(available: dict[str, int], fraction: float) -> dict[str, int]:
    """Share out a fraction by largest remainders: exact for the class, within one picture for each source."""
    exact = {source: fraction * count for source, count in available.items()}
    counts = {source: int(share) for source, share in exact.items()}
    missing = max(round(sum(exact.values())), 1) - sum(counts.values())
    for source in sorted(exact, key=lambda one: (counts[one] - exact[one], one))[:missing]:
        counts[source] += 1
    return counts
