"""Bands of spatial frequency, on the scale of `pipeline.frequencies`."""

import numpy as np

from pipeline.frequencies import HIGHEST as HIGHEST
from pipeline.frequencies import NYQUIST as NYQUIST
from pipeline.frequencies import frequencies_of


def find_bands(edges: np.ndarray, kind: str, height: int, width: int) -> np.ndarray:
    """Band of every bin of a plane of that kind: int64 (H, W), from 0 to len(edges) - 2.

    Parameters
    ----------
    edges : ascending, in cycles per pixel; the last band holds all above it too
    """
    return np.clip(np.digitize(frequencies_of(kind, height, width), edges) - 1, 0, len(edges) - 2)
