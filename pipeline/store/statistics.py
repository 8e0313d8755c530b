"""Mean and standard deviation of the training rows, per plane and frequency, from exact sums of levels."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import zarr

from data_cards.core.cores import count_cores
from pipeline.features.settings import PLANES_PER_KIND, plane_slice

# Enough for 2 % on a standard deviation. A third digit would cost hours over a large store.
MAX_ROWS = 2048
# Limits the rows of large planes (about 200 at 1024 px), so that a build spends its time on features.
MAX_LEVELS = 2**31


def subsample_rows(rows: np.ndarray, row_levels: int) -> np.ndarray:
    """Return the rows for the statistics: all rows, or an evenly spaced subset of many.

    A store's rows are in seeded random order, and added rows follow the earlier ones, so the subset is also a fair
    sample of a store that has grown.
    """
    count = min(len(rows), MAX_ROWS, max(MAX_LEVELS // row_levels, 1))
    return rows[np.arange(count) * len(rows) // max(count, 1)]


def compute_statistics(features: zarr.Array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute statistics of the given rows, or of a fair sample of many (`subsample_rows`).

    Parameters
    ----------
    features : zarr array of uint8, shape (N, planes, H, W)
    rows : ndarray of int
        Row numbers of the training split, ascending; may be empty.

    Returns
    -------
    mean, std : ndarray of float32, shape (planes, H, W)
        In levels 0 to 255; 0 and 1 without rows.
    """
    shape = features.shape[1:]
    chosen = subsample_rows(rows, int(np.prod(shape)))
    parts = [plane_slice(kind) for kind in range(shape[0] // PLANES_PER_KIND)]
    with ThreadPoolExecutor(min(len(parts), count_cores())) as threads:
        mean, std = zip(*threads.map(lambda part: _compute_part(features, chosen, part), parts), strict=True)
    return np.concatenate(mean), np.concatenate(std)


def _compute_part(features: zarr.Array, rows: np.ndarray, planes: slice) -> tuple[np.ndarray, np.ndarray]:
    sums = LevelSums((planes.stop - planes.start, *features.shape[2:]))
    for row in rows:
        sums.add(features[int(row), planes])
    return sums.mean_and_std()


class LevelSums:
    """Sums of the levels of up to `MAX_ROWS` rows, and of their squares.

    Parameters
    ----------
    shape : tuple of int
        Of a row's levels, (planes, H, W).
    """

    def __init__(self, shape: tuple[int, ...]):
        self._total, self._squares = np.zeros((2, *shape), np.uint32)  # 2048 * 255^2 fits
        self._count = 0

    def add(self, levels: np.ndarray) -> None:
        """Add one row's levels, uint8."""
        np.add(self._total, levels, out=self._total)
        np.add(self._squares, np.multiply(levels, levels, dtype=np.uint16), out=self._squares)
        self._count += 1

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Return both as float32 of a row's shape, in levels; 0 and 1 without rows."""
        if not self._count:
            return self._total.astype(np.float32), np.ones_like(self._total, np.float32)
        mean = self._total / self._count
        variance = np.maximum(self._squares / self._count - mean**2, 0)
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
