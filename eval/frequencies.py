"""Bands of spatial frequency, on the scale of `pipeline.frequencies`."""

import numpy as np

from pipeline.frequencies import HIGHEST as HIGHEST
from pipeline.frequencies import NYQUIST as NYQUIST
from pipeline.frequencies import frequencies_of
from pipeline.store import KINDS


def find_bands(edges: np.ndarray, height: int, width: int) -> np.ndarray:
    """Band of every bin of a sample: int64 (9, H, W), from 0 to len(edges) - 2.

    Parameters
    ----------
    edges : ascending, in cycles per pixel; the last band holds all above it too
    """
    planes = [np.clip(np.digitize(frequencies_of(kind, height, width), edges) - 1, 0, len(edges) - 2) for kind in KINDS]
    return np.repeat(np.stack(planes), 3, axis=0)
