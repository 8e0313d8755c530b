"""Which pictures of a very large set keep what they look like: thumbnail and low frequencies.

The audit looks at a bounded number of them, and those of a million pictures would fill a good part
of a gigabyte. Of each class the pictures with the lowest hashes keep theirs: a fair draw, and the
same wherever they lie and in whatever order they are found.
"""

import heapq
from collections.abc import Sequence
from dataclasses import replace

from data_cards.facts import PictureFacts

MOST = 20_000  # pictures that keep it, half of them of each class


def drop_looks(facts: list[PictureFacts], labels: Sequence[str], most: int = MOST) -> None:
    """Take thumbnail and profile from the facts of all but `most` pictures, in place; `labels` are their classes."""
    for label in ("real", "fake"):
        having = [number for number, one in enumerate(facts) if one.thumbnail and labels[number] == label]
        if len(having) <= most // 2:
            continue
        highest = heapq.nsmallest(most // 2, (facts[number].sha256 for number in having))[-1]
        for number in having:
            if facts[number].sha256 > highest:
                facts[number] = replace(facts[number], thumbnail=b"", profile=b"")
