"""Names of archives: recognise archives, and find the folder that each would unpack to."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable

SUFFIXES = (".zip", ".tar", ".parquet")
# Files that hold pictures but cannot be read in place.
_CLOSED = re.compile(
    r"\.(tar\.\w+|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst|lz4|7z|rar|z\d\d|r\d\d|(zip|tar|7z|rar)\.\d+|part\d+\.rar|arrow|"
    r"feather|tfrecords?|h5|hdf5|lmdb|mdb|npz|beton)$",
    re.IGNORECASE,
)
_PART_OF = re.compile(r"\.(z\d\d|r\d\d|(zip|tar|7z|rar)\.\d+|part\d+\.rar)$", re.IGNORECASE)
# Shards: `train-00000-of-00004`, as Hugging Face numbers them, also with a hash; `part-3`; and numbers from 0 or 1.
_OF = re.compile(r"(.*?)[-_.]?\d+-of-\d+(-[0-9a-f]{16})?")
_PART = re.compile(r"(.*?)[-_. ]?(part|shard|chunk|vol|volume)[-_. ]?\d+", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?)[-_. ]?(\d{3,})")


def is_archive_name(name: str) -> bool:
    """Return whether a file's name has the suffix of an archive that is read in place."""
    return name.lower().endswith(SUFFIXES)


def is_closed_name(name: str) -> bool:
    """Return whether a file's name has the suffix of an archive or table that cannot be read in place."""
    return _CLOSED.search(name) is not None


def is_part_name(name: str) -> bool:
    """Return whether a file's name has the suffix of a part of a split archive: `.z01`, `.7z.001`."""
    return _PART_OF.search(name) is not None


def strip_suffix(name: str) -> str:
    """Return the name of an archive without its suffix; other names are returned unchanged."""
    return name[: name.rindex(".")] or name if is_archive_name(name) else name


def name_folders(archives: Iterable[str]) -> dict[str, str]:
    """Find the folder that each archive of a set would unpack to.

    `test.zip` is the folder `test`. Shards of one name are one folder: `train-000.tar` and `train-001.tar` are
    `train`. Shards that have only a number are the folder that they are in.

    Parameters
    ----------
    archives : iterable of str, paths relative to the set, with forward slashes

    Returns
    -------
    dict of str : path of the folder, "" for the set itself, by path of the archive
    """
    folders, numbered = {}, defaultdict(list)
    for archive in archives:
        parent, name = os.path.split(archive)
        stem = strip_suffix(name)
        if found := _OF.fullmatch(stem) or _PART.fullmatch(stem):
            stem = found[1]
        elif found := _NUMBERED.fullmatch(stem):
            numbered[parent, found[1], len(found[2])].append((int(found[2]), archive))
        folders[archive] = "/".join(filter(None, (parent, stem)))
    for (parent, stem, _), shards in numbered.items():
        if min(shards)[0] <= 1:  # else the number is a name: `adm-256`
            folders |= {archive: "/".join(filter(None, (parent, stem))) for _, archive in shards}
    return folders
