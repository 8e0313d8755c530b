"""The training pictures and sources that a subset keeps of a set."""

from collections import Counter
from collections.abc import Sequence

from data_cards.core.labels import CLASS_NAMES, TEST
from data_cards.dataset.table import Picture, list_training_sources

_FEWEST_PICTURES, _FEWEST_SOURCES = 100, 3  # to train on: of both classes, and of each


def count_training_sources(pictures: Sequence[Picture]) -> dict[str, int]:
    """Return the number of training sources of each class."""
    counts = Counter(label for label, _ in list_training_sources(pictures))
    return {label: counts[label] for label in CLASS_NAMES}


def format_lost_sources(pictures: Sequence[Picture], kept: Sequence[Picture]) -> str | None:
    """Format what a subset loses for training; None if it keeps all sources and enough pictures, or only test pictures.

    Parameters
    ----------
    pictures : of the set
    kept : those of the subset
    """
    before, after = count_training_sources(pictures), count_training_sources(kept)
    trained = [sum(one.file.split != TEST for one in group) for group in (pictures, kept)]
    if not trained[1]:
        return None
    parts = []
    if trained[1] < _FEWEST_PICTURES <= trained[0]:
        parts.append(f"fewer than {_FEWEST_PICTURES} training pictures are too few to train on")
    if before != after:
        left = " and ".join(f"{after[label]} of {before[label]} {label}" for label in CLASS_NAMES)
        effect = "more verdicts are unsure and detection is worse"
        if min(after.values()) < _FEWEST_SOURCES:
            effect = "a detector may be no better than guessing"
        if min(after.values()) < 2:
            effect = "every verdict is unsure"
        parts.append(f"only {left} training sources are left; with fewer sources, {effect}, so add sources instead")
    return "; ".join(parts) or None
