"""Chosen pictures as a set of their own, as a scan of their folder would find them."""

from collections.abc import Sequence

from data_cards.dataset.histories import add_histories
from data_cards.dataset.table import Picture, PictureTable
from data_cards.image.perceptual_hash import group_near_duplicates


def gather_set(
    pictures: Sequence[Picture], *, max_pixels: int, cache: bool = True
) -> tuple[PictureTable, list[Picture]]:
    """Gather chosen pictures, find their near-duplicate groups, and read their histories.

    Near-duplicates are linked by chosen pictures alone, and the pictures for "earlier processing" are drawn from the
    chosen ones. So an audit of the result equals an audit of a folder that holds these pictures.

    Parameters
    ----------
    pictures : chosen from a scan or a store
    max_pixels, cache : as for `data_cards.dataset.scan.scan_sources`

    Returns
    -------
    the set, and the drawn pictures whose history could not be read, because their file is missing or has changed
    """
    chosen = PictureTable(pictures)
    chosen.set_groups(group_near_duplicates(chosen.phashes))
    return chosen, add_histories(chosen, max_pixels=max_pixels, cache=cache)
