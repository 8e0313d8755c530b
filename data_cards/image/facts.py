"""The facts of one picture file: hashes, size, format, JPEG quality.

The whole file is decoded once, a JPEG at a reduced scale: cheap in comparison with the spectra, and
truncated files are found before a build has fixed its number of rows.
"""

import hashlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from data_cards.archives.place import read_file, read_unchanged
from data_cards.image.decode import decode_opened, opened_picture, read_exif_presence, turn_upright
from data_cards.image.history import compute_history
from data_cards.image.jpeg import estimate_quality, read_encoding
from data_cards.image.low_frequency import compute_profile, compute_thumbnail
from data_cards.image.partial import find_unused
from data_cards.image.perceptual_hash import compute_perceptual_hash, shrink

# Large enough that the reduced decoding hardly changes the perceptual hash.
_DRAFT = (256, 256)
_LEFT_OUT = ("history", "unused")  # of the plain values, if empty


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """Facts of one picture file.

    Attributes
    ----------
    sha256 : 32 bytes, of the file's bytes
    bytes : size of the file
    format : Pillow's name; JPEG for MPO, which is a JPEG with further frames
    width, height : in pixels, upright
    quality : JPEG quality estimated from the tables, 1 to 100; `NO_QUALITY` for other formats
    phash : 32 bytes, perceptual hash
    mode : Pillow's name of the pixel format, such as RGB, L or RGBA
    tables : 8 hexadecimal digits of the hash of the JPEG quantisation tables; "" for other formats
    subsampling : of a JPEG's colours, such as 4:2:0; "" for other formats
    exif : whether there is EXIF data
    camera : whether it names a camera's make or model; no other value of it is read
    thumbnail : uint8 (8, 8, 3), upright; empty for most pictures of a very large set
        (`data_cards.dataset.table.PictureTable.subsample_thumbnails`)
    profile : radial profile of the low frequencies, see `data_cards.image.low_frequency`; empty if `thumbnail` is
    history : traces of earlier processing in the pixels, see `data_cards.image.history`; empty for most pictures
        (`data_cards.dataset.histories`)
    unused : kind of further pictures in the file, which are not used, see `data_cards.image.partial`; "" for none
    """

    sha256: bytes
    bytes: int
    format: str
    width: int
    height: int
    quality: int
    phash: bytes
    mode: str
    tables: str
    subsampling: str
    exif: bool
    camera: bool
    thumbnail: bytes = b""
    profile: bytes = b""
    history: bytes = b""
    unused: str = ""

    def to_dict(self) -> dict:
        """Return plain values, ready for JSON; bytes as hexadecimal digits; without empty `history` and `unused`."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        plain = {field.name: value.hex() if field.type is bytes else value for field, value in values}
        return {name: value for name, value in plain.items() if value or name not in _LEFT_OUT}

    @classmethod
    def from_dict(cls, values: dict) -> "PictureFacts":
        """Create facts from the values of `to_dict`."""
        values = dict.fromkeys(_LEFT_OUT, "") | values
        return cls(
            **{
                field.name: bytes.fromhex(values[field.name]) if field.type is bytes else values[field.name]
                for field in fields(cls)
            }
        )


def read_facts(path: Path, max_pixels: int) -> PictureFacts:
    """Read the facts of a picture file; raises `PictureError` if it is not a picture, broken or too large."""
    data = read_file(path)
    return compute_facts(data, hashlib.sha256(data).digest(), max_pixels)


def read_history(path: Path, sha256: bytes, max_pixels: int) -> bytes:
    """Read a scanned picture's history (`data_cards.image.history`) from all of its pixels.

    Raises
    ------
    PictureError : as `read_facts`, or the file has changed since the scan
    """
    with opened_picture(read_unchanged(path, sha256), max_pixels) as picture:
        return compute_history(decode_opened(picture)[0])


def compute_facts(data: bytes, sha256: bytes, max_pixels: int) -> PictureFacts:
    """Compute the facts of a picture file's bytes, whose hash is known; raises as `read_facts`."""
    with opened_picture(data, max_pixels) as picture:
        width, height = picture.size
        quality = estimate_quality(picture)
        tables, subsampling = read_encoding(picture)
        mode = picture.mode
        picture.draft("RGB", _DRAFT)  # does nothing for formats other than JPEG
        rgb, orientation = decode_opened(picture)
        exif, camera = read_exif_presence(picture)
        rgb = turn_upright(rgb, orientation)
        grey = shrink(rgb.convert("L"))
        if orientation >= 5:
            width, height = height, width
        return PictureFacts(
            sha256=sha256,
            bytes=len(data),
            format="JPEG" if picture.format == "MPO" else picture.format,
            width=width,
            height=height,
            quality=quality,
            phash=compute_perceptual_hash(grey),
            mode=mode,
            tables=sys.intern(tables),
            subsampling=subsampling,
            exif=exif,
            camera=camera,
            thumbnail=compute_thumbnail(rgb),
            profile=compute_profile(grey),
            unused=find_unused(picture, data, max_pixels),
        )
