"""Seeded choices as pure functions of a seed, an identity and a purpose.

No random generator is used, so a choice depends neither on the order of other choices nor on a library's version.
"""

import hashlib

FIXED_SEED = 0  # of draws without a seed option


def draw_key(seed: int, identity: bytes, purpose: str) -> int:
    """Draw a 64-bit number, a pure function of the parameters.

    Parameters
    ----------
    seed : int
    identity : bytes, of the object that the number is drawn for; for a picture the sha256 of its file, 32 bytes
    purpose : str, separates draws for the same identity
    """
    digest = hashlib.sha256(f"{seed}:{purpose}:".encode() + identity).digest()
    return int.from_bytes(digest[:8], "big")
