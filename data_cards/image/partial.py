"""Remarks on files of several pictures, of which one is used, and on transparent pictures.

Parts that show the same picture are not mentioned: thumbnails, smaller pages of a TIFF file, the sizes of an icon, and
the further pictures of a JPEG file (MPO), which cameras add for depth and brightness.
"""

from PIL import Image

from data_cards.core.text import format_count
from data_cards.image.tiff import iterate_pages

FRAMES, PAGES = "frames", "pages"  # kinds of further pictures, as `PictureFacts.unused` names them
_UNUSED_WORDS = {
    FRAMES: "several pictures or frames, of which only the first is used",
    PAGES: "several pages, of which only the largest is used",
}
_MANY_FRAMES = ("GIF", "WEBP", "PNG", "AVIF", "HEIF")
_LEAST_PAGE = 0.5  # share of the largest page's pixels; a page of at least this share is a picture of its own
_LEAST_TRANSPARENT = 0.01  # share of the pixels


def find_unused(picture: Image.Image, data: bytes, max_pixels: int) -> str:
    """Find the kind of pictures of a decoded file that are not used: `FRAMES`, `PAGES`, or "" for none.

    Parameters
    ----------
    picture : PIL.Image.Image, as Pillow opened and decoded it; it may be at another frame afterwards
    data : bytes, of the whole file
    max_pixels : int, of a tile
    """
    if picture.format == "TIFF":
        sizes = [page.width * page.height for page in iterate_pages(data, max_pixels)]
        return PAGES if sum(size >= _LEAST_PAGE * max(sizes) for size in sizes) > 1 else ""
    try:
        return FRAMES if picture.format in _MANY_FRAMES and getattr(picture, "is_animated", False) else ""
    except Exception:  # the next frame is damaged: the file has no other picture to use
        return ""


def format_unused(kind: str) -> str:
    """Format a kind of `find_unused` for a user."""
    return _UNUSED_WORDS[kind]


def format_unused_counts(frames: int, pages: int) -> str | None:
    """Format how many files have further pictures; None if none has."""
    counts = [(frames, FRAMES), (pages, PAGES)]
    found = [f"{format_count(count, 'file')} with {_UNUSED_WORDS[kind]}" for count, kind in counts if count]
    return "; ".join(found) or None


def format_transparency(picture: Image.Image) -> str | None:
    """Format how much of an opened picture is transparent; None for less than one pixel of a hundred."""
    if "A" not in picture.getbands() and "a" not in picture.getbands() and "transparency" not in picture.info:
        return None
    counts = picture.convert("RGBA").getchannel("A").histogram()
    share = 1 - counts[255] / sum(counts)
    return f"transparent areas ({share:.0%}) are filled with white" if share >= _LEAST_TRANSPARENT else None
