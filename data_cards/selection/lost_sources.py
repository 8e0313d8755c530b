"""The training sources that a subset keeps of a set."""

from collections import Counter
from collections.abc import Sequence

from data_cards.core.labels import CLASS_NAMES, TEST
from data_cards.dataset.table import Picture, list_training_sources


def count_training_sources(pictures: Sequence[Picture]) -> dict[str, int]:
    """Return the number of training sources of each class."""
    counts = Counter(label for label, _ in list_training_sources(pictures))
    return {label: counts[label] for label in CLASS_NAMES}


def format_lost_sources(pictures: Sequence[Picture], kept: Sequence[Picture]) -> str | None:
    """Format how many training sources a subset keeps; None if it keeps all, or only test pictures.

    Parameters
    ----------
    pictures : of the set
    kept : those of the subset
    """
    before, after = count_training_sources(pictures), count_training_sources(kept)
    if before == after or all(one.file.split == TEST for one in kept):
        return None
    left = " and ".join(f"{after[label]} of {before[label]} {label}" for label in CLASS_NAMES)
    effect = "every verdict is unsure" if min(after.values()) < 2 else "more verdicts are unsure and detection is worse"
    return f"only {left} training sources are left; with fewer sources, {effect}, so add sources instead"
