"""The decoder of picture files to upright 8-bit RGB, the only place where an untrusted file is decoded.

Formats are limited to ordinary raster ones (Pillow would hand EPS to Ghostscript), the number
of pixels is checked before any is decoded, and every fault of a file becomes a
`PictureError` with a reason in plain words.

Colour values are used as stored: an ICC conversion would resample the levels that the spectra are
computed from. Transparency is composited over white, 16 bits are scaled to 8, and of an animation
the first frame is used.
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_cards.core.errors import PictureError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO")
Image.init()  # Pillow loads its less common formats only when asked
# Pillow warns of odd EXIF blocks and of large pictures; the first are harmless, the second are checked here.
warnings.filterwarnings("ignore", module="PIL")

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
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@contextmanager
def opened_picture(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open a picture file's bytes, headers only, and bound its size.

    Raises
    ------
    PictureError : not a picture of a known format, too large, or broken; also for errors while the caller
        decodes it
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_pixels(*picture.size, max_pixels)
            yield picture
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(_format_unknown(data)) from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"too large: {error}") from error
    except MemoryError as error:
        raise PictureError("too large to decode in the available memory") from error
    # Decoders raise many kinds for a broken file: OSError, SyntaxError, ValueError, struct.error ...
    except Exception as error:
        raise PictureError(f"broken or truncated: {error}") from error


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Check that a picture has no more pixels than allowed; raises `PictureError`."""
    if width * height > max_pixels:
        raise PictureError(f"too large: {width} x {height} pixels, at most {max_pixels:,} are allowed (--max-pixels)")


def decode_picture(data: bytes, max_pixels: int) -> Image.Image:
    """Decode a picture file's bytes to an upright RGB image (8 bits a channel).

    Parameters
    ----------
    data : bytes, of the whole file
    max_pixels : int, larger pictures are refused, before any pixel is decoded

    Raises
    ------
    PictureError : as `opened_picture`
    """
    with opened_picture(data, max_pixels) as picture:
        orientation = read_orientation(picture)
        rgb = to_rgb(picture)
        transposition = UPRIGHT.get(orientation)
        return rgb if transposition is None else rgb.transpose(transposition)


def read_orientation(picture: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8; 1 where there is none or the EXIF data is broken."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a broken EXIF block does not spoil the picture
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


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert the first frame to 8-bit RGB, transparency over white, 16 bits scaled to 8."""
    picture.load()
    if picture.mode in _SIXTEEN_BIT or picture.mode == "F":
        picture = _scale_to_8_bit(picture)
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, layer)
    return picture.convert("RGB")


def _scale_to_8_bit(picture: Image.Image) -> Image.Image:
    # Pillow's own convert("L") clips 16-bit values at 255 instead of scaling them.
    values = np.asarray(picture, dtype=np.float64)
    if picture.mode == "F":
        if not np.isfinite(values).all():
            raise PictureError("has pixel values that are not finite")
        top = 1.0 if values.max(initial=0) <= 1 else 255.0 if values.max() <= 255 else 65535.0
    else:
        top = 65535.0 if values.max(initial=0) <= 65535 else 2.0**32 - 1
    return Image.fromarray(np.clip(np.rint(values * (255 / top)), 0, 255).astype(np.uint8))


def _format_unknown(data: bytes) -> str:
    if not data:
        return "the file is empty"
    if data[4:8] == b"ftyp" and data[8:12] in (b"heic", b"heix", b"mif1", b"msf1", b"hevc"):
        return "HEIC is not supported; convert it without resizing, for example to PNG"
    if data[:3] == b"\xff\xd8\xff":
        return "broken or truncated: a JPEG header, but no picture behind it"
    return f"not a picture in a known format ({', '.join(FORMATS)})"
