"""Zip archives, by their central directory: stored and deflated members are read in place."""

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator

from data_cards.archives.archive import Archive, ArchiveError, check_size, damage_error, find_numbers, link_error
from data_cards.archives.members import Members, normalise_name
from data_cards.core.errors import PictureError, format_error
from data_cards.core.files import open_regular

_LOCAL = struct.Struct("<4s22xHH")  # signature, lengths of name and extra field: before a member's bytes
_PART = "one part of an archive in several files cannot be read in place; unpack it"
_MOST_END = 22 + 65_535  # bytes of the record at an archive's end, with its comment
_ENCRYPTED_FLAG = 0x1
_ENCRYPTED, _LINK = -1, -2  # instead of the method, for members that are not read
_AHEAD = 4096  # additional bytes that are read to inflate the start of a member


class ZipArchive(Archive):
    """A zip archive.

    Raises
    ------
    ArchiveError : its directory is missing or damaged, or it is one part of several
    """

    def __init__(self, path: str):
        self.path = path
        try:
            part = _is_part(path)
            with zipfile.ZipFile(path) as opened:
                _check_overlap(opened, os.path.getsize(path))
                self.members = Members(_list_members(opened), 5)
        # A damaged directory raises many kinds: BadZipFile, NotImplementedError, ValueError, struct.error ...
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            part = "multiple disks" in str(error)
            reason = f"not a complete zip archive ({format_error(error)}); download it again, or unpack it"
            raise ArchiveError(path, _PART if part else reason) from error
        if part:
            raise ArchiveError(path, _PART)

    def read(self, name: str, most: int | None = None) -> bytes:
        offset, stored, size, method, checksum = find_numbers(self.members, name)
        if method == _LINK:
            raise link_error()
        if method == _ENCRYPTED:
            raise PictureError("encrypted in its archive; unpack the archive with its password")
        if method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            kind = zipfile.compressor_names.get(method, method)
            raise PictureError(f"compressed as {kind}, which cannot be read in place; unpack the archive")
        check_size(max(size, stored))
        wanted = size if most is None else min(size, most)
        with open_regular(self.path) as file:
            packed = _read_packed(file, offset, stored if wanted == size else min(stored, wanted + _AHEAD))
        data = packed if method == zipfile.ZIP_STORED else _inflate(packed, wanted)
        if wanted < size:
            return data[:wanted]
        if len(data) != size or zlib.crc32(data) != checksum:
            raise damage_error("its checksum differs")
        return data


def _is_part(path: str) -> bool:
    """Return whether a zip archive's end record says that it has other parts."""
    with open_regular(path) as file:
        file.seek(max(file.seek(0, os.SEEK_END) - _MOST_END, 0))
        end = file.read()
    at = end.rfind(b"PK\x05\x06")
    return 0 <= at <= len(end) - 8 and struct.unpack_from("<HH", end, at + 4) not in ((0, 0), (0xFFFF, 0xFFFF))


def _check_overlap(opened: zipfile.ZipFile, size: int) -> None:
    """Raise `BadZipFile` if members share bytes, which lets a small archive hold any number of large members."""
    if sum(info.compress_size for info in opened.infolist()) > size:
        raise zipfile.BadZipFile("its members overlap")


def _list_members(opened: zipfile.ZipFile) -> Iterator[tuple[str, tuple[int, ...]]]:
    for info in opened.infolist():
        name = normalise_name(info.filename)
        if name and not info.is_dir():
            yield name, (info.header_offset, info.compress_size, info.file_size, _find_method(info), info.CRC)


def _find_method(info: zipfile.ZipInfo) -> int:
    if stat.S_ISLNK(info.external_attr >> 16):
        return _LINK
    return _ENCRYPTED if info.flag_bits & _ENCRYPTED_FLAG else info.compress_type


def _read_packed(file: io.BufferedReader, offset: int, count: int) -> bytes:
    try:
        file.seek(offset)
        header = file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or header[:4] != b"PK\x03\x04":
            raise damage_error("its local header is missing")
        _, name, extra = _LOCAL.unpack(header)
        file.seek(name + extra, os.SEEK_CUR)
        packed = file.read(count)
    except (OSError, ValueError, OverflowError) as error:
        raise PictureError(f"cannot be read: {error}") from error
    if len(packed) < count:
        raise damage_error("the archive ends before it")
    return packed


def _inflate(packed: bytes, most: int) -> bytes:
    """Inflate at most `most` + 1 bytes, because a member may be far larger than the archive's directory says."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, most + 1)
    except zlib.error as error:
        raise damage_error(error) from error
