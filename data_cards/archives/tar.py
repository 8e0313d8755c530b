"""Uncompressed tar archives, by the headers of their members; also WebDataset's pairs of a picture and its class.

A pair is `KEY.jpg` with `KEY.cls`, or with a `KEY.json` that has a `label`. The picture belongs in a folder named after
the class, and the file with the class is not a member.
"""

import json
import posixpath
import tarfile
from contextlib import suppress

from data_cards.archives.archive import Archive, ArchiveError, check_size, damage_error, find_numbers, link_error
from data_cards.archives.members import Members, normalise_name
from data_cards.core.errors import PictureError, format_error
from data_cards.core.files import open_regular

_LINK, _SPARSE = -1, -2  # instead of the offset, for members that are not read
_CLASS, _JSON = ".cls", ".json"
_LABELS = ("label", "class")  # keys of a pair's JSON
_MOST_CLASS_BYTES = {_CLASS: 100, _JSON: 65_536}


class TarArchive(Archive):
    """An uncompressed tar archive.

    Raises
    ------
    ArchiveError : it is not a tar archive, or is cut short or damaged
    """

    def __init__(self, path: str):
        self.path = path
        try:
            with tarfile.open(path, "r:") as opened:
                members, self._folders = _list_members(opened)
                self.members = Members(members.items(), 3)
                _check_end(opened)
        except OSError as error:
            if error.errno is not None:
                raise
            raise _open_error(path, error) from error
        except Exception as error:  # damaged headers raise TarError, ValueError, OverflowError ...
            raise _open_error(path, error) from error

    def read(self, name: str, most: int | None = None) -> bytes:
        offset, size, _ = find_numbers(self.members, name)
        if offset == _LINK:
            raise link_error()
        if offset == _SPARSE:
            raise PictureError("stored as a sparse file, which cannot be read in place; unpack the archive")
        check_size(size)
        wanted = size if most is None else min(size, most)
        try:
            with open_regular(self.path) as file:
                file.seek(offset)
                data = file.read(wanted)
        except OSError as error:
            raise PictureError(f"cannot be read: {error.strerror or error}") from error
        if len(data) < wanted:
            raise damage_error("the archive ends before it")
        return data

    def find_folder(self, name: str) -> str:
        return self._folders[find_numbers(self.members, name)[2]]


def _open_error(path: str, error: Exception) -> ArchiveError:
    return ArchiveError(path, f"not a complete tar archive ({format_error(error)}); download it again, or unpack it")


def _list_members(opened: tarfile.TarFile) -> tuple[dict[str, tuple[int, int, int]], list[str]]:
    """List the members, each with offset, size and the number of its folder; and the folders, "" first."""
    members: dict[str, tuple[int, int]] = {}
    classes: dict[str, dict[str, str]] = {_CLASS: {}, _JSON: {}}
    while (info := opened.next()) is not None:
        opened.members = []  # else a million headers stay in memory
        if opened.offset <= info.offset:  # a negative size, which would make the loop endless
            raise tarfile.ReadError(f"damaged header at byte {info.offset:,}")
        name = normalise_name(info.name)
        if info.islnk():
            members[name] = members.get(normalise_name(info.linkname), (_LINK, 0))
        elif info.issym():
            members[name] = (_LINK, 0)
        elif info.isreg() and name:
            members[name] = (_SPARSE if info.issparse() else info.offset_data, info.size)
            kind = posixpath.splitext(name)[1]
            if info.size <= _MOST_CLASS_BYTES.get(kind, -1) and (label := _read_class(opened, info, kind)):
                classes[kind][_find_key(name)] = label
    kind = _CLASS if classes[_CLASS] else _JSON
    pairs = classes[kind]
    numbers = {folder: number for number, folder in enumerate(dict.fromkeys(("", *pairs.values())))}
    placed = {
        name: (*place, numbers[pairs.get(_find_key(name), "")])
        for name, place in members.items()
        if not (name.endswith(kind) and _find_key(name) in pairs)
    }
    return placed, list(numbers)


def _read_class(opened: tarfile.TarFile, info: tarfile.TarInfo, kind: str) -> str:
    """Read the class of a pair as the name of a folder; "" if it has none."""
    data = opened.extractfile(info).read()
    label: object = None
    with suppress(ValueError, RecursionError):
        label = data.decode().strip() if kind == _CLASS else _find_label(json.loads(data))
    return normalise_name(str(label)) if isinstance(label, str | int) else ""


def _find_label(values: object) -> object:
    given = (values.get(key) for key in _LABELS) if isinstance(values, dict) else ()
    return next((one for one in given if one is not None), None)


def _find_key(name: str) -> str:
    """Return the key that the members of a pair share: the path up to the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    return f"{folder}/{file.partition('.')[0]}"


def _check_end(opened: tarfile.TarFile) -> None:
    """Raise `ReadError` if `tarfile` stopped at a damaged header, which it treats as the end of the archive."""
    opened.fileobj.seek(opened.offset)
    block = opened.fileobj.read(tarfile.BLOCKSIZE)
    if block.strip(b"\0") or 0 < len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError(f"damaged header at byte {opened.offset:,}")
