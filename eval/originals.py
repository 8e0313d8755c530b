"""The picture files behind a store's rows, where they are still there and unchanged, and seeded draws of them."""

import hashlib
from pathlib import Path

import numpy as np

from data_cards.errors import PictureError
from data_cards.facts import read_file
from data_cards.splits import draw_key
from eval.score import Scored
from pipeline.store import CLASS_NAMES

_SEED = 0


def read_original(path: str | Path, sha256: str) -> bytes | None:
    """The bytes of a row's picture file; None where it is gone, or another file has its name now."""
    try:
        data = read_file(Path(path))
    except PictureError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def shuffle_by_class(scored: Scored, purpose: str) -> list[np.ndarray]:
    """Numbers of each class's rows in an order drawn by seed, purpose and the files' hashes alone."""
    keys = np.array([draw_key(_SEED, sha256.encode(), purpose) for sha256 in scored.columns["sha256"]], np.uint64)
    orders = []
    for label in range(len(CLASS_NAMES)):
        rows = np.flatnonzero(scored.labels == label)
        orders.append(rows[np.argsort(keys[rows], kind="stable")])
    return orders
