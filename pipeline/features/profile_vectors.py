"""Layout of a profile: its vectors and their lengths. `pipeline.features.profiles` computes them."""

import numpy as np

# A camera's original is shrunk before its pixels are read: its finest detail holds no trace of any generator.
LARGE, LARGE_TO = 2048, 1536  # px, long side
SHRINK_LARGE = {"do": "limit", "longest": LARGE_TO, "filter": "lanczos", "above": LARGE, "reducing_gap": 1.0}
PERIODS = 8 * np.exp(
    np.linspace(np.log(0.4), np.log(2.2), 110)
)  # px: decoders of 8 px, the picture scaled by 0.4 to 2.2

# The length of each vector, in the order of a profile.
PROFILE_VECTORS = {"light": 9, "colour": 36, "harmonics": 162, "tints": 324, "comb": 220, "facts": 4}
PROFILE_LENGTH = sum(PROFILE_VECTORS.values())


def split_profiles(profiles: np.ndarray) -> dict[str, np.ndarray]:
    """Split profiles (..., 755) into their vectors, views by name."""
    ends = np.cumsum(list(PROFILE_VECTORS.values()))
    return dict(zip(PROFILE_VECTORS, np.split(profiles, ends[:-1], axis=-1), strict=True))
