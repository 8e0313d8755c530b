"""The decoder of picture files to upright 8-bit RGB, the only place where an untrusted file is decoded.

Formats are limited to ordinary raster ones (Pillow would hand EPS to Ghostscript), the number
of pixels is checked before any is decoded, and every fault of a file raises a
`PictureError` whose message is the reason.

Pixels are decoded first, and metadata is read afterwards: after Pillow has failed to decode a picture it treats the
picture as decoded, and Pillow decodes a PNG to read its EXIF data.

Colour values are used as stored, because an ICC conversion rounds every level again, and spectra are computed from
these levels: converting 25 photographs in Display P3 or Adobe RGB to sRGB moved their profiles by 0.08 in the root mean
square, JPEG 90 by 0.03, and JPEG 75 by 0.10. Of an animation the first frame is used, of a TIFF file the largest page.
"""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, UnidentifiedImageError

from data_cards.core.errors import PictureError
from data_cards.core.extras import format_install
from data_cards.image.bounds import check_declared_sizes, check_pixels, drop_large_texts
from data_cards.image.damage import check_damage
from data_cards.image.levels import to_rgb
from data_cards.image.partial import find_unused, format_transparency, format_unused
from data_cards.image.signature import HEAD, find_format
from data_cards.image.tiff import select_largest_page

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "CUR", "ICNS"),
    "HEIF",  # with the extra `heif`
)

Image.init()  # Pillow loads its less common formats only when asked
Image.MAX_IMAGE_PIXELS = None  # the caller's limit is checked instead, which may be above Pillow's
# Pillow warns of faults that do not affect the pixels, such as odd EXIF blocks.
warnings.filterwarnings("ignore", module="PIL")
# Pillow logs faults that the `PictureError` names already.
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Transposition that makes a picture upright, by EXIF orientation (Exif 2.32, tag 0x0112).
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_MAKE, _MODEL, _EXIF_BLOCK = 0x010F, 0x0110, 0x8769


@contextmanager
def opened_picture(data: bytes, max_pixels: int, *, check: bool = True) -> Iterator[Image.Image]:
    """Open a picture file's bytes, headers only, and bound its size; the caller decodes it.

    Decode the picture (`decode_opened`) before you read anything but its header.

    Raises
    ------
    PictureError : not a picture of a known format, too large, or broken; also for errors while the caller
        decodes it, and at the end of the block for damage that Pillow does not report
    """
    kind = find_format(data[:HEAD])
    try:
        check_declared_sizes(data, kind, max_pixels)
        if kind == "TIFF":
            data = select_largest_page(data, max_pixels)
        elif kind == "HEIF":
            _register_heif()
        formats = FORMATS[:-1] if kind is None else (kind,)
        with Image.open(io.BytesIO(drop_large_texts(data)), formats=formats) as picture:
            check_pixels(*picture.size, max_pixels)
            if min(picture.size) < 1:
                raise PictureError("has no pixels")
            yield picture
            if check:
                check_damage(picture, data)
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(_format_unknown(data, kind)) from error
    except MemoryError as error:
        raise PictureError("too large to decode in the available memory") from error
    # Decoders raise many types for a broken file: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as error:
        raise PictureError(f"broken or truncated: {error}") from error


def decode_picture(data: bytes, max_pixels: int, *, check: bool = True) -> Image.Image:
    """Decode a picture file's bytes to an upright RGB image (8 bits a channel).

    Parameters
    ----------
    data : bytes, of the whole file
    max_pixels : int, larger pictures are refused, before any pixel is decoded
    check : bool, also search the data for damage that Pillow does not report; False for bytes that were checked before

    Raises
    ------
    PictureError : as `opened_picture`
    """
    with opened_picture(data, max_pixels, check=check) as picture:
        rgb, orientation = decode_opened(picture)
    del picture  # else its pixels would stay in memory while the copy is turned
    return turn_upright(rgb, orientation)


def decode_with_remarks(data: bytes, max_pixels: int) -> tuple[Image.Image, tuple[str, ...]]:
    """Decode as `decode_picture`; also return remarks on unused parts of the file and on filled areas."""
    with opened_picture(data, max_pixels) as picture:
        rgb, orientation = decode_opened(picture)
        transparency = format_transparency(picture)
        unused = find_unused(picture, data, max_pixels)
    del picture
    remarks = (format_unused(unused) if unused else None, transparency)
    return turn_upright(rgb, orientation), tuple(one for one in remarks if one)


def decode_opened(picture: Image.Image) -> tuple[Image.Image, int]:
    """Decode an open picture as RGB, not turned upright, and read its EXIF orientation, 1 to 8."""
    picture.load()
    return to_rgb(picture), read_orientation(picture)


def turn_upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture upright; an upright one is returned unchanged."""
    transposition = UPRIGHT.get(orientation)
    return picture if transposition is None else picture.transpose(transposition)


def read_orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation of a decoded picture, 1 to 8; 1 if it is missing or the EXIF data is broken.

    It is 1 for TIFF, because Pillow turns TIFF pictures upright while it decodes them.
    """
    if picture.format == "TIFF":
        return 1
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block does not affect the pixels
        return 1


def read_exif_presence(picture: Image.Image) -> tuple[bool, bool]:
    """Read whether there is EXIF data, and whether it names a camera's make or model. Positions are never read."""
    try:
        exif = picture.getexif()
        # A TIFF's own tags are read as EXIF data too; a camera's are in a separate block.
        present = _EXIF_BLOCK in exif if picture.format == "TIFF" else len(exif) > 0
        camera = bool(exif.get(_MAKE) or exif.get(_MODEL))
        return present or camera, camera
    except Exception:  # a broken EXIF block is EXIF data
        return True, False


def _register_heif() -> None:
    """Let Pillow open HEIF files, with the extra `heif`; raises `PictureError` without it."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise PictureError(
            f"HEIC needs pillow-heif: `{format_install('heif')}`; or convert it without resizing, for example to PNG"
        ) from error
    register_heif_opener(thumbnails=False)


def _format_unknown(data: bytes, kind: str | None) -> str:
    if not data:
        return "the file is empty"
    if kind == "JPEG":
        return "broken or truncated: a JPEG header without a picture"
    if kind is not None:
        return f"broken, or a kind of {kind} that is not supported; convert it, for example to PNG"
    return f"not a picture in a known format ({', '.join(FORMATS)})"
