"""The low frequencies of a picture: its radial profile, and an 8 x 8 thumbnail.

Both are for the shortcut audit. A generator's traces are at high frequencies, and the profile ends
below them: classes whose profiles differ have different content, focus or contrast.
"""

import numpy as np
from PIL import Image

from data_cards.image.perceptual_hash import shrink

FREQUENCIES = 16  # cycles a side; the thumbnail resolves 32, but its resampling attenuates the upper half
THUMBNAIL = 8
_SIDE = 64
_WINDOW = np.outer(np.hanning(_SIDE), np.hanning(_SIDE))
_RADIUS = np.rint(np.hypot(*np.meshgrid(np.fft.fftfreq(_SIDE, 1 / _SIDE), np.fft.fftfreq(_SIDE, 1 / _SIDE)))).astype(
    int
)
_FLOOR = 1.0  # squared grey levels: gives a flat picture a value instead of minus infinity


def compute_profile(grey: Image.Image) -> bytes:
    """Compute the radial profile of a grey picture: float16 (16,), log10 of mean power at 1 to 16 cycles a side."""
    thumbnail = np.asarray(shrink(grey), dtype=np.float64)
    power = np.abs(np.fft.fft2((thumbnail - thumbnail.mean()) * _WINDOW)) ** 2
    total = np.bincount(_RADIUS.ravel(), power.ravel())[1 : FREQUENCIES + 1]
    count = np.bincount(_RADIUS.ravel())[1 : FREQUENCIES + 1]
    return np.log10(total / count + _FLOOR).astype("<f2").tobytes()


def compute_thumbnail(rgb: Image.Image) -> bytes:
    """Compute the 8 x 8 means of an upright RGB picture: uint8 (8, 8, 3)."""
    return rgb.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()
