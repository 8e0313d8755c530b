"""Spatial frequency of every bin of the planes, in cycles per pixel of the fitted picture or the overview.

DFT and DCT share one scale. A frequency is the distance from zero frequency, sqrt(fx^2 + fy^2): 0.5 is the finest
pattern along a row or a column (Nyquist); only the planes' corners are higher, up to sqrt(0.5). The DFT planes have
zero frequency in the middle; the DCT planes have it in the first corner, and bin k of an N-point DCT-II has
k / (2 N) cycles per pixel.
"""

import numpy as np

from pipeline.features.settings import base_kind

MAX_FREQUENCY = float(np.sqrt(0.5))
NYQUIST = 0.5


def compute_frequencies(kind: str, height: int, width: int) -> np.ndarray:
    """Compute the frequency of every bin of a plane of this kind: float64 (H, W), in cycles per pixel."""
    if base_kind(kind) == "dct":
        down, across = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    else:
        down, across = ((np.arange(side) - side // 2) / side for side in (height, width))
    return np.hypot(down[:, None], across[None, :])


def assign_bands(edges: np.ndarray, kind: str, height: int, width: int) -> np.ndarray:
    """Assign every bin of a plane of this kind to a frequency band: int64 (H, W), from 0 to len(edges) - 2.

    Parameters
    ----------
    edges : ndarray of float, shape (bands + 1,)
        Ascending, in cycles per pixel. Frequencies above the last edge belong to the last band.
    """
    return np.clip(np.digitize(compute_frequencies(kind, height, width), edges) - 1, 0, len(edges) - 2)
