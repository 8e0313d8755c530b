"""Recipes without a network, from a store's rows: what the study's networks must beat."""

from collections.abc import Sequence

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from data_cards.audit.file_baseline import ALL, score_shortcuts, select_file_columns
from pipeline.features.frequencies import MAX_FREQUENCY, compute_frequencies
from pipeline.store.reader import FeatureStore

_RINGS = 64


def score_classical(
    kind: str, store: FeatureStore, conditions: FeatureStore, rows: dict[str, np.ndarray], held_out: Sequence[str]
) -> dict[str, np.ndarray]:
    """Probability of "fake" of the conditions' rows, by condition.

    Parameters
    ----------
    kind : "radial" (radial profile of the magnitude planes, boosted trees), "dct" (log DCT, a linear classifier)
        or "file" (properties of the files, boosted trees)
    rows : of `conditions`, by condition
    held_out : sources that are not fitted on
    """
    columns = store.columns
    training = np.flatnonzero(~np.isin(columns["source"], held_out) & (columns["split"] == "train"))
    labels = columns["label"][training].astype(int)
    with threadpool_limits(1):
        if kind == "file":
            clean = training[columns["variant"][training] == "clean"]
            of_test = {name: select_file_columns(conditions.columns, some) for name, some in rows.items()}
            known = select_file_columns(columns, clean)
            return {name: score_shortcuts(known, columns["label"][clean], some)[ALL] for name, some in of_test.items()}
        classifier = (
            HistGradientBoostingClassifier(max_leaf_nodes=8, early_stopping=False, random_state=0)
            if kind == "radial"
            else make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=2000))
        )
        classifier.fit(_read(kind, store, training), labels)
        return {name: classifier.predict_proba(_read(kind, conditions, some))[:, 1] for name, some in rows.items()}


def _read(kind: str, store: FeatureStore, rows: np.ndarray) -> np.ndarray:
    """Inputs of a classifier, float32 (N, values)."""
    if kind == "dct":
        return np.stack([store.features[int(row), 6:9].ravel() for row in rows]).astype(np.float32)
    frequency = compute_frequencies("magnitude", *store.features.shape[2:]).ravel()
    ring = np.minimum((frequency / MAX_FREQUENCY * _RINGS).astype(int), _RINGS - 1)
    count = np.bincount(ring, minlength=_RINGS)
    profiles = [
        [np.bincount(ring, plane.ravel(), _RINGS) / count for plane in store.features[int(row), 0:3]] for row in rows
    ]
    return np.array(profiles, dtype=np.float32).reshape(len(rows), -1)
