"""Seeded choices as pure functions: a number from a seed, an identity and a purpose.

No random generator is involved, so a choice depends neither on the order of others nor on a library's version.
"""

import hashlib

FIXED_SEED = 0  # of draws that no option governs


def draw_key(seed: int, identity: bytes, purpose: str) -> int:
    """A 64-bit number, drawn from these three alone.

    Parameters
    ----------
    identity : of what the choice is made for; a picture's is the sha256 of its file, as 32 bytes
    purpose : apart from other choices for the same identity
    """
    digest = hashlib.sha256(f"{seed}:{purpose}:".encode() + identity).digest()
    return int.from_bytes(digest[:8], "big")
