"""Thumbnails as data URLs, for HTML pages."""

import base64
import io

from PIL import Image


def encode_thumbnail(picture: Image.Image, side: int, quality: int) -> str:
    """Encode an RGB picture, scaled down to at most `side` pixels, as the data URL of a JPEG of that quality."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")
