"""A set of pictures: every file found, its facts and its near-duplicate group.

The result does not depend on the order of the file system nor on the number of threads.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data_cards.core.console import progress
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import read_file
from data_cards.dataset.layout import PictureFile, escape_undecodable, find_pictures, is_unicode
from data_cards.dataset.scan_cache import ScanCache, find_cache_folder
from data_cards.dataset.table import MOST_THUMBNAILS, PictureTable
from data_cards.image.decode import check_pixels
from data_cards.image.facts import PictureFacts, compute_facts
from data_cards.image.perceptual_hash import group_near_duplicates


@dataclass(frozen=True, slots=True)
class SetAside:
    """A picture file that cannot be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class PictureSet:
    """All that a scan found. `pictures` are in order of root and path."""

    pictures: PictureTable
    set_aside: list[SetAside]


def scan_sources(
    sources: Iterable[str],
    *,
    max_pixels: int,
    threads: int = 0,
    cache: bool = True,
    all_thumbnails: bool = False,
) -> PictureSet:
    """Find, read and group the pictures of one or several `--src`; splits are those of the folders.

    Parameters
    ----------
    sources : folders, or `[SPLIT/]CLASS=FOLDER`
    max_pixels : larger pictures are set aside
    threads : that read files; 0 takes one a core
    cache : remember what files are in the user's cache folder (`data_cards.dataset.scan_cache`), and look there first
    all_thumbnails : keep every picture's thumbnail and profile, not only as many as an audit looks at

    Raises
    ------
    UserError : a folder is missing, empty or not understood; no usable picture
    """
    files = _drop_repeated(file for source in sources for file in find_pictures(source))
    with closing(ScanCache(find_cache_folder() if cache else None)) as remembered:
        read = _read_all(files, max_pixels, threads or count_cores(), remembered)
        return collect_pictures(progress(read, what="scan", unit="pictures", total=len(files)), all_thumbnails)


def collect_pictures(
    read: Iterable[tuple[PictureFile, PictureFacts | PictureError]], all_thumbnails: bool = False
) -> PictureSet:
    """The set of what was read of files, with its near-duplicate groups; see `scan_sources`."""
    pictures, set_aside = PictureTable(), []
    for file, facts in read:
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
    return PictureSet(pictures, set_aside)


def _drop_repeated(files: Iterable[PictureFile]) -> list[PictureFile]:
    """Each file once, though folders given twice may hold it twice; two different classes are an error."""
    seen: dict[str, PictureFile] = {}
    for file in files:
        path = os.path.realpath(file.path)
        before = seen.setdefault(path, file)
        if (before.label, before.split) != (file.label, file.split):
            raise UserError(
                f"{path}: found twice, as {before.split}/{before.label} and as {file.split}/{file.label}; "
                "give each folder to one --src only"
            )
    return sorted(seen.values(), key=lambda file: (file.root, file.image))


def _read_all(files: list[PictureFile], max_pixels: int, threads: int, cache: ScanCache) -> Iterator[tuple]:
    # Threads are enough: decoding and hashing let go of Python's lock. A window bounds what waits.
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
    facts = cache.find(file.path)
    try:
        if facts is None:
            facts = _read_uncached(file.path, max_pixels, cache)
        # One that is remembered may have been read under another limit.
        check_pixels(facts.width, facts.height, max_pixels)
        return facts
    except PictureError as error:
        return error


def _read_uncached(path: Path, max_pixels: int, cache: ScanCache) -> PictureFacts:
    try:
        status = path.stat()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
    data = read_file(path)
    sha256 = hashlib.sha256(data).digest()
    facts = cache.find_hash(sha256) or compute_facts(data, sha256, max_pixels)
    cache.add(path, status, facts)
    return facts
