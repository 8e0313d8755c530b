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
MAX_DISTANCE = 15  # re-encoding at quality 30 and halving flips at most about 13 bits, another picture over 30
_THUMBNAIL = 64
_SIDE = 16
# Frequencies weaker than this (grey levels times thumbnail side) carry rounding noise, not content.
_FAINT = 0.5
_PAIRS_AT_A_TIME = 1_000_000  # bounds the memory: some 100 MB


def shrink(grey: Image.Image) -> Image.Image:
    """Resize a grey picture to 64 x 64; one of that size is returned as it is."""
    size = (_THUMBNAIL, _THUMBNAIL)
    return grey if grey.size == size else grey.resize(size, Image.Resampling.BILINEAR)


def compute_perceptual_hash(grey: Image.Image) -> bytes:
    """Compute the perceptual hash (32 bytes) of an upright grey picture ("L") of any size."""
    spectrum = dctn(np.asarray(shrink(grey), dtype=np.float32), norm="ortho")[:_SIDE, :_SIDE]
    signs = spectrum > _FAINT
    signs[0, 0] = False  # the mean says nothing about content
    return np.packbits(signs).tobytes()


def group_near_duplicates(hashes: np.ndarray) -> np.ndarray:
    """Group near-duplicates: pictures that a chain of pairs links, each at most `MAX_DISTANCE` bits apart.

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
    # Equal hashes first: thousands of equal pictures would be quadratically many pairs.
    unique, inverse = np.unique(hashes, axis=0, return_inverse=True)
    pairs = _find_close_pairs(unique)
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(unique),) * 2)
    _, component = connected_components(links, directed=False)
    component = component[inverse.reshape(-1)]
    _, first, member = np.unique(component, return_index=True, return_inverse=True)
    return first[member.reshape(-1)].astype(np.int64)


def _find_close_pairs(hashes: np.ndarray) -> np.ndarray:
    """Find pairs (P, 2) of rows at most `MAX_DISTANCE` bits apart; a pair may be there more than once."""
    words = hashes.view(np.uint64)
    blocks = hashes.view(np.uint16)  # 16 blocks of 16 bits
    assert blocks.shape[1] == MAX_DISTANCE + 1
    found = [np.zeros((0, 2), dtype=np.int64)]
    for block in blocks.T:
        order = np.argsort(block, kind="stable")
        ordered = block[order]
        # In a run of equal blocks every member is compared with the one `step` places after it, for each step in turn.
        first = np.arange(len(order) - 1)
        for step in range(1, len(order)):
            first = first[first + step < len(order)]
            first = first[ordered[first] == ordered[first + step]]
            if not len(first):
                break
            for part in np.array_split(first, -(-len(first) // _PAIRS_AT_A_TIME)):
                one, other = order[part], order[part + step]
                close = np.bitwise_count(words[one] ^ words[other]).sum(axis=1) <= MAX_DISTANCE
                found.append(np.stack([one[close], other[close]], axis=1))
    return np.concatenate(found)
