"""File baseline: scores of test pictures by trivial properties of their files alone.

In many sets the classes differ in size or JPEG quality because they were collected differently. A
classifier of these properties alone, fitted on the training pictures like the network, measures
how much of a score such differences could explain. Classifier and properties are those of the audit for
which a feature store has columns.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import expit

from data_cards.audit.cross_validation import score_by_trees
from data_cards.audit.properties import FILE, build_inputs, compute_file_facts

# The properties of each classifier. The first has them all.
ALL = "all of these together"
SHORTCUTS = {
    ALL: ("format", "JPEG quality", "width", "height", "aspect", "bytes per pixel"),
    "file format": ("format",),
    "width and height": ("width", "height", "aspect"),
    "bytes per pixel": ("bytes per pixel",),
    "JPEG quality": ("JPEG quality",),
}
# Columns of a feature store, by the names of `data_cards.dataset.table.compute_columns`.
_COLUMNS = {"format": "format", "width": "width", "height": "height", "bytes": "bytes", "quality": "file_quality"}


def select_file_columns(columns: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Select the columns of a feature store that `score_shortcuts` needs, for one row a picture."""
    return {name: columns[stored][rows] for name, stored in _COLUMNS.items()}


def score_shortcuts(
    train: Mapping[str, np.ndarray], labels: np.ndarray, test: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Fit a classifier on each set of `SHORTCUTS` and score other pictures with it.

    Parameters
    ----------
    train : columns of N training pictures, from `select_file_columns`
    labels : int (N,), 0 real, 1 fake; both must occur
    test : columns of M pictures to score

    Returns
    -------
    float64 (M,), probability of "fake", by name of `SHORTCUTS`
    """
    both = {name: np.concatenate([train[name], test[name]]) for name in _COLUMNS}
    properties = {one.name: one for one in compute_file_facts(both)}
    scores = {}
    for shortcut, names in SHORTCUTS.items():
        inputs, is_category = build_inputs((), FILE, [properties[name] for name in names])
        known, others = np.split(inputs, [len(labels)])
        scores[shortcut] = expit(score_by_trees(known, is_category, labels, others))
    return scores
