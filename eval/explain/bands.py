"""Bands of spatial frequency in words."""

# Upper bounds of the frequencies, in cycles per pixel, that a newcomer would call so.
_BANDS = ((0.1, "coarse patterns"), (0.3, "middling patterns"), (1.0, "fine patterns"))


def format_frequency_band(low: float, high: float) -> str:
    """A band of frequencies in words, with the wavelengths that it stands for, in pixels of the fitted picture."""
    middle = (low + high) / 2
    kind = next(words for most, words in _BANDS if middle < most)
    lengths = f"{1 / high:.1f} pixels and more" if low == 0 else f"{1 / high:.1f} to {1 / low:.1f} pixels"
    return f"{kind} (waves of {lengths})"
