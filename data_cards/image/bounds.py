"""The cost of opening a picture file, bounded before Pillow opens it.

While Pillow opens a file, it allocates memory for the canvas of a WebP file, decodes an icon, and unpacks the texts of
a PNG, so the size that it reports then comes too late. Here sizes are read from the bytes alone.
"""

import re
import struct
import zlib
from collections.abc import Iterator

from data_cards.core.errors import PictureError

MOST_UNPACKED = 1 << 20  # bytes of one compressed text or profile of a PNG; Pillow refuses files with more
_MOST_TEXT = 32 << 20  # bytes of all texts together, half of Pillow's limit

PNG = b"\x89PNG\r\n\x1a\n"
_PNG_SIZE = re.compile(PNG + rb"....IHDR(.{8})", re.DOTALL)
_JPEG2000_SIZE = re.compile(rb"ihdr(.{8})", re.DOTALL)
_DIB_HEADERS = {12: "<HH"} | dict.fromkeys((40, 52, 56, 64, 108, 124), "<ii")


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check that a picture has no more pixels than allowed; raises `PictureError`."""
    if width * height > max_pixels:
        raise PictureError(f"too large: {width} x {height} pixels, at most {max_pixels:,} are allowed (--max-pixels)")


def check_declared_sizes(data: bytes, kind: str | None, max_pixels: int) -> None:
    """Check the declared sizes for which opening a file would allocate memory; raises `PictureError`.

    Parameters
    ----------
    data : bytes, of the whole file
    kind : str or None, the format as `data_cards.image.signature.find_format` returns it
    max_pixels : int, that a picture may have
    """
    find_sizes = {"WEBP": _find_webp_size, "ICO": _find_icon_sizes, "CUR": _find_icon_sizes, "ICNS": _find_inner_sizes}
    for width, height in find_sizes.get(kind, lambda data: ())(data):
        check_pixels(width, height, max_pixels)


def drop_large_texts(data: bytes) -> bytes:
    """Return a PNG file's bytes without the texts and profiles that unpack to more than the limits.

    Its pixels do not change. Bytes of other formats are returned unchanged.
    """
    if not data.startswith(PNG):
        return data
    left, dropped = _MOST_TEXT, []
    for start, end, kind in iterate_chunks(data):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            size = _unpack_size(kind, data[start + 8 : end - 4])
            if size > (left if kind == b"tEXt" else min(left, MOST_UNPACKED)):
                dropped.append((start, end))
            else:
                left -= size
    if not dropped:
        return data
    edges = [0, *(edge for span in dropped for edge in span), len(data)]
    return b"".join(data[start:end] for start, end in zip(edges[::2], edges[1::2], strict=True))


def iterate_chunks(data: bytes, start: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start, end and kind of each whole chunk of a PNG file, which begins at `start`."""
    start += len(PNG)
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        yield start, end, kind
        start = end


def _unpack_size(kind: bytes, body: bytes) -> int:
    """Return the number of bytes that a text or profile unpacks to; above the limit, any number above it."""
    packed = None
    if kind in (b"zTXt", b"iCCP"):
        packed = body.partition(b"\0")[2][1:]  # keyword, method, data
    elif kind == b"iTXt":
        after = body.partition(b"\0")[2]  # flag, method, language, translated keyword, text
        if after[:1] == b"\1":
            packed = after[2:].partition(b"\0")[2].partition(b"\0")[2]
    if packed is None:
        return len(body)
    try:
        return len(zlib.decompressobj().decompress(packed, MOST_UNPACKED + 1))
    except zlib.error:
        return len(body)


def _find_webp_size(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the canvas of a WebP file (the container's and the bitstream's specifications)."""
    kind, head = data[12:16], data[20:30]
    if len(head) < 10:
        return
    if kind == b"VP8X":
        yield int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        yield (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 6)
        yield width & 0x3FFF, height & 0x3FFF


def _find_icon_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of each bitmap or PNG in a Windows icon or cursor, regardless of the sizes in its directory."""
    yield from _find_inner_sizes(data)
    for number in range(int.from_bytes(data[4:6], "little")):
        entry = data[6 + 16 * number : 22 + 16 * number]
        if len(entry) < 16:
            return
        start = int.from_bytes(entry[12:16], "little")
        header = data[start : start + 12]
        layout = _DIB_HEADERS.get(int.from_bytes(header[:4], "little"))
        if layout is not None and len(header) == 12:
            width, height = struct.unpack_from(layout, header, 4)
            yield abs(width), abs(height) // 2  # a mask of the same size is below the picture


def _find_inner_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the size of each PNG and JPEG 2000 picture inside an icon."""
    for match in _PNG_SIZE.finditer(data):
        yield struct.unpack(">II", match[1])
    for match in _JPEG2000_SIZE.finditer(data):
        height, width = struct.unpack(">II", match[1])
        yield width, height
