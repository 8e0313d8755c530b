"""Mean and standard deviation of the rows that a run trains on: sources that are held out do not contribute."""

import numpy as np

from data_cards.core.labels import TRAIN
from pipeline.store.reader import FeatureStore
from pipeline.store.statistics import LevelSums, subsample_rows
from train.data.loader import read_batches
from train.data.sampling import split_batches
from train.settings import TrainSettings

_ROWS_A_BATCH = 16


def compute_training_statistics(
    store: FeatureStore, rows: np.ndarray, settings: TrainSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the store's own statistics if the run trains on all training rows, else compute them from the rows.

    Parameters
    ----------
    rows : ndarray of int64, shape (n,), to train on, ascending

    Returns
    -------
    mean, std : ndarray of float32, shape (planes, H, W), in levels; rows that cannot be read and may be skipped do not
        count

    Raises
    ------
    StoreError : a row cannot be read and may not be skipped
    """
    if np.array_equal(rows, store.rows(TRAIN)):
        return store.mean, store.std
    shape = store.features.shape[1:]
    chosen = subsample_rows(rows, int(np.prod(shape)))
    skipped = set() if settings.on_bad_sample == "skip" else None
    sums = LevelSums(shape)
    batches = split_batches(chosen, _ROWS_A_BATCH)
    reading = read_batches(store, batches, threads=settings.threads, skipped=skipped)
    for numbers, levels in zip(batches, reading, strict=True):
        for number, one in zip(numbers.tolist(), levels.numpy(), strict=True):
            if not skipped or number not in skipped:
                sums.add(one)
    return sums.mean_and_std()
