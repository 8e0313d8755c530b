"""The pages of a TIFF file: the largest is the picture, wherever it is in the file.

Cameras and editors put a thumbnail on the first page and the picture on a later one, or on a page below the first
(SubIFDs, as in DNG and other raw files).
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL.TiffImagePlugin import ImageFileDirectory_v2

from data_cards.core.errors import PictureError
from data_cards.image.bounds import check_pixels

MOST_PAGES = 1000
_WIDTH, _HEIGHT, _SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 254, 262, 330, 322, 323
_IS_MASK = 4  # bit of the subfile type
_RAW = {32803, 34892}  # photometric interpretations: a colour filter's samples, and linear raw


@dataclass(frozen=True)
class Page:
    """One page: its place in the file, and what its tags say."""

    offset: int
    width: int
    height: int
    is_raw: bool


def select_largest_page(data: bytes, max_pixels: int) -> bytes:
    """Return a TIFF file's bytes so that the page with the most pixels is the first; equal ones stay in order.

    Raises
    ------
    PictureError : the largest page holds a sensor's raw samples, or its tiles are larger than allowed
    """
    pages = list(_iterate_pages(data, max_pixels))
    if not pages:  # broken: decoding tells how
        return data
    largest = max(pages, key=lambda page: page.width * page.height)
    if largest.is_raw:
        raise PictureError(
            f"a raw photo: its picture of {largest.width} x {largest.height} pixels is not developed; "
            "develop it first, for example to TIFF or PNG"
        )
    if largest is pages[0]:
        return data
    order = "<" if data[:2] == b"II" else ">"
    start, layout = (8, "Q") if _is_big(data) else (4, "I")
    first = struct.pack(order + layout, largest.offset)
    return data[:start] + first + data[start + len(first) :]


def _is_big(data: bytes) -> bool:
    return 43 in data[2:4]


def _iterate_pages(data: bytes, max_pixels: int) -> Iterator[Page]:
    """Yield the pages in order, each followed by those below it; masks are left out."""
    file = io.BytesIO(data)
    header = data[: 16 if _is_big(data) else 8]
    try:
        waiting, seen = [ImageFileDirectory_v2(header).next], set()
        while waiting and len(seen) < MOST_PAGES:
            offset = waiting.pop(0)
            if offset in seen or not 0 < offset < len(data):
                continue
            seen.add(offset)
            tags = ImageFileDirectory_v2(header)
            file.seek(offset)
            tags.load(file)
            below = tags.get(_SUB_IFDS, ())
            waiting[:0] = (*((below,) if isinstance(below, int) else below), *((tags.next,) if tags.next else ()))
            width, height = tags.get(_WIDTH), tags.get(_HEIGHT)
            if isinstance(width, int) and isinstance(height, int) and not _as_int(tags.get(_SUBFILE)) & _IS_MASK:
                check_pixels(_as_int(tags.get(_TILE_WIDTH)), _as_int(tags.get(_TILE_HEIGHT)), max_pixels)
                yield Page(offset, width, height, tags.get(_PHOTOMETRIC) in _RAW)
    except PictureError:
        raise
    except Exception:  # a broken directory ends the pages
        return


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0
