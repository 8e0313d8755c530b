"""What was asked to be judged, as a list of files in order: pictures, clips, folders, globs, a list on stdin."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_cards.image.decode import SUFFIXES

# Of clips; what a file is decides its content, a folder is searched by these.
VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .ogv .flv .3gp .wmv".split())


@dataclass(frozen=True)
class Input:
    """One file to be judged, or why there is none.

    Attributes
    ----------
    path : as it was given, or found in a folder or by a glob that was given
    error : None where it is to be read
    """

    path: str
    error: str | None = None


def find_inputs(arguments: Iterable[str | Path], stdin: BinaryIO | None = None) -> list[Input]:
    """Every file that the arguments stand for, in their order; what stands for none is there with an error.

    Parameters
    ----------
    arguments : files; folders, for every picture and clip below them; globs, where no file has that name
        ("**" for folders within folders); "-" for a list on `stdin`, a path a line
    stdin : in bytes; None: "-" is a file's name as any other
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
    """The files below a folder with one of the suffixes, sorted; hidden ones and those in hidden folders left out."""
    return sorted(
        str(file)
        for file in Path(folder).rglob("*")
        if file.suffix.lower() in suffixes
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def _expand(path: str) -> Iterator[Input]:
    if not os.path.isdir(path):
        yield Input(path)
        return
    files: Sequence[str] = list_folder(path)
    yield from map(Input, files)
    if not files:
        yield Input(path, "a folder without a picture in it")
