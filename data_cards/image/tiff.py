"""Pages of a TIFF file: the largest page is the picture, wherever it is in the file.

Cameras and editors put a thumbnail on the first page and the picture on a later one, or on a page below the first
(SubIFDs, as in DNG and other raw files).
"""

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from data_cards.core.errors import PictureError
from data_cards.image.bounds import check_pixels

MOST_PAGES = 1000
_WIDTH, _HEIGHT, _SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 254, 262, 330, 322, 323
_NEEDED = (_WIDTH, _HEIGHT, _SUBFILE, _PHOTOMETRIC, _SUB_IFDS, _TILE_WIDTH, _TILE_HEIGHT)
_KINDS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # types of numbers
_MOST_TAGS = 4096
_IS_MASK = 4  # bit of the subfile type
_RAW = {32803, 34892}  # photometric interpretations: a colour filter's samples, and linear raw


@dataclass(frozen=True)
class Page:
    """A page: its offset in the file, and values of its tags."""

    offset: int
    width: int
    height: int
    is_raw: bool


def select_largest_page(data: bytes, max_pixels: int) -> bytes:
    """Return a TIFF file's bytes with the largest page first; the first of equal pages is used.

    Raises
    ------
    PictureError : the largest page holds a sensor's raw samples, or its tiles are larger than allowed
    """
    pages = list(iterate_pages(data, max_pixels))
    if not pages:  # broken: decoding reports how
        return data
    largest = max(pages, key=lambda page: page.width * page.height)
    if largest.is_raw:
        raise PictureError(
            f"a raw photo, whose {largest.width} x {largest.height} pixels are not developed; "
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


def iterate_pages(data: bytes, max_pixels: int) -> Iterator[Page]:
    """Yield the pages in order, each followed by its own sub-pages; masks are left out."""
    order, big = "<" if data[:2] == b"II" else ">", _is_big(data)
    try:
        waiting, seen = deque(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)), set()
        while waiting and len(seen) < MOST_PAGES:
            offset = waiting.popleft()
            if offset in seen or not 0 < offset < len(data):
                continue
            seen.add(offset)
            tags, following = _read_directory(data, offset, order, big)
            waiting.extendleft((following, *reversed(tags.get(_SUB_IFDS, ()))))
            width, height, tile_width, tile_height, subfile, photometric = (
                tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _SUBFILE, _PHOTOMETRIC)
            )
            if width and height and not subfile & _IS_MASK:
                check_pixels(tile_width, tile_height, max_pixels)
                yield Page(offset, width, height, photometric in _RAW)
    except struct.error:  # a broken directory ends the pages
        return


def _read_directory(data: bytes, offset: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """Read the needed tags of a directory, and the offset of the next directory.

    Pillow would read all tags, with any amount of data that they point to, for each page.
    """
    count_layout, head, word, inline = ("Q", "HHQ", "Q", 8) if big else ("H", "HHI", "I", 4)
    (count,) = struct.unpack_from(order + count_layout, data, offset)
    place, tags = offset + struct.calcsize(order + count_layout), {}
    for _ in range(min(count, _MOST_TAGS)):
        tag, kind, amount = struct.unpack_from(order + head, data, place)
        place += struct.calcsize(order + head)
        if tag in _NEEDED and kind in _KINDS and 0 < amount <= MOST_PAGES:
            layout = f"{order}{amount}{_KINDS[kind]}"
            start = place
            if struct.calcsize(layout) > inline:
                (start,) = struct.unpack_from(order + word, data, place)
            tags[tag] = struct.unpack_from(layout, data, start)
        place += inline
    return tags, struct.unpack_from(order + word, data, place)[0]
