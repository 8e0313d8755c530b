"""Mean and standard deviation of the training rows, per plane and frequency.

Sums of whole levels are exact; those of float16 levels are taken in double precision, row by row.
"""

import numpy as np
import zarr

# Enough for 2 % on a standard deviation; more rows would cost a large store hours of reading.
MAX_ROWS = 2048


def measure_statistics(features: zarr.Array, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Statistics over the first `MAX_ROWS` of the given rows.

    Rows stand in seeded random order in a store, so the first ones are a fair sample.

    Parameters
    ----------
    features : (N, 9, H, W)
    rows : row numbers of the training split, ascending; may be empty

    Returns
    -------
    mean, std : float32 (9, H, W), in levels 0..255; 0 and 1 where there are no rows
    """
    shape = features.shape[1:]
    chosen = rows[:MAX_ROWS]
    if len(chosen) == 0:
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)
    # 2048 * 255^2 fits 32 bits.
    exact = np.uint32 if features.dtype == np.uint8 else np.float64
    total = np.zeros(shape, dtype=exact)
    squares = np.zeros(shape, dtype=exact)
    for row in chosen:
        levels = features[int(row)].astype(exact)
        total += levels
        squares += levels * levels
    mean = total / len(chosen)
    variance = np.maximum(squares / len(chosen) - mean**2, 0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
