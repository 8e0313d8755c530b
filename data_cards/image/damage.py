"""Damage of a picture file's data that Pillow does not report.

libjpeg replaces damaged data and continues, and Pillow drops its warnings. So libjpeg-turbo decodes a JPEG once more,
at an eighth of its size, in a mode in which a warning is an error. In a PNG, and in a strip of a compressed TIFF,
Pillow stops reading as soon as it has the pixels, before the checksum at the end; missing rows of a PNG become black.

Damage that no decoder can notice is listed in docs/verdicts.md.
"""

import math
import re
import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

from data_cards.core.errors import PictureError
from data_cards.image.bounds import PNG, iterate_chunks
from data_cards.image.signature import HEAD, find_format

try:
    import simplejpeg
except ImportError:  # no wheel for this system: JPEG files are then checked by Pillow alone
    simplejpeg = None

# The warnings and errors of libjpeg about the data of a file whose header is valid.
_JPEG_DAMAGE = (
    "Corrupt JPEG data",
    "Premature end of JPEG file",
    "Inconsistent progression sequence",
    "Invalid JPEG file structure",
    "Unsupported marker type",
    "Unsupported JPEG process",
)
_SCALE = 8
# Second bytes of JPEG markers: fill bytes and stuffing, markers without a segment, the start of a scan, and tables.
_NO_MARKERS, _STANDALONE, _SCAN = (0x00, 0xFF), (0x01, *range(0xD0, 0xD9)), 0xDA
_TABLES = (*range(0xC0, 0xD0), 0xDB, 0xDD)
# First column and row of each pass of an interlaced PNG, and the steps between columns and rows.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # samples of a pixel, by the colour type of a PNG
_PIECE = 1 << 20  # bytes that are unpacked at a time

# Formats that store pixels without a code or checksum that could reveal damage; None: TGA.
_UNCHECKED = ("BMP", "DIB", "PPM", "TIFF", None)
_TILE = 16
_LARGE = 0.1  # share of a picture

# TIFF tags.
_STRIPS, _TILES, _JPEG_TABLES = (273, 279), (324, 325), 347


def check_damage(picture: Image.Image, data: bytes) -> None:
    """Check the data of a decoded picture file for damage; raises `PictureError`.

    Parameters
    ----------
    picture : PIL.Image.Image, as Pillow opened it from `data` and decoded it
    data : bytes, of the whole file
    """
    if picture.format in ("JPEG", "MPO"):
        _check_jpeg(data)
    elif picture.format in ("PNG", "ICO", "ICNS"):
        for match in re.finditer(re.escape(PNG), data):
            _check_png_checksums(data, match.start())
        if picture.format == "PNG" and _may_lack_rows(picture, data):
            _check_png_length(data)
    elif picture.format == "TIFF":
        compression = picture.info.get("compression")
        if compression in ("tiff_adobe_deflate", "tiff_deflate"):
            for strip in _iterate_strips(picture, data):
                for _ in _unpack([strip], whole=True):
                    pass
        elif compression == "jpeg":
            tables = picture.tag_v2.get(_JPEG_TABLES, b"")
            for strip in _iterate_strips(picture, data):
                _check_jpeg(tables[:-2] + strip[2:] if tables else strip)


