"""Pictures in an archive, recognised by the names and the first bytes of its members."""

import os
from dataclasses import dataclass

from data_cards.archives.archive import Archive, ArchiveError
from data_cards.archives.names import is_archive_name, is_closed_name
from data_cards.archives.parquet import ParquetTable
from data_cards.archives.place import open_archive
from data_cards.core.errors import PictureError
from data_cards.dataset.names import is_service
from data_cards.image.signature import HEAD, find_format, has_picture_suffix, read_head


@dataclass(frozen=True)
class Packed:
    """The files in an archive, by their paths in it, sorted; `unpacked` are the paths of the pictures by class.

    `unpacked` differs from `pictures` if the archive has no class folders, but gives the classes in another way.
    `archives` are archives inside the archive.
    """

    pictures: list[str]
    unpacked: list[str]
    archives: list[str]
    others: list[str]


def list_archive(path: str | os.PathLike, folder: str = "", suffixes: tuple[str, ...] = ()) -> Packed:
    """List the members of an archive: pictures, and others. Hidden files and system folders are left out.

    Parameters
    ----------
    path : of the archive
    folder : str, in the archive, to which paths are relative; "" for the archive itself
    suffixes : tuple of str, lower-case suffixes of further files that count as pictures

    Raises
    ------
    ArchiveError : it cannot be read in place
    """
    archive = open_archive(path)
    packed = Packed([], [], [], [])
    for name in archive.members.below(folder):
        below = name[len(folder) + 1 :] if folder else name
        *folders, file = below.split("/")
        if file.startswith(".") or any(map(is_service, folders)):
            continue
        if name.lower().endswith(suffixes) or _is_picture(archive, name):
            packed.pictures.append(below)
            packed.unpacked.append("/".join(filter(None, (archive.find_folder(name), below))))
        else:
            (packed.archives if _is_archive_name(name) else packed.others).append(below)
    if packed.archives and not packed.pictures:
        reason = f"holds archives, such as {packed.archives[0]}, and no pictures; unpack it and give the folder"
        raise ArchiveError(os.fspath(path), reason)
    return packed


def is_archive(path: str | os.PathLike) -> bool:
    """Return whether a file counts as an archive: by its suffix, unless its first bytes are a picture's."""
    return _is_archive_name(os.fspath(path)) and os.path.isfile(path) and find_format(read_head(path)) is None


def _is_archive_name(name: str) -> bool:
    return is_archive_name(name) or is_closed_name(name)


def _is_picture(archive: Archive, name: str) -> bool:
    if isinstance(archive, ParquetTable) or has_picture_suffix(name):
        return True
    try:
        return find_format(archive.read(name, HEAD)) is not None
    except PictureError:
        return False
