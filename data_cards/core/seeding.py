"""Seeded choices as pure functions: a number from a seed, an identity and a purpose.

No random generator is involved, so a choice depends neither on the order of others nor on a library's version.
"""

import hashlib

FIXED_SEED = 0  # of draws that have no option


def draw_key(seed: int, identity: bytes, purpose: str) -> int:
    """Draw a 64-bit number, a pure function of the parameters.

    Parameters
    ----------
    seed : int
    identity : bytes, of what the number is for; of a picture the sha256 of its file, 32 bytes
    purpose : str, separates draws for the same identity
    """
    digest = hashlib.sha256(f"{seed}:{purpose}:".encode() + identity).digest()
    return int.from_bytes(digest[:8], "big")
