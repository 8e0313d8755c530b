"""Coarser levels of periodogram planes: fewer values of the same scale, as many as the noise of a bin justifies.

In a picture without structure, F and D of `pipeline.features.periodogram` are normal. So |F|^2 is distributed
exponentially and log|F| has the variance pi^2 / 24, a deviation of 0.64 nats; D^2 is chi-squared with one degree of
freedom and log|D| has pi^2 / 8, 1.11 nats. What a plane stores is v = log(1 + |F|). Its slope over log|F| is
1 - exp(-v), so its deviation is smaller by this factor. The phase is uniform; as an angle it is compared on the unit
circle, where its variance is 1.

Rounding to steps of s adds s^2 / 12 to the variance and, if s is below the bin's deviation, changes nothing else
(Widrow and Kollár, Quantization Noise, 2008): means over bins or pictures hardly change. Each step is the widest that
adds at most `SHARE` of the bin's own variance. A step is an odd number of fine levels, and its value is the middle
one, so that no value is halfway between two. Rounding a uniform angle to n values shortens the mean unit vector around
each to sin(pi / n) / (pi / n), and adds twice what is lost. A step of the phase is a power of two, and zero and pi are
among its values.

So a coarse store has the scales, the data type and the codec of a fine one; a table maps fine levels to coarse ones.
"""

from functools import cache

import numpy as np

from pipeline.features.periodogram import LEVELS, compute_dct_bound, compute_magnitude_bound
from pipeline.features.settings import SQUARE_KINDS, plane_slice

SHARE = 0.05
MAGNITUDE_VARIANCE = np.pi**2 / 24
DCT_VARIANCE = np.pi**2 / 8


def round_levels(levels: np.ndarray) -> np.ndarray:
    """Round the fine levels of a periodogram, uint8 (9, H, W), to coarse ones: a new uint8 (9, H, W)."""
    tables = create_tables(*levels.shape[1:])
    coarse = np.empty_like(levels)
    for kind, table in enumerate(tables):
        planes = levels[plane_slice(kind)]
        rounded = planes.tobytes().translate(table.tobytes())  # in half the time of NumPy's take
        coarse[plane_slice(kind)] = np.frombuffer(rounded, np.uint8).reshape(planes.shape)
    return coarse


def count_levels(size: int) -> list[int]:
    """Count the coarse levels of each kind of plane of `size` x `size` bins."""
    return [len(np.unique(table)) for table in create_tables(size, size)]


@cache
def create_tables(height: int, width: int) -> np.ndarray:
    """Create the tables from fine to coarse levels: uint8 (3, 256), for magnitude, phase and DCT of H x W bins."""
    tables = {
        "magnitude": _create_log_table(compute_magnitude_bound(height, width), MAGNITUDE_VARIANCE),
        "phase": _create_phase_table(),
        "dct": _create_log_table(compute_dct_bound(height, width), DCT_VARIANCE),
    }
    return np.stack([tables[kind] for kind in SQUARE_KINDS])


def _create_log_table(bound: float, variance: float) -> np.ndarray:
    """Create the table of a log magnitude: uint8 (256,).

    Parameters
    ----------
    bound : float, in nats, of level 255
    variance : float, in nats squared, of a strong bin's logarithm
    """
    nats = bound / (LEVELS - 1)
    widest = np.sqrt(12 * SHARE * variance) / nats  # in levels
    table = np.empty(LEVELS, np.uint8)
    start = 0
    while start < LEVELS:
        width = 1
        # A step that is wider by two has its middle one level higher.
        while width + 2 <= min(-widest * np.expm1(-(start + width // 2 + 1) * nats), LEVELS - start):
            width += 2
        table[start : start + width] = start + width // 2
        start += width
    return table


def _create_phase_table() -> np.ndarray:
    """Create the table of a phase, odd modulo 256: uint8 (256,)."""
    step = LEVELS
    while 2 * (1 - np.sinc(step / LEVELS)) > SHARE:
        step //= 2
    half = np.arange(LEVELS // 2 + 1)
    half = (half + step // 2 - 1) // step * step  # halfway: towards zero on either side
    return np.concatenate([half, -half[-2:0:-1]]).astype(np.uint8)
