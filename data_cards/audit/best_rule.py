"""Which single property tells the classes apart best, and that in words.

For each property the best single rule is looked for: one category, or one cut. It is judged by the
difference of the classes' shares that obey it (Youden's J), 0 for no difference, 1 for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.audit.properties import Property


@dataclass(frozen=True)
class Telling:
    """A property's best single rule.

    Attributes
    ----------
    name : of the property
    difference : of the shares of the two classes that obey the rule, 0 to 1
    words : the rule and the shares, such as "all fakes are PNG, no real pictures are"
    """

    name: str
    difference: float
    words: str


def find_most_telling(properties: Sequence[Property], labels: np.ndarray) -> list[Telling]:
    """Every property's best rule, the most telling first; labels int (N,), 0 real, 1 fake."""
    found = [_find_best_category(one, labels) if one.is_category else _find_best_cut(one, labels) for one in properties]
    # Of equals the property listed first is the plainest.
    return sorted(found, key=lambda one: -round(one.difference, 6))


def _find_best_category(one: Property, labels: np.ndarray) -> Telling:
    words = one.values.astype(str)
    best = None
    for value in np.unique(words):
        has = words == value
        fake, real = has[labels == 1].mean(), has[labels == 0].mean()
        # Rather what fakes have than what they lack.
        rank = (round(abs(fake - real), 9), fake > real)
        if best is None or rank > best[0]:
            best = rank, value, fake, real
    rank, value, fake, real = best
    return Telling(one.name, float(rank[0]), _write(one.phrase.format(value), fake, real))


def _find_best_cut(one: Property, labels: np.ndarray) -> Telling:
    known = ~np.isnan(one.values)
    cuts = np.unique(one.values[known])
    if not len(cuts):
        return Telling(one.name, 0.0, f"no picture has a {one.name}")
    shares = []
    for label in (1, 0):
        own = np.sort(one.values[known & (labels == label)])
        count = max((labels == label).sum(), 1)
        above = (len(own) - np.searchsorted(own, cuts, side="left")) / count
        below = np.searchsorted(own, cuts, side="right") / count
        shares.append(np.concatenate([above, below]))
    fake, real = shares
    best = int(np.argmax(fake - real))
    cut = cuts[best % len(cuts)]
    rule = f"{_write_number(cut)} {'or more' if best < len(cuts) else 'or less'}"
    return Telling(one.name, float(fake[best] - real[best]), _write(one.phrase.format(rule), fake[best], real[best]))


def _write(predicate: str, fake: float, real: float) -> str:
    verb = predicate.split()[0]
    fakes, reals = _write_share(fake, "fakes"), _write_share(real, "real pictures")
    if real > fake:
        return f"{reals} {predicate}, {fakes} {verb}"
    return f"{fakes} {predicate}, {reals} {verb}"


def _write_share(share: float, what: str) -> str:
    if share in (0, 1):
        return f"{'all' if share else 'no'} {what}"
    # "0%" and "100%" are kept for none and all.
    return f"{min(max(100 * share, 1), 99):.0f}% of {what}"


def _write_number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.2f}"
