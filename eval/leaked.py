"""Scored pictures that the run has seen, or has a near-duplicate of, among those it was trained on."""

import numpy as np

from data_cards.hashes import group_near_duplicates
from eval.score import Scored, is_held_out
from pipeline.store import FeatureStore
from train.run_folder import Run


def find_leaked(run: Run, scored: Scored, store: FeatureStore, training: FeatureStore | None, split: str) -> np.ndarray:
    """Which rows show a picture that stands, as itself or a near-duplicate, in the run's other splits.

    Parameters
    ----------
    run : that scored them; the sources that it left out it has not seen
    scored : rows of `store`
    store, training : the store that is scored, and the one that the run was trained on; None where
        that is not at hand, and then nothing counts as leaked
    split : of the scored rows; what is scored on the training split itself counts as nothing leaked

    Returns
    -------
    bool (N,)
    """
    seen_splits = [name for name in ("train", "val") if name != split or training is not store]
    if training is None or (training is store and split == "train"):
        return np.zeros(len(scored), dtype=bool)
    seen = np.isin(training.columns["split"], seen_splits) & ~is_held_out(run, training)
    if training is store:
        return np.isin(scored.groups, np.unique(training.columns["group"][seen]))
    leaked = np.isin(scored.columns["sha256"], training.columns["sha256"][seen])
    known = training.perceptual_hashes[np.unique(training.columns["picture"][seen])]
    groups = group_near_duplicates(np.concatenate([known, store.perceptual_hashes]))
    # A group's number is its first member's: below the number of known pictures it holds one of them.
    return leaked | (groups[len(known) :][scored.columns["picture"]] < len(known))
