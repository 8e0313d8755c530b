"""The transforms' third axis: the three colours, transformed like rows and columns.

The DFT over three colours gives their sum and two conjugate differences (red + green w + blue w^2,
w a third of a turn), the DCT-II a sum, red less blue, and green against both. So the planes hold
what the colours share apart from what tells them apart, which single colours' planes do not.
"""

import numpy as np
from scipy import fft


def dft_over_colours(channels: np.ndarray) -> np.ndarray:
    """Unnormalised DFT over the first axis of float32 (3, ...): complex64 (3, ...)."""
    return fft.fft(channels, axis=0)


def dct_over_colours(channels: np.ndarray) -> np.ndarray:
    """Orthonormal DCT-II over the first axis of float32 (3, ...), of the same type and shape."""
    return fft.dct(channels, axis=0, norm="ortho")
