"""Perceptual hashes, and the groups of near-duplicate pictures that they define.

The hash is 256 signs of the lowest frequencies of a 64 x 64 grey thumbnail's DCT (after Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010, with four times its
bits). Re-encoding and resizing flip few of them; two different pictures differ in about half.

The search is exact and not quadratic: two hashes that differ in at most `MAX_DISTANCE` bits
agree in at least one of `MAX_DISTANCE + 1` blocks (pigeonhole), so only pictures that share a
block are compared.

Groups that cross splits or classes are listed and refused by `data_cards.dataset.leakage`.
"""

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 256
MAX_DISTANCE = 15  # re-encoding at quality 30 and halving flips at most about 13 bits; other pictures differ in over 30
_THUMBNAIL = 64
_SIDE = 16
# Frequencies weaker than this (grey levels times thumbnail side) hold rounding noise, not content.
_FAINT = 0.5
_MOST_PENDING = 64  # arrays of pairs that are kept before they are joined
_PAIRS_AT_A_TIME = 1_000_000  # bounds the memory: some 100 MB


def shrink(grey: Image.Image) -> Image.Image:
    """Resize a grey picture to 64 x 64; one of this size is returned unchanged."""
    size = (_THUMBNAIL, _THUMBNAIL)
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


def compute_perceptual_hash(grey: Image.Image) -> bytes:
    """Compute the perceptual hash (32 bytes) of an upright grey picture ("L") of any size."""
    spectrum = dctn(np.asarray(shrink(grey), dtype=np.float32), norm="ortho")[:_SIDE, :_SIDE]
    signs = spectrum > _FAINT
    signs[0, 0] = False  # the mean has no information about content
    return np.packbits(signs).tobytes()


def group_near_duplicates(hashes: np.ndarray) -> np.ndarray:
    """Group near-duplicates: pictures linked by a chain of pairs that are at most `MAX_DISTANCE` bits apart.

    Parameters
    ----------
    hashes : uint8 (N, 32)

    Returns
    -------
    int64 (N,), the index of the first member of each picture's group
    """
    count = len(hashes)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    # Equal hashes are merged first, because thousands of equal pictures would have quadratically many pairs.
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    component = _find_components(unique)[inverse.reshape(-1)]
    _, first, member = np.unique(component, return_index=True, return_inverse=True)
    return first[member.reshape(-1)].astype(np.int64)


def _find_components(hashes: np.ndarray) -> np.ndarray:
    """Number the groups of rows that are at most `MAX_DISTANCE` bits apart: int64 (N,).

    Pairs are joined as they are found, and rows of the same group are not compared again, because all pairs among
    thousands of frames of one scene are close.
    """
    words = hashes.view(np.uint64)
    blocks = hashes.view(np.uint16)  # 16 blocks of 16 bits: two close rows are equal in one of them
    assert blocks.shape[1] == MAX_DISTANCE + 1
    component = np.arange(len(hashes))
    for block in blocks.T:
        order = np.argsort(block, kind="stable")
        ordered = block[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        run = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(order)]))
        pending = []
        # In a run of equal blocks every member is compared with the one `step` places after it, for each step in turn.
        first = np.arange(len(order) - 1)
        for step in range(1, len(order)):
            first = first[first + step < len(order)]
            first = first[run[first] == run[first + step]]
            if not len(first):
                break
            for part in np.array_split(first, -(-len(first) // _PAIRS_AT_A_TIME)):
                one, other = order[part], order[part + step]
                apart = component[one] != component[other]
                one, other = one[apart], other[apart]
                close = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= MAX_DISTANCE
                pending.append(np.stack([one[close], other[close]]))
            if step & (step - 1) == 0 or len(pending) > _MOST_PENDING:
                component = _join(component, pending)
                pending = []
                of_run = component[order]
                several = np.minimum.reduceat(of_run, starts) != np.maximum.reduceat(of_run, starts)
                first = first[several[run[first]]]
        component = _join(component, pending)
    return component


def _join(component: np.ndarray, pairs: list[np.ndarray]) -> np.ndarray:
    """Join groups that are linked by pairs of rows; return the new numbers of the groups."""
    if not any(part.size for part in pairs):
        return component
    one, other = component[np.concatenate(pairs, axis=1)]
    links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(len(component),) * 2)
    return connected_components(links, directed=False)[1][component].astype(np.int64)
