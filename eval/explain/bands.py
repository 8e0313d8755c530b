"""Names of bands of spatial frequency."""

# Upper bounds of the frequencies with that name, in cycles per pixel.
_BANDS = ((0.1, "coarse patterns"), (0.3, "medium patterns"), (1.0, "fine patterns"))


def format_frequency_band(low: float, high: float) -> str:
    """Format the name of a band of frequencies, with its wavelengths in pixels of the fitted picture."""
    middle = (low + high) / 2
    kind = next(words for most, words in _BANDS if middle < most)
    lengths = f"{1 / high:.1f} pixels and more" if low == 0 else f"{1 / high:.1f} to {1 / low:.1f} pixels"
    return f"{kind} (waves of {lengths})"
