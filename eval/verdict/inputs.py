"""Files to be judged, in order: from pictures, clips, folders, archives, globs, or a list on stdin.

In a folder, a picture or clip is recognised by its suffix, else by its first bytes.
"""

import glob
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from data_cards.archives.archive import ArchiveError
from data_cards.core.errors import UsageError, UserError
from data_cards.core.kind import Kind, find_kind, format_progress, is_unfinished
from data_cards.core.split_paths import find_split_paths
from data_cards.dataset.listing import LeftOut, walk_files
from data_cards.dataset.packed import is_archive, list_archive
from data_cards.image.signature import find_format, has_picture_suffix, read_head
from eval.verdict.video import CONTAINER_START, find_container

# Of clips, for searching a folder; the container itself is recognised by its first bytes.
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .ogv .flv .3gp .wmv".split())

_OTHERS = "that are neither pictures nor clips"
_OF_RUNS = "of a run"
_NOT_PICTURES = {  # kinds of folders, and what to do with them
    Kind.STORE: "`report --store {0}` scores the pictures of a store",
    Kind.RUN: "give a run as --run {0}, before the pictures to judge",
}
_BESIDE_PICTURES = "packed beside pictures (predict ARCHIVE judges the pictures in an archive)"


@dataclass(frozen=True)
class Input:
    """One file to be judged, or an error in its place.

    Attributes
    ----------
    path : str, as given, or as found in a folder or by a glob; a member of an archive below the archive's own path
    error : str or None, None if the file can be read
    """

    path: str
    error: str | None = None


def find_inputs(
    arguments: Iterable[str | Path],
    stdin: BinaryIO | None = None,
    *,
    null: bool = False,
    left_out: list[LeftOut] | None = None,
) -> list[Input]:
    """List the files that the arguments name, in their order; an argument without a file gets an error.

    Parameters
    ----------
    arguments : iterable of str or Path: files; folders and archives (zip, tar, Parquet), for every picture and clip in
        them, following links to folders; globs, unless a file has that name ("**" matches nested folders); "-" for a
        list on `stdin`
    stdin : binary file or None; if None, "-" is a file name
    null : bool, whether names on `stdin` end with a zero byte, as `find -print0` writes them, or with a line end
    left_out : list or None, receives the files of folders that are not pictures or clips
    """
    find = _Finder([] if left_out is None else left_out)
    found = []
    arguments = [os.fspath(one) for one in arguments]
    questions = find_split_paths(arguments)
    for number, argument in enumerate(arguments):
        if number in questions:
            found.append(Input(argument, f"does not exist; {questions[number]}"))
        elif argument == "-" and stdin is not None:
            found += [one for name in _read_names(stdin, null) for one in find.expand(name)]
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            found += [one for match in matches for one in find.expand(match)]
            if not matches:
                found.append(Input(argument, "matches no file"))
        else:
            found += find.expand(argument)
    return found


def _read_names(stdin: BinaryIO, null: bool) -> Iterator[str]:
    data = stdin.read()
    if not null and b"\0" in data:
        raise UsageError(
            "-: the standard input has zero bytes; expected names of files, one a line; give a picture as "
            "`predict FILE`; for names that end with zero bytes, add -0"
        )
    names = data.split(b"\0" if null else b"\n")
    yield from (os.fsdecode(name if null else name.rstrip(b"\r")) for name in names if name.strip(b"\r"))


class _Finder:
    """Finds the pictures and clips in folders and archives, and remembers the other files."""

    def __init__(self, left_out: list[LeftOut]):
        self._left_out = left_out
        self._is_of_run = cache(lambda folder: find_kind(Path(folder)) is Kind.RUN)

    def expand(self, path: str) -> Iterator[Input]:
        """Yield the inputs of a path: itself, or the pictures and clips in the folder or archive."""
        if is_archive(path):
            yield from self._list_archive(path)
        elif os.path.isdir(path) or is_unfinished(Path(path)):
            yield from self._list_folder(path)
        else:
            yield Input(path)

    def _list_folder(self, folder: str) -> Iterator[Input]:
        kind = find_kind(Path(folder))
        if kind is Kind.UNFINISHED:
            yield Input(folder, f"is {kind}; expected pictures; {format_progress(Path(folder))}")
            return
        if kind in _NOT_PICTURES:
            yield Input(folder, f"is {kind}; expected pictures; {_NOT_PICTURES[kind].format(shlex.quote(folder))}")
            return
        found: dict[str, str] = {}  # by real path: a file that links lead to twice is judged once
        archives, others = [], []
        try:
            for path, _ in sorted(walk_files(folder)):
                if self._is_of_run(os.path.dirname(path)):
                    self._left_out.append(LeftOut(path, _OF_RUNS))
                elif _is_picture_or_clip(path):
                    found.setdefault(os.path.realpath(path), path)
                else:
                    (archives if is_archive(path) else others).append(path)
        except UserError as error:
            yield Input(folder, str(error))
            return
        if not found and not archives:
            empty = (
                "is an empty folder; expected pictures" if kind is Kind.EMPTY else "a folder without pictures or clips"
            )
            yield Input(folder, empty)
            return
        yield from map(Input, found.values())
        # Pictures beside an archive were most often unpacked from it.
        for archive in () if found else archives:
            yield from self._list_archive(archive)
        self._left_out += [LeftOut(path, _OTHERS) for path in others]
        self._left_out += [LeftOut(path, _BESIDE_PICTURES) for path in archives if found]

    def _list_archive(self, path: str) -> Iterator[Input]:
        try:
            packed = list_archive(path, suffixes=tuple(VIDEO_SUFFIXES))
        except ArchiveError as error:
            yield Input(path, error.reason)
            return
        yield from (Input(f"{path}/{member}") for member in packed.pictures)
        if not packed.pictures:
            yield Input(path, "an archive without pictures or clips")
        else:
            self._left_out += [LeftOut(f"{path}/{member}", _OTHERS) for member in packed.others + packed.archives]


def _is_picture_or_clip(path: str) -> bool:
    """Return whether a file has the suffix or the first bytes of a picture or clip."""
    if has_picture_suffix(path) or Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return os.path.exists(path)  # False for a broken link
    start = read_head(path, CONTAINER_START)
    return find_format(start) is not None or find_container(start) is not None
