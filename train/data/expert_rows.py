"""Rows that experts are fitted to: training and validation rows, because the fit itself leaves sources out."""

import numpy as np

from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from pipeline.features.variants import SHRUNK
from pipeline.store.reader import FeatureStore
from train.data.row_selection import check_picture_counts, condition_mask, source_mask
from train.settings import TrainSettings

MOST_ROWS = 40_000  # to fit to, in 1 GB of memory; more pictures of a source hardly change the fit


def choose_expert_rows(store: FeatureStore, settings: TrainSettings) -> np.ndarray:
    """Choose the rows that experts are fitted to: int64 (n,), ascending.

    Of a store with more than `MOST_ROWS` rows, choose the same number of pictures of each source, with all variants.

    Raises
    ------
    UserError : there are no rows, or rows of one class only, or a class with a single picture, or only shrunk ones
    """
    columns = store.columns
    rows = np.sort(np.concatenate([store.rows(TRAIN), store.rows(VAL)]))
    chosen = condition_mask(store, settings.where) & ~source_mask(store, settings.hold_out, "--hold-out")
    rows = rows[chosen[rows]]
    labels = np.unique(columns["label"][rows])
    if len(labels) < len(CLASS_NAMES):
        raise UserError(
            f"{store.path}: has {len(rows)} rows to train on, "
            + (f"all of them {CLASS_NAMES[labels[0]]}" if len(labels) else "of neither class")
            + "; expected both classes: change --where or --hold-out, or build it from both"
        )
    check_picture_counts(store.path, columns["label"][rows], columns["group"][rows])
    judged = np.unique(columns["label"][rows[columns["variant"][rows] != SHRUNK]])
    if len(judged) < len(CLASS_NAMES):
        alone = " and ".join(name for label, name in enumerate(CLASS_NAMES) if label not in judged)
        raise UserError(
            f"{store.path}: all {alone} rows to train on are of the variant {SHRUNK}, which gets no verdict; expected "
            "also another variant of each class, for the calibration; change --where"
        )
    return rows if len(rows) <= MOST_ROWS else _limit_pictures(store, rows)


def _limit_pictures(store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    """Return the rows of the first pictures of each source, as many as fit in `MOST_ROWS`."""
    pictures, first, counts = np.unique(store.columns["picture"][rows], return_index=True, return_counts=True)
    names = np.array([f"{store.columns['label'][row]} {store.columns['source'][row]}" for row in rows[first]])
    source = np.unique(names, return_inverse=True)[1]
    order = np.argsort(source, kind="stable")
    place = np.empty(len(pictures), np.int64)  # of each picture within its source
    starts = np.searchsorted(source[order], np.arange(source.max() + 1))
    place[order] = np.arange(len(pictures)) - starts[source[order]]
    low, high = 1, len(pictures)
    while low < high:  # the largest number of pictures a source
        middle = (low + high + 1) // 2
        low, high = (middle, high) if counts[place < middle].sum() <= MOST_ROWS else (low, middle - 1)
    return rows[np.isin(store.columns["picture"][rows], pictures[place < low])]
