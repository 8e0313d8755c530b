"""Single rule on a property that best separates the classes: one category, or one threshold.

Rules are ranked by the difference between the shares of the classes that obey them (Youden's J), from 0 to 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.audit.properties import AWAY, BOTH, LESS, MORE, Property
from data_cards.core.labels import CLASS_NAMES


@dataclass(frozen=True)
class Rule:
    """A property's best single rule.

    Attributes
    ----------
    name : str, of the property
    difference : float, of the two shares, 0 to 1
    predicate : str, of the pictures that obey the rule: "are PNG"
    real, fake : float, share of each class that obeys the rule, 0 to 1
    """

    name: str
    difference: float
    predicate: str
    real: float
    fake: float

    def to_dict(self) -> dict:
        return {"name": self.name, "difference": self.difference, "words": format_rule(self)}


def format_rule(rule: Rule) -> str:
    """Format a rule as a sentence such as "all fakes and no real pictures are PNG"."""
    shares = [(rule.fake, "fakes"), (rule.real, "real pictures")]
    more, less = [_format_share(*one) for one in (shares[::-1] if rule.real > rule.fake else shares)]
    return f"{more} and {less} {rule.predicate}"


def find_best_rules(properties: Sequence[Property], labels: np.ndarray) -> list[Rule]:
    """Find the best rule on each property, ordered by difference, the largest first.

    Parameters
    ----------
    properties : of N pictures; properties that no picture has are left out
    labels : int (N,), 0 real, 1 fake
    """
    found = [
        _find_best_category(one, labels) if one.is_category else _find_best_threshold(one, labels)
        for one in properties
        if one.is_category or not np.isnan(one.values).all()
    ]
    # The sort is stable: among equal rules, the property listed first, the plainest, comes first.
    return sorted(found, key=lambda rule: -round(rule.difference, 6))


def _find_best_category(one: Property, labels: np.ndarray) -> Rule:
    words = one.values.astype(str)
    best = None
    for value in np.unique(words):
        has = words == value
        real, fake = (float(has[labels == label].mean()) for label in range(len(CLASS_NAMES)))
        # Of two equal rules, the one that more fakes obey is preferred.
        rank = (round(abs(fake - real), 9), fake > real)
        if best is None or rank > best[0]:
            best = rank, Rule(one.name, rank[0], one.phrase.format(value), real, fake)
    return best[1]


def _find_best_threshold(one: Property, labels: np.ndarray) -> Rule:
    known = ~np.isnan(one.values)
    thresholds = np.unique(one.values[known])
    shares = []
    for label in range(len(CLASS_NAMES)):
        own = np.sort(one.values[known & (labels == label)])
        count = max((labels == label).sum(), 1)
        above = (len(own) - np.searchsorted(own, thresholds, side="left")) / count
        below = np.searchsorted(own, thresholds, side="right") / count
        shares.append(np.concatenate([above, below]))
    real, fake = shares
    difference = fake - real
    best = int(np.argmax(np.where(_has_meaning(one.side, thresholds, difference), np.abs(difference), -1)))
    is_above, threshold = best < len(thresholds), thresholds[best % len(thresholds)]
    if one.side == AWAY:
        predicate = one.phrase.format(f"at least {_format_number(abs(threshold))}", "above" if is_above else "below")
    else:
        predicate = one.phrase.format(f"at {'least' if is_above else 'most'} {_format_number(threshold)}")
    return Rule(one.name, float(abs(difference[best])), predicate, float(real[best]), float(fake[best]))


def _has_meaning(side: str, thresholds: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Return which rules a property's phrase gives a meaning to, bool (2 T,): T of "at least", then T of "at most".

    Of both sides of a threshold, the one that more fakes are on is named.
    """
    above, below = np.ones((2, len(thresholds)), bool)
    if side == BOTH:
        return difference >= 0
    if side == AWAY:
        above, below = thresholds >= 0, thresholds < 0
    return np.concatenate([above & (side != LESS), below & (side != MORE)])


def _format_share(share: float, what: str) -> str:
    if share in (0, 1):
        return f"{'all' if share else 'no'} {what}"
    # "0%" and "100%" are kept for none and all.
    return f"{min(max(100 * share, 1), 99):.0f}% of {what}"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) >= 1 else f"{round(value, 2) + 0.0:.2f}"  # never -0.00
