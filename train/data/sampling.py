"""Sampler: the rows of an epoch and their order, a pure function of (seed, epoch).

Every picture gets a 64-bit key from (seed, epoch, its number); pictures are read in the order
of their keys, and the variant is drawn from another such key. No random generator is involved,
so the order is the same with every version of NumPy, and the order of an epoch does not depend
on the epochs before it.
"""

from collections.abc import Iterator

import numpy as np

from train.settings import VARIANTS_PER_EPOCH

_FOR_ORDER, _FOR_VARIANT, _FOR_STEP = 1, 2, 3
_ROUND = 2**40  # above all rows and pictures: an identity that is repeated gets another key


def sample_epoch(
    rows: np.ndarray,
    pictures: np.ndarray,
    seed: int,
    epoch: int,
    variants_per_epoch: str = "1",
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """Sample the rows of one epoch, in shuffled order.

    Parameters
    ----------
    rows : ndarray of int, shape (n,), rows of the training split, ascending
    pictures : ndarray of int, shape (n,), number of each row's picture; variants of a picture share it
    seed, epoch : int, 0 or more
    variants_per_epoch : "1" draws one row of each picture, "all" uses every row
    strata : ndarray of int, shape (n, levels), of each row, such as class and source. All values of the first level
        are sampled equally often, within each of them all values of the second, and so on. The length of the epoch
        does not change. None samples every picture once

    Returns
    -------
    ndarray of int64, one entry a picture or a row
    """
    rows, pictures = np.asarray(rows, dtype=np.int64), np.asarray(pictures, dtype=np.int64)
    if variants_per_epoch not in VARIANTS_PER_EPOCH:
        raise ValueError(f"variants per epoch {variants_per_epoch!r}: expected one of {VARIANTS_PER_EPOCH}")
    if variants_per_epoch == "all":
        places, rounds = _choose_identities(rows, strata, seed, epoch)
        chosen, identities = rows[places], rows[places] + _ROUND * rounds
    else:
        by_picture = np.argsort(pictures, kind="stable")
        numbers, starts, counts = np.unique(pictures[by_picture], return_index=True, return_counts=True)
        places, rounds = _choose_identities(
            numbers, None if strata is None else strata[by_picture][starts], seed, epoch
        )
        identities = numbers[places] + _ROUND * rounds
        # The remainder favours low variants by less than one part in 2**60.
        drawn = _draw_keys(identities, seed, epoch, _FOR_VARIANT) % counts[places].astype(np.uint64)
        chosen = rows[by_picture][starts[places] + drawn.astype(np.int64)]
    keys = _draw_keys(identities, seed, epoch, _FOR_ORDER)
    return chosen[np.argsort(keys, kind="stable")]


def _choose_identities(
    identities: np.ndarray, strata: np.ndarray | None, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the identities that an epoch uses, and the repetition of each, from 0."""
    indices = np.arange(len(identities))
    if strata is None:
        return indices, np.zeros(len(identities), dtype=np.int64)
    places, rounds = [], []
    for members, quota in _split_quota(indices, strata, len(identities)):
        whole, rest = divmod(quota, len(members))
        keys = _draw_keys(identities[members] + _ROUND * whole, seed, epoch, _FOR_ORDER)
        places += [np.tile(members, whole), members[np.argsort(keys, kind="stable")[:rest]]]
        rounds += [np.repeat(np.arange(whole), len(members)), np.full(rest, whole)]
    return np.concatenate(places), np.concatenate(rounds).astype(np.int64)


def _split_quota(members: np.ndarray, strata: np.ndarray, total: int) -> Iterator[tuple[np.ndarray, int]]:
    """Split a total equally among the values of the first level, each share among those of the next, and so on.

    Yields
    ------
    members of a stratum, and how many samples it gets
    """
    if strata.shape[1] == 0:
        yield members, total
        return
    values = np.unique(strata[members, 0])
    for turn, value in enumerate(values):
        part = total // len(values) + (turn < total % len(values))
        own = members[strata[members, 0] == value]
        yield from _split_quota(own, strata[:, 1:], part)


def split_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Cut an order into batches of at most `batch_size`, all of one size or one less.

    A small last batch would disturb the statistics of batch normalisation, and leaving it out
    would lose samples. No batch has a single sample: with a batch size of 2 and an odd number
    of samples, one batch has 3.
    """
    count = min(-(-len(order) // batch_size), len(order) // 2)
    return np.array_split(order, max(count, 1))


def draw_seed(seed: int, step: int) -> int:
    """Return a 63-bit seed for the random draws of one step, such as dropout's."""
    return int(_draw_keys(np.array([step]), seed, 0, _FOR_STEP)[0]) >> 1


def _draw_keys(identities: np.ndarray, seed: int, epoch: int, purpose: int) -> np.ndarray:
    """Return a uint64 key for each identity, a pure function of the identity and the three numbers.

    Vectorised, unlike `data_cards.core.seeding.draw_key`: an epoch draws millions at once.
    """
    key = np.zeros(1, dtype=np.uint64)
    for number in (purpose, seed, epoch):
        key = _splitmix64(key ^ np.uint64(number % 2**64))
    return _splitmix64(key ^ _splitmix64(identities.astype(np.uint64)))


def _splitmix64(values: np.ndarray) -> np.ndarray:
    """Compute the output function of SplitMix64 (Steele, Lea and Flood, 2014), a bijection of 64 bits."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
