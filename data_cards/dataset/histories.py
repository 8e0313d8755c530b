"""Histories of some pictures of a set (`data_cards.image.history`), read from all of their pixels.

A scan decodes JPEG at a reduced scale, which removes the history. So before an audit a bounded number of pictures is
read once more.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

from data_cards.archives.place import read_status
from data_cards.core.console import progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError
from data_cards.core.labels import CLASS_NAMES
from data_cards.dataset.scan_cache import ScanCache, find_cache_folder
from data_cards.dataset.table import FEWEST_AUDITED, Picture, PictureTable
from data_cards.image.facts import read_history
from data_cards.image.history import SMALLEST

MOST_HISTORIES = 600  # pictures of a set whose history is read, half of them of each class


def add_histories(pictures: PictureTable, *, max_pixels: int, threads: int = 0, cache: bool = True) -> list[Picture]:
    """Add the histories of at most `MOST_HISTORIES` pictures, those with the lowest hashes, and drop all others.

    A set that is too small to be audited gets no histories.

    The draw depends neither on folders nor on order; when a set grows, pictures that are still drawn keep their
    histories. A picture whose file is missing or has changed, such as in old folders of a store, keeps its history.

    Parameters
    ----------
    pictures : of a set; changed in place
    max_pixels, threads, cache : as for `data_cards.dataset.scan.scan_sources`

    Returns
    -------
    the drawn pictures whose history could not be read
    """
    counts = Counter(picture.file.label for picture in pictures)
    if min(counts[label] for label in CLASS_NAMES) < FEWEST_AUDITED:
        pictures.set_histories({})
        return []
    drawn = pictures.draw_fairly(range(len(pictures)), MOST_HISTORIES)
    with (
        closing(ScanCache(find_cache_folder() if cache else None)) as remembered,
        ThreadPoolExecutor(threads or count_cores()) as pool,
    ):
        read = pool.map(lambda number: _read_one(pictures[number], max_pixels, remembered), drawn)
        read = progress_bar(read, what="earlier processing", unit="pictures", total=len(drawn))
        found = dict(zip(drawn, read, strict=True))
        pictures.set_histories({number: history for number, history in found.items() if history})
    return [pictures[number] for number, history in found.items() if history is None]


def _read_one(picture: Picture, max_pixels: int, cache: ScanCache) -> bytes | None:
    """Return a picture's history; empty if it is too small to have one, None if its file cannot be read."""
    if picture.facts.history:
        return picture.facts.history
    if min(picture.facts.width, picture.facts.height) < SMALLEST:
        return b""
    path, sha256 = picture.file.path, picture.facts.sha256
    try:
        status = read_status(path)
        remembered = cache.find(path, status)
        if remembered and remembered.history and remembered.sha256 == sha256:
            return remembered.history
        history = read_history(path, sha256, max_pixels)
    except PictureError:
        return None
    if remembered and remembered.sha256 == sha256:
        cache.add(path, status, replace(remembered, history=history))
    return history
