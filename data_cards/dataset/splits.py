"""Random draw of a validation split: a pure function of the seed and the pictures' hashes.

Near-duplicate groups are drawn whole, so no picture of the training split has
a near-duplicate in validation. The share is drawn per class and source, so that every source
that is large enough is in both.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from data_cards.core.seeding import draw_key


def draw_validation(
    identities: Sequence[bytes],
    groups: Sequence[int],
    strata: Sequence[tuple[str, str]],
    fraction: float,
    seed: int,
) -> np.ndarray:
    """Draw the validation pictures among N training pictures.

    Parameters
    ----------
    identities : of bytes, length N, each picture's sha256
    groups : of int, length N, each picture's near-duplicate group
    strata : of (class, source), length N
    fraction : float, share of each stratum's groups, 0 to 1
    seed : int, of the draw

    Returns
    -------
    bool (N,), true for each validation picture. With a fraction above 0, at least one group is drawn from each class of
    at least two groups, and never all.
    """
    # Arrays, not lists of lists, because a plan of a million pictures must fit into memory too.
    names = np.array(identities, dtype=bytes)
    order = np.lexsort((names, groups))
    ordered = np.asarray(groups)[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]][: len(order)])
    first = order[starts]  # the member of each group with the lowest identity
    keys = np.fromiter((draw_key(seed, identities[member], "validation") for member in first), np.uint64, len(first))
    by_stratum = defaultdict(list)
    for number, member in enumerate(first):
        by_stratum[strata[member]].append(number)
    by_class = defaultdict(list)
    for stratum in sorted(by_stratum):
        members = np.array(by_stratum[stratum])
        drawn = members[np.lexsort((names[first[members]], keys[members]))]
        share = min(round(fraction * len(drawn)), len(drawn) - 1)
        by_class[stratum[0]].append((share, drawn))
    chosen = np.zeros(len(first), dtype=bool)
    for shares in by_class.values():
        if fraction > 0 and not any(share for share, _ in shares):
            total = sum(len(drawn) for _, drawn in shares)
            position = max(range(len(shares)), key=lambda index: len(shares[index][1]))
            shares[position] = (int(total > 1), shares[position][1])
        for share, drawn in shares:
            chosen[drawn[:share]] = True
    result = np.zeros(len(order), dtype=bool)
    result[order] = np.repeat(chosen, np.diff(np.r_[starts, len(order)]))
    return result
