"""Mean and standard deviation of the training rows, per plane and frequency.

Sums of whole levels are exact; those of float16 levels are taken in double precision, row by row.
"""

import numpy as np
import zarr

# Enough for 2 % on a standard deviation; more rows would cost a large store hours of reading.
MAX_ROWS = 2048


def measure_statistics(features: zarr.Array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics over the given rows, or over `MAX_ROWS` of them, evenly spaced.

    Rows stand in seeded random order in a store, and added ones behind the old, so these are a
    fair sample of a store that has grown too.

    Parameters
    ----------
    features : (N, 9, H, W)
    rows : row numbers of the training split, ascending; may be empty

    Returns
    -------
    mean, std : float32 (9, H, W), in levels 0..255; 0 and 1 where there are no rows
    """
    shape = features.shape[1:]
    count = min(len(rows), MAX_ROWS)
    chosen = rows[np.arange(count) * len(rows) // max(count, 1)]
    if count == 0:
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)
    # 2048 * 255^2 fits 32 bits.
    exact = np.uint32 if features.dtype == np.uint8 else np.float64
    total = np.zeros(shape, dtype=exact)
    squares = np.zeros(shape, dtype=exact)
    for row in chosen:
        levels = features[int(row)].astype(exact)
        total += levels
        squares += levels * levels
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
