"""Drawing a validation split: a pure function of the seed and the pictures' hashes.

Whole near-duplicate groups move, never single pictures, so no picture of the training split has
a near-duplicate in validation. The share is drawn per class and source, so that every source
that is large enough is in both.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence


def draw_key(seed: int, identity: bytes, purpose: str) -> int:
    """A 64-bit number, uniform, from a seed, an identity and what it is for."""
    digest = hashlib.sha256(f"{seed}:{purpose}:".encode() + identity).digest()
    return int.from_bytes(digest[:8], "big")


def draw_validation(
    identities: Sequence[bytes],
    groups: Sequence[int],
    strata: Sequence[tuple[str, str]],
    fraction: float,
    seed: int,
) -> list[bool]:
    """Choose the validation pictures among training pictures.

    Parameters
    ----------
    identities : each picture's sha256
    groups : each picture's near-duplicate group
    strata : each picture's (class, source)
    fraction : share of each stratum's groups, 0 to 1
    seed : of the draw

    Returns
    -------
    True for each picture that goes to validation. A class of at least two groups gets at least
    one there where the fraction is above 0, and never all.
    """
    members = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    by_stratum = defaultdict(list)
    for indices in members.values():
        first = min(indices, key=lambda index: identities[index])
        key = draw_key(seed, identities[first], "validation")
        by_stratum[strata[first]].append((key, identities[first], indices))
    chosen: list[int] = []
    by_class = defaultdict(list)
    for stratum in sorted(by_stratum):
        drawn = sorted(by_stratum[stratum])
        share = min(round(fraction * len(drawn)), len(drawn) - 1)
        by_class[stratum[0]].append((share, drawn))
    for shares in by_class.values():
        if fraction > 0 and not any(share for share, _ in shares):
            total = sum(len(drawn) for _, drawn in shares)
            position = max(range(len(shares)), key=lambda index: len(shares[index][1]))
            shares[position] = (int(total > 1), shares[position][1])
        for share, drawn in shares:
            chosen += [index for _, _, indices in drawn[:share] for index in indices]
    result = [False] * len(groups)
    for index in chosen:
        result[index] = True
    return result
