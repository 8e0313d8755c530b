"""Which pictures of a very large set keep what they look like: thumbnail and low frequencies.

The audit looks at a bounded number of them, and those of a million pictures would fill a good part
of a gigabyte. Of each class the pictures with the lowest hashes keep theirs: a fair draw, and the
same wherever they lie and in whatever order they are found.
"""

import heapq

from data_cards.labels import CLASS_NAMES
from data_cards.pictures import PictureTable

MOST = 20_000  # pictures that keep it, half of them of each class


def drop_looks(pictures: PictureTable, most: int = MOST) -> None:
    """Take thumbnail and profile from all but `most` pictures, in place."""
    having: dict[str, list[tuple[bytes, int]]] = {label: [] for label in CLASS_NAMES}
    for number in pictures.looks():
        picture = pictures[number]
        having[picture.file.label].append((picture.facts.sha256, number))
    for own in having.values():
        if len(own) > most // 2:
            highest = heapq.nsmallest(most // 2, own)[-1][0]
            for sha256, number in own:
                if sha256 > highest:
                    pictures.drop_look(number)
