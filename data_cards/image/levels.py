"""Conversion of a decoded picture of any kind to 8-bit RGB, as a viewer shows it.

Transparency is composited over white. Values of more than 8 bits are scaled so that white becomes 255. Bands of rows
are converted one at a time, so the conversion needs little memory beyond the picture and its result.

Colour profiles are not applied, except that CIELAB is converted to sRGB.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

from data_cards.core.errors import PictureError

_BAND = 1 << 20  # pixels that are converted at a time
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_TRANSPARENT = ("RGBA", "LA", "PA", "RGBa", "La")

# Floating-point pixels: possible levels of white, and the multiple of white that nine tenths of a picture may reach.
_FLOAT_WHITES = (1.0, 255.0, 65535.0)
_HIGHLIGHT = 4
_INTEGER_WHITES = (255, 65535, 2**31 - 1)
_SAMPLED = (512, 512)

# TIFF tags.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED = 0, 1


def to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a loaded picture, its first frame, to a new one of mode RGB.

    Raises
    ------
    PictureError : floating-point pixels are not finite, or their level of white is unknown
    """
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture.convert("RGB")
    convert = _find_conversion(picture)
    width, height = picture.size
    whole = Image.new("RGB", picture.size)
    rows = max(1, _BAND // max(width, 1))
    for top in range(0, height, rows):
        whole.paste(convert(picture.crop((0, top, width, min(top + rows, height)))), (0, top))
    return whole


def _find_conversion(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Find the function that converts a band of the picture to RGB."""
    if picture.mode in (*_SIXTEEN_BIT, "I", "F"):
        white, inverted, unsigned = _find_white(picture)
        return lambda band: _scale_to_8_bit(band, white, inverted, unsigned)
    if picture.mode in _TRANSPARENT or "transparency" in picture.info:
        return _composite_over_white
    if picture.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(*profiles, "LAB", "RGB")
        return lambda band: ImageCms.applyTransform(band, transform)
    return lambda band: band.convert("RGB")


def _composite_over_white(band: Image.Image) -> Image.Image:
    layer = band.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, (255, 255, 255, 255)), layer).convert("RGB")


def _scale_to_8_bit(band: Image.Image, white: float, inverted: bool, unsigned: bool) -> Image.Image:
    # Pillow's own convert("L") clips values at 255 instead of scaling them.
    values = np.asarray(band)
    if unsigned:
        values = values.view(np.uint32)
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise PictureError("has pixel values that are not finite")
    if inverted:
        values = white - values
    return Image.fromarray(np.clip(np.rint(values * (255 / white)), 0, 255).astype(np.uint8)).convert("RGB")


def _find_white(picture: Image.Image) -> tuple[float, bool, bool]:
    """Find the level of white, whether black and white are swapped, and whether 32 bits are unsigned.

    A TIFF declares its number of bits. Few files with 32 bits use the whole range, and floating-point pixels have no
    range. White is then the smallest customary level that is not below the values; highlights of floating-point pixels
    may exceed it.
    """
    tags = picture.tag_v2 if picture.format == "TIFF" else {}
    bits, sample = (_first(tags.get(tag), default) for tag, default in ((_BITS, 16), (_SAMPLE_FORMAT, _UNSIGNED)))
    inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    if picture.mode == "F":
        return _find_white_of_floats(picture), inverted, False
    if bits < 32:
        return float(2 ** (bits if sample == _UNSIGNED else bits - 1) - 1), inverted, False
    low, high = picture.getextrema()
    if sample == _UNSIGNED and low < 0:  # Pillow stores them as signed numbers
        return float(2**32 - 1), inverted, True
    return float(next(white for white in _INTEGER_WHITES if high <= white)), inverted, False


def _find_white_of_floats(picture: Image.Image) -> float:
    values = np.asarray(picture.resize(_SAMPLED, Image.Resampling.NEAREST))
    if not np.isfinite(values).all():
        raise PictureError("has pixel values that are not finite")
    if (top := picture.getextrema()[1]) <= 1:
        return 1.0
    bulk = min(float(np.quantile(values, 0.9)) / _HIGHLIGHT, top)
    white = next((white for white in _FLOAT_WHITES if bulk <= white), None)
    if white is None:
        raise PictureError(
            f"floating-point pixels up to {top:.3g}, so the level of white is unknown; expected white at 1, 255 or "
            "65535; save it with 8 or 16 bits"
        )
    return white


def _first(value: object, default: int) -> int:
    return value[0] if isinstance(value, tuple) and value else value if isinstance(value, int) else default
