"""Recognition of picture files by their first bytes, and by suffixes that only pictures have.

A file counts as a picture if its suffix or its first bytes are those of a picture. `data_cards.image.decode` finds out
whether it can be decoded, so a broken picture is reported, not overlooked.
"""

import os
import re
from pathlib import Path

from data_cards.archives.place import read_start
from data_cards.core.errors import PictureError

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .jif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .pfm "
    ".jp2 .j2k .jpc .jpf .jpx .avif .tga .ico .cur .icns .heic .heif .hif".split()
)
HEAD = 32  # bytes of a file's beginning that `find_format` reads

HEIF_BRANDS = frozenset((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"))
_AVIF_BRANDS = frozenset((b"avif", b"avis"))

# Each format's first bytes. TGA has no signature and is recognised by its suffix alone.
_SIGNATURES = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("JPEG", rb"\xff\xd8\xff"),
        ("PNG", rb"\x89PNG\r\n\x1a\n"),
        ("GIF", rb"GIF8[79]a"),
        ("WEBP", rb"RIFF....WEBP"),
        ("TIFF", rb"II\*\0|MM\0\*|II\+\0\x08\0|MM\0\+\0\x08"),
        ("JPEG2000", rb"\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n"),
        # Size, four bytes that are mostly zero, the offset of the pixels, and the size of one of the known headers.
        ("BMP", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        # This header without the file header: width and height, one plane, and bits a pixel.
        ("DIB", rb"[\x28\x34\x38\x40\x6c\x7c]\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0"),
        ("PPM", rb"P[1-6Ff][ \t\r\n#]"),
        ("ICO", rb"\0\0\x01\0[\x01-\xff]\0..\0"),
        ("CUR", rb"\0\0\x02\0[\x01-\xff]\0..\0"),
        ("ICNS", rb"icns\0"),
    )
)


def find_format(head: bytes) -> str | None:
    """Find the picture format whose signature a file has.

    Parameters
    ----------
    head : bytes, the first `HEAD` of the file

    Returns
    -------
    str, Pillow's name of the format; None for other files, and for TGA, which has no signature
    """
    if head[4:8] == b"ftyp":
        brand, compatible = head[8:12], (head[start : start + 4] for start in range(16, HEAD, 4))
        if brand in _AVIF_BRANDS or (brand in HEIF_BRANDS and _AVIF_BRANDS.intersection(compatible)):
            return "AVIF"
        return "HEIF" if brand in HEIF_BRANDS else None
    return next((name for name, pattern in _SIGNATURES if pattern.match(head)), None)


def has_picture_suffix(path: str | os.PathLike) -> bool:
    """Return whether a file's name has the suffix of a picture, in upper or lower case."""
    return Path(path).suffix.lower() in SUFFIXES


def is_picture_file(path: str | os.PathLike) -> bool:
    """Return whether a file counts as a picture: by its suffix, or else by its first bytes.

    The file is opened only if its suffix does not decide. A file that is unreadable or not regular is not a picture.
    """
    return has_picture_suffix(path) or find_format(read_head(path)) is not None


def read_head(path: str | os.PathLike, count: int = HEAD) -> bytes:
    """Read the first bytes of a file; b"" if it cannot be read or is not a regular file."""
    try:
        return read_start(path, count)
    except PictureError:
        return b""
