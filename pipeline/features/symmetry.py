"""Hermitian symmetry of a centred spectrum: the values that follow from others.

With zero frequency at row H // 2, column W // 2, frequency k of index i has -k at index
(2 (N // 2) - i) mod N. A plane is even when its values at k and -k are equal, odd when one is
the negative of the other (modulo 256 for uint8). The independent part has all rows of the columns
right of the middle. Of the columns that are their own mirror image (the middle one, and with an even
width the first) it has the rows from the middle on (with an even height also the first).
"""

from collections.abc import Iterator

import numpy as np

Index = tuple


def iterate_mirrored_parts(height: int, width: int) -> Iterator[tuple[Index, Index]]:
    """Yield pairs of indices (dependent, independent) into arrays whose last two axes are rows and columns."""
    row, column = height // 2, width // 2
    below = (height - 1) // 2  # rows, and columns, that have a mirror image on the other side
    right = (width - 1) // 2
    for own in self_mirrored_columns(width):
        yield (..., slice(row - below, row), own), (..., _reversed(row + 1, row + 1 + below), own)
    left, source = slice(column - right, column), _reversed(column + 1, column + 1 + right)
    yield (..., slice(row - below, height), left), (..., _reversed(row - below, height), source)
    if height % 2 == 0:
        yield (..., 0, left), (..., 0, source)


def self_mirrored_columns(width: int) -> tuple[int, ...]:
    """Return the columns that are their own mirror image."""
    return (width // 2, 0) if width % 2 == 0 else (width // 2,)


def fill_mirror_images(planes: np.ndarray, odd: bool) -> None:
    """Fill the dependent part of planes (..., H, W) from the independent one, in place."""
    for dependent, independent in iterate_mirrored_parts(*planes.shape[-2:]):
        _copy_mirror_image(planes[independent], planes[dependent], odd)


def is_mirrored(planes: np.ndarray, odd: bool) -> bool:
    """Return whether planes (..., H, W) are even, or odd, to the last bit."""
    bits = np.dtype(f"u{planes.itemsize}")
    for dependent, independent in iterate_mirrored_parts(*planes.shape[-2:]):
        there = planes[dependent]
        expected = np.empty_like(there)
        _copy_mirror_image(planes[independent], expected, odd)
        if not np.array_equal(expected.view(bits), there.view(bits)):
            return False
    return True


def _copy_mirror_image(source: np.ndarray, target: np.ndarray, odd: bool) -> None:
    """Copy the source, negated if odd; reversed bytes are copied as swapped words of eight, in half the time."""
    length = source.shape[-1]
    if source.strides[-1] != -1 or length < 8:
        target[...] = _negate_if_odd(source, odd)  # not in place: NumPy 2.4.6 negates a column wrongly in place
        return
    forwards, whole = source[..., ::-1], length // 8 * 8
    target[..., :whole].view(">u8")[...] = forwards[..., length - whole :].view("<u8")[..., ::-1]
    target[..., length - 8 :].view(">u8")[...] = forwards[..., :8].view(
        "<u8"
    )  # the remaining bytes; some are copied twice
    if odd:
        np.negative(target, out=target)


def _negate_if_odd(values: np.ndarray, odd: bool) -> np.ndarray:
    return np.negative(values) if odd else values


def _reversed(start: int, stop: int) -> slice:
    return slice(stop - 1, start - 1 if start else None, -1)
