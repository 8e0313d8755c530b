"""The pictures in an archive, by the names and the first bytes of its members."""

import os

from data_cards.archives.archive import Archive
from data_cards.archives.names import is_archive_name, is_closed_name
from data_cards.archives.parquet import ParquetTable
from data_cards.archives.place import open_archive
from data_cards.core.errors import PictureError
from data_cards.dataset.names import is_service
from data_cards.image.signature import HEAD, find_format, has_picture_suffix, read_head


def list_archive(
    path: str | os.PathLike, folder: str = "", suffixes: tuple[str, ...] = ()
) -> tuple[list[str], list[str]]:
    """List the members of an archive, sorted: pictures, and others. Hidden ones, and those of systems, are left out.

    Parameters
    ----------
    path : of the archive
    folder : str, in the archive, to which names are relative; "" for the archive itself
    suffixes : tuple of str, endings of names, in lower case, that are taken too

    Raises
    ------
    ArchiveError : it cannot be read in place
    """
    archive = open_archive(path)
    pictures, others = [], []
    for name in archive.members.below(folder):
        below = name[len(folder) + 1 :] if folder else name
        *folders, file = below.split("/")
        if not file.startswith(".") and not any(map(is_service, folders)):
            taken = name.lower().endswith(suffixes) or _is_picture(archive, name)
            (pictures if taken else others).append(below)
    return pictures, others


def is_archive(path: str | os.PathLike) -> bool:
    """Return whether a file is taken for an archive: by its suffix, unless its first bytes are a picture's."""
    named = is_archive_name(os.fspath(path)) or is_closed_name(os.fspath(path))
    return named and os.path.isfile(path) and find_format(read_head(path)) is None


def _is_picture(archive: Archive, name: str) -> bool:
    if isinstance(archive, ParquetTable) or has_picture_suffix(name):
        return True
    try:
        return find_format(archive.read(name, HEAD)) is not None
    except PictureError:
        return False
