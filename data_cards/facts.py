"""What one picture file is, read without features: hashes, size, format, JPEG quality.

The whole file is decoded once, for JPEG at a reduced scale: cheap beside the spectra, and it
finds truncated files before a build has fixed its number of rows.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from data_cards.decode import UPRIGHT, open_picture, read_orientation, to_rgb
from data_cards.errors import PictureError
from data_cards.hashes import hash_thumbnail
from data_cards.jpeg import estimate_quality

# Large enough that the reduced decoding hardly changes the perceptual hash.
_DRAFT = (256, 256)


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Facts of one picture file.

    Attributes
    ----------
    sha256 : of the file's bytes, 32 bytes
    bytes : size of the file
    format : Pillow's name; MPO counts as JPEG, which it is but for what follows the first frame
    width, height : in pixels, upright
    quality : JPEG quality estimated from the tables, 1 to 100; -1 for other formats
    phash : perceptual hash, 32 bytes
    """

    sha256: bytes
    bytes: int
    format: str
    width: int
    height: int
    quality: int
    phash: bytes


def read_file(path: Path) -> bytes:
    """A file's bytes; raises `PictureError` when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error


def read_facts(path: Path, max_pixels: int) -> PictureFacts:
    """Facts of a picture file; raises `PictureError` when it is none, broken or too large."""
    data = read_file(path)
    with open_picture(data, max_pixels) as picture:
        width, height = picture.size
        quality = estimate_quality(picture)
        orientation = read_orientation(picture)
        if min(width, height) < 1:
            raise PictureError("has no pixels")
        picture.draft("RGB", _DRAFT)  # does nothing for formats other than JPEG
        grey = to_rgb(picture).convert("L")
        if orientation in UPRIGHT:
            grey = grey.transpose(UPRIGHT[orientation])
        if orientation >= 5:
            width, height = height, width
        return PictureFacts(
            sha256=hashlib.sha256(data).digest(),
            bytes=len(data),
            format="JPEG" if picture.format == "MPO" else picture.format,
            width=width,
            height=height,
            quality=quality,
            phash=hash_thumbnail(grey),
        )
