"""Scan of a set of pictures: every file found, its facts and its near-duplicate group.

The result depends neither on the order of the file system nor on the number of threads.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from data_cards.archives.place import read_file, read_status
from data_cards.core.console import note, progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import escape_undecodable, is_unicode
from data_cards.dataset.find import find_files
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.listing import LeftOut, format_left_out
from data_cards.dataset.scan_cache import ScanCache, find_cache_folder
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.table import MOST_THUMBNAILS, PictureTable
from data_cards.image.bounds import check_pixels
from data_cards.image.facts import PictureFacts, compute_facts
from data_cards.image.partial import FRAMES, PAGES, format_unused_counts
from data_cards.image.perceptual_hash import group_near_duplicates


@dataclass(frozen=True, slots=True)
class SetAside:
    """A picture file that cannot be used, and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class PictureSet:
    """The result of a scan.

    Attributes
    ----------
    pictures : PictureTable, in order of root and path
    set_aside : list of SetAside, picture files that cannot be used
    roots : frozenset of str, folders of all files, also of those set aside
    left_out : list of LeftOut, files below the folders that are not pictures or have no place in the set
    """

    pictures: PictureTable
    set_aside: list[SetAside]
    roots: frozenset[str] = frozenset()
    left_out: list[LeftOut] = field(default_factory=list)


def scan_sources(
    sources: Iterable[str],
    settings: SetSettings | None = None,
    *,
    max_pixels: int,
    threads: int = 0,
    cache: bool = True,
    all_thumbnails: bool = False,
) -> PictureSet:
    """Find, read and group the pictures of one or several `--src`; the splits are those of the folders.

    Parameters
    ----------
    sources : of str, folders, or `[SPLIT/]CLASS=FOLDER`
    settings : how folders and tables are interpreted
    max_pixels : int, larger pictures are set aside
    threads : int, number of threads that read files; 0 for one for each core
    cache : bool, whether to use the cache of facts in the user's cache folder (`data_cards.dataset.scan_cache`)
    all_thumbnails : bool, whether to keep every picture's thumbnail and profile, not only as many as an audit uses

    Raises
    ------
    UserError : a folder is missing, empty or has unknown names; no picture can be used
    """
    found = find_files(list(sources), settings)
    for line in format_left_out(found.left_out):
        note(line)
    files = found.files
    with closing(ScanCache(find_cache_folder() if cache else None)) as remembered:
        read = _read_all(files, max_pixels, threads or count_cores(), remembered)
        read = progress_bar(read, what="scan", unit="pictures", total=len(files))
        collected = replace(collect_pictures(read, all_thumbnails), left_out=found.left_out)
    counts = collected.pictures.count_unused()
    if line := format_unused_counts(counts[FRAMES], counts[PAGES]):
        note(line)
    return collected


def collect_pictures(
    read: Iterable[tuple[PictureFile, PictureFacts | PictureError]], all_thumbnails: bool = False
) -> PictureSet:
    """Collect the facts of files as a set, and find its near-duplicate groups; see `scan_sources`."""
    pictures, set_aside, roots = PictureTable(), [], set()
    for file, facts in read:
        roots.add(file.root)
        if isinstance(facts, PictureError):
            set_aside.append(SetAside(escape_undecodable(str(file.path)), str(facts)))
            continue
        pictures.add(file, facts)
        if len(pictures) % MOST_THUMBNAILS == 0 and not all_thumbnails:
            pictures.subsample_thumbnails()
    if not pictures:
        first = set_aside[0]
        raise UserError(f"no usable picture among {len(set_aside)} files; the first: {first.path}: {first.reason}")
    pictures.set_groups(group_near_duplicates(pictures.phashes))
    return PictureSet(pictures, set_aside, frozenset(roots))


def _read_all(files: list[PictureFile], max_pixels: int, threads: int, cache: ScanCache) -> Iterator[tuple]:
    # Threads suffice, because decoding and hashing release Python's lock. A window bounds the memory of results.
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque = deque()
        rest = iter(files)
        for file in islice(rest, 4 * threads):
            waiting.append((file, pool.submit(_read_one, file, max_pixels, cache)))
        while waiting:
            file, future = waiting.popleft()
            for following in islice(rest, 1):
                waiting.append((following, pool.submit(_read_one, following, max_pixels, cache)))
            yield file, future.result()


def _read_one(file: PictureFile, max_pixels: int, cache: ScanCache) -> PictureFacts | PictureError:
    if not is_unicode(str(file.path)):
        return PictureError("its name is not UTF-8; rename it")
    try:
        facts = _read_facts(file.path, max_pixels, cache)
        # Remembered facts may have been read under another limit.
        check_pixels(facts.width, facts.height, max_pixels)
        return facts
    except PictureError as error:
        return error


def _read_facts(path: Path, max_pixels: int, cache: ScanCache) -> PictureFacts:
    status = read_status(path)
    facts = cache.find(path, status)
    if facts is None:
        data = read_file(path)
        sha256 = hashlib.sha256(data).digest()
        facts = cache.find_by_hash(sha256) or compute_facts(data, sha256, max_pixels)
        cache.add(path, status, facts)
    return facts
