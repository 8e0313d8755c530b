"""Picture files of a store's rows that still exist unchanged, and seeded draws of them."""

from pathlib import Path

import numpy as np

from data_cards.archives.place import read_unchanged
from data_cards.core.errors import PictureError
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.seeding import FIXED_SEED, draw_key
from eval.scores.rows import Scored


def read_original(path: str | Path, sha256: str) -> bytes | None:
    """Read a row's picture file; None if it was removed or has changed."""
    try:
        return read_unchanged(path, bytes.fromhex(sha256))
    except PictureError:
        return None


def shuffle_by_class(scored: Scored, purpose: str) -> list[np.ndarray]:
    """Return the numbers of each class's rows in an order drawn from seed, purpose and the files' hashes alone."""
    keys = np.array(
        [draw_key(FIXED_SEED, bytes.fromhex(sha256), purpose) for sha256 in scored.columns["sha256"]], np.uint64
    )
    orders = []
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(scored.labels == label)
        orders.append(rows[np.argsort(keys[rows], kind="stable")])
    return orders
