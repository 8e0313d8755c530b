"""The JPEG facts of a picture file: the quality that matches its quantisation tables, and its subsampling.

Encoders built on the Independent JPEG Group's library scale the example tables of the JPEG
standard (ITU-T T.81, annex K) by a quality from 1 to 100; the estimate is the quality whose
luminance table is nearest. For encoders with other tables it is the nearest equivalent, not an exact
figure.
"""

import hashlib
from functools import cache

import numpy as np
from PIL import Image, JpegImagePlugin

from data_cards.core.errors import PictureError

# Luminance table of ITU-T T.81, table K.1, row by row.
_LUMINANCE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
NO_QUALITY = -1  # the JPEG quality of other formats, wherever one is stored or compared
_SUBSAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


@cache
def _compute_scaled_tables() -> np.ndarray:
    """Compute the luminance table at qualities 1 to 100, as the IJG library scales it, sorted: int (100, 64)."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.sort(np.clip((_LUMINANCE * percent + 50) // 100, 1, 255), axis=1)


def estimate_quality(picture: Image.Image) -> int:
    """Estimate the JPEG quality of an open picture file, 1 to 100; `NO_QUALITY` for other formats."""
    tables = getattr(picture, "quantization", None)
    if not tables or 0 not in tables:
        return NO_QUALITY
    table = np.asarray(tables[0])
    if table.shape != (64,):
        raise PictureError(f"broken JPEG: a quantisation table of the wrong size; expected 64 values, got {table.size}")
    # Sorted, because a table's values may come in zigzag or in row order.
    distance = np.abs(_compute_scaled_tables() - np.sort(table)).sum(axis=1)
    return int(distance.argmin()) + 1


def read_encoding(picture: Image.Image) -> tuple[str, str]:
    """Read an open JPEG's quantisation tables, as 8 digits of their hash, and its subsampling; else "" and ""."""
    tables = getattr(picture, "quantization", None)
    if not tables:
        return "", ""
    values = ";".join(",".join(map(str, tables[number])) for number in sorted(tables))
    name = hashlib.sha256(values.encode()).hexdigest()[:8]
    if len(picture.layer) == 1:
        return name, "none (grey)"
    return name, _SUBSAMPLINGS.get(JpegImagePlugin.get_sampling(picture), "another")