def may_hide_damage(picture: Image.Image, data: bytes) -> bool:
    """Return whether a picture has large areas of exactly one value, where its format cannot reveal damage.

    Overwritten or unwritten parts of a file decode to such areas; white borders and black bars are such areas too.

    Parameters
    ----------
    picture : PIL.Image.Image of mode RGB, decoded from `data`
    data : bytes, of the whole file
    """
    if find_format(data[:HEAD]) not in _UNCHECKED:
        return False
    rows, columns = (side // _TILE for side in (picture.height, picture.width))
    tiles = np.asarray(picture)[: rows * _TILE, : columns * _TILE].reshape(rows, _TILE, columns, _TILE, 3)
    same = (tiles.max(axis=(1, 3)) == tiles.min(axis=(1, 3))).all(axis=2)
    return bool(same.size and same.mean() >= _LARGE)


def _check_jpeg(data: bytes) -> None:
    if simplejpeg is None:
        return
    try:
        data = _drop_metadata(data)
        colours = simplejpeg.decode_jpeg_header(data, strict=False)[2]
        simplejpeg.decode_jpeg(
            data,
            colorspace="CMYK" if colours in ("CMYK", "YCCK") else "GRAY",
            fastdct=True,
            fastupsample=True,
            min_factor=_SCALE,
        )
    except ValueError as error:
        if str(error).startswith(_JPEG_DAMAGE):
            raise PictureError(f"broken or truncated: {error}") from error
        # Any other error: a kind of JPEG that Pillow decodes and this library does not.


def _drop_metadata(data: bytes) -> bytes:
    """Return a JPEG with only its tables and scans, because damaged metadata does not damage the picture."""
    kept, place = [b"\xff\xd8"], 2
    while place + 4 <= len(data):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if data[place] != 0xFF or marker in _NO_MARKERS:
            place += 1
        elif marker in _STANDALONE:
            place += 2
        elif marker == _SCAN:
            return b"".join((*kept, memoryview(data)[place:]))
        else:
            if marker in _TABLES:
                kept.append(data[place : place + 2 + length])
            place += 2 + length
    return data


def _check_png_checksums(data: bytes, start: int) -> None:
    for begin, end, kind in iterate_chunks(data, start):
        if kind == b"IDAT" and zlib.crc32(memoryview(data)[begin + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise PictureError("broken or truncated: pixel data with a wrong checksum")
        if kind == b"IEND":
            return


def _may_lack_rows(picture: Image.Image, data: bytes) -> bool:
    """Return whether the last row is black, as missing rows are, or the rows are interlaced."""
    width, height = picture.size
    return data[28] != 0 or picture.crop((0, height - 1, width, height)).getbbox(alpha_only=False) is None


def _check_png_length(data: bytes) -> None:
    width, height, bits, colours, _, _, interlaced = (
        *(int.from_bytes(data[start : start + 4]) for start in (16, 20)),
        *data[24:29],
    )
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = 0
    for left, top, right, down in passes:
        columns, rows = math.ceil((width - left) / right), math.ceil((height - top) / down)
        if columns > 0:
            expected += rows * (1 + math.ceil(columns * bits * _SAMPLES.get(colours, 1) / 8))
    packed = (data[start + 8 : end - 4] for start, end, kind in iterate_chunks(data) if kind == b"IDAT")
    if sum(_unpack(packed)) < expected:
        raise PictureError("broken or truncated: fewer rows of pixels than its header declares")


def _unpack(parts: Iterable[bytes], whole: bool = False) -> Iterator[int]:
    """Yield the sizes of the pieces that compressed data unpacks to.

    Raises
    ------
    PictureError : the data is damaged, or with `whole` ends before its checksum
    """
    unpacker = zlib.decompressobj()
    try:
        for part in parts:
            while part and not unpacker.eof:
                yield len(unpacker.decompress(part, _PIECE))
                part = unpacker.unconsumed_tail
    except zlib.error as error:
        raise PictureError(f"broken or truncated: {error}") from error
    if whole and not unpacker.eof:
        raise PictureError("broken or truncated: compressed pixel data end too early")


def _iterate_strips(picture: Image.Image, data: bytes) -> Iterator[bytes]:
    for offsets, counts in (_STRIPS, _TILES):
        places = (picture.tag_v2.get(tag, ()) for tag in (offsets, counts))
        places = ((one,) if isinstance(one, int) else one for one in places)
        for offset, count in zip(*places, strict=False):
            if count:  # 0 for a strip that has no data
                yield data[offset : offset + count]
