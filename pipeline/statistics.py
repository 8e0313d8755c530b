"""Mean and standard deviation of the training rows, per plane and frequency.

Sums of levels are whole numbers, so the result does not depend on the order of summing.
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
    features : uint8 (N, 9, H, W)
    rows : row numbers of the training split, ascending; may be empty

    Returns
    -------
    mean, std : float32 (9, H, W), in levels 0..255; 0 and 1 where there are no rows
    """
    shape = features.shape[1:]
    chosen = rows[:MAX_ROWS]
    if len(chosen) == 0:
        return np.zeros(shape, np.float32), np.ones(shape, np.float32)
    total = np.zeros(shape, dtype=np.uint32)
    squares = np.zeros(shape, dtype=np.uint32)  # 2048 * 255^2 fits
    for row in chosen:
        levels = features[int(row)].astype(np.uint32)
        total += levels
        squares += levels * levels
    mean = total / len(chosen)
    variance = np.maximum(squares / len(chosen) - mean**2, 0)
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)
