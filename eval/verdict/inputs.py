"""Files to be judged, in order: from pictures, clips, folders, archives, globs, or a list on stdin."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_cards.archives.archive import ArchiveError
from data_cards.archives.names import SUFFIXES as ARCHIVE_SUFFIXES
from data_cards.dataset.packed import is_archive, list_archive
from data_cards.image.signature import SUFFIXES

# Of clips, for searching a folder; the container itself is recognised by its first bytes.
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .ogv .flv .3gp .wmv".split())


@dataclass(frozen=True)
class Input:
    """One file to be judged, or an error in its place.

    Attributes
    ----------
    path : str, as given, or as found in a folder or by a glob; a member of an archive below the archive's own path
    error : str or None, None where the file is to be read
    """

    path: str
    error: str | None = None


def find_inputs(arguments: Iterable[str | Path], stdin: BinaryIO | None = None) -> list[Input]:
    """List the files that the arguments name, in their order; an argument without a file gets an error.

    Parameters
    ----------
    arguments : iterable of str or Path: files; folders and archives (zip, tar,
        Parquet), for every picture and clip in them; globs, where no
        file has that name ("**" matches nested folders); "-" for a list on `stdin`, one path per line
    stdin : binary file or None; None treats "-" as any other file name
    """
    found = []
    for argument in arguments:
        argument = os.fspath(argument)
        if argument == "-" and stdin is not None:
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in stdin)
            found += [one for line in lines if line for one in _expand(line)]
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            matches = sorted(glob.glob(argument, recursive=True))
            found += [one for match in matches for one in _expand(match)]
            if not matches:
                found.append(Input(argument, "matches no file"))
        else:
            found += _expand(argument)
    return found


def list_folder(folder: str | Path, suffixes: frozenset[str] = SUFFIXES | VIDEO_SUFFIXES) -> list[str]:
    """List the files below a folder with one of the suffixes, sorted, without hidden files and folders."""
    return sorted(
        str(file)
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _list_archive(path: str) -> Iterator[Input]:
    try:
        members = list_archive(path, suffixes=tuple(VIDEO_SUFFIXES)).pictures
    except ArchiveError as error:
        yield Input(path, error.reason)
        return
    yield from (Input(f"{path}/{member}") for member in members)
    if not members:
        yield Input(path, "an archive without a picture in it")


def _expand(path: str) -> Iterator[Input]:
    if is_archive(path):
        yield from _list_archive(path)
        return
    if not os.path.isdir(path):
        yield Input(path)
        return
    files: Sequence[str] = list_folder(path)
    yield from map(Input, files)
    # Beside pictures an archive is most often where they were unpacked from.
    archives = [] if files else list_folder(path, frozenset(ARCHIVE_SUFFIXES))
    for archive in archives:
        yield from _list_archive(archive)
    if not files and not archives:
        yield Input(path, "a folder without a picture in it")
