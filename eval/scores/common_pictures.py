"""Pictures on which runs can fairly be scored or compared.

A picture is leaked if a run has seen it, or a near-duplicate of it, in training or validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_cards.core.errors import UsageError, UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from data_cards.image.perceptual_hash import group_near_duplicates
from eval.scores.rows import Scored, find_rows, held_out_mask
from eval.scores.store_changes import format_store_changes
from pipeline.features.variants import CLEAN
from pipeline.store.reader import FeatureStore
from train.model.calibration import Calibration
from train.run.folder import Run
from train.run.run_stores import find_training_store


@dataclass(frozen=True)
class CommonRows:
    """Rows of several stores that show the same pictures, in the same order.

    Attributes
    ----------
    rows : list of ndarray of int64, shape (N,), one per store
    training : list of FeatureStore or None, the training store of each run; None if it is not available
    not_in_all : int, number of pictures that not all stores hold
    leaked : int, number of pictures left out because a run had them, or near-duplicates, in training or validation
    warnings : list of str
    """

    rows: list[np.ndarray]
    training: list[FeatureStore | None]
    not_in_all: int
    leaked: int
    warnings: list[str]


def find_common_rows(
    runs: Sequence[Run], names: Sequence[str], stores: Sequence[FeatureStore], split: str
) -> CommonRows:
    """Find the rows on which runs are compared: pictures as they are, identified by their files' hashes.

    Raises
    ------
    UserError : there are no such rows, or rows of one class only, or the stores disagree on a picture's class
    UsageError : a run was trained on this split
    """
    if split == TRAIN:
        raise UsageError("split train: runs are compared on pictures that none was trained on; expected test")
    training = [find_training_store(run, store) for run, store in zip(runs, stores, strict=True)]
    for name, run, store, trained in zip(names, runs, stores, training, strict=True):
        if split == VAL and run.settings.has_experts and trained is store:
            raise UsageError(
                f"split val: the experts of {name} were fitted on it too, and runs are compared on pictures that none "
                "was trained on; expected test"
            )
    found = [_first_rows(run, store, split) for run, store in zip(runs, stores, strict=True)]
    _check_classes(names, stores, found)
    shared = [sha256 for sha256 in found[0] if all(sha256 in one for one in found)]
    if not shared:
        raise UserError(
            f"{', '.join(dict.fromkeys(store.path for store in stores))}: their {split} splits have no picture in "
            "common, so the runs cannot be compared; give one store for all with --store"
        )
    rows = [np.array([one[sha256] for sha256 in shared]) for one in found]
    leaked = np.zeros(len(shared), dtype=bool)
    for run, store, trained, own in zip(runs, stores, training, rows, strict=True):
        columns = {name: values[own] for name, values in store.columns.items()}
        scored = Scored(own, columns, np.zeros((len(own), 2)), Calibration(), np.zeros(len(own), np.uint8))
        leaked |= find_leaked(run, scored, store, trained, split)
    rows = [own[~leaked] for own in rows]
    classes = np.unique(stores[0].columns["label"][rows[0]])
    if len(classes) < len(CLASS_NAMES):
        raise UserError(
            f"{len(rows[0])} pictures are in all stores and were in no run's training, "
            "and a comparison needs both classes among them; give another store with --store"
        )
    not_in_all = len(set().union(*found)) - len(shared)
    warnings = _find_warnings(runs, names, stores, training, split, not_in_all, leaked)
    return CommonRows(rows, training, not_in_all, int(leaked.sum()), warnings)


def find_leaked(run: Run, scored: Scored, store: FeatureStore, training: FeatureStore | None, split: str) -> np.ndarray:
    """Find rows whose picture, or a near-duplicate of it, is in the run's other splits.

    Parameters
    ----------
    run : Run, which scored the rows; it has not seen the sources that it left out
    scored : Scored, rows of `store`
    store : FeatureStore, which is scored
    training : FeatureStore or None, on which the run was trained; if None, no row counts as leaked
    split : str, of the scored rows; no row of the training split itself counts as leaked

    Returns
    -------
    ndarray of bool, shape (N,)
    """
    seen_splits = [name for name in (TRAIN, VAL) if name != split or training is not store]
    if training is None or (training is store and split == TRAIN):
        return np.zeros(len(scored), dtype=bool)
    seen = np.isin(training.columns["split"], seen_splits) & ~held_out_mask(run, training)
    if training is store:
        return np.isin(scored.groups, np.unique(training.columns["group"][seen]))
    leaked = np.isin(scored.columns["sha256"], training.columns["sha256"][seen])
    known = training.perceptual_hashes[np.unique(training.columns["picture"][seen])]
    groups = group_near_duplicates(np.concatenate([known, store.perceptual_hashes]))
    # A group has the number of its first member. Below len(known), that member is a known picture.
    return leaked | (groups[len(known) :][scored.columns["picture"]] < len(known))


def format_known_split(run: Run, store: FeatureStore, training: FeatureStore | None, split: str) -> str | None:
    """Format that a run was trained, or its epoch chosen, on the scored split of its own store; None if on neither."""
    if training is not store:
        return None  # `find_leaked` finds the pictures that the run knows
    if split == TRAIN:
        return "the detector was trained on these pictures: the scores show how well it remembers them"
    if split == VAL and run.settings.has_experts:
        return "the experts were fitted on this split too: the scores show how well they remember it"
    validated = set(run.settings.validate_on)
    if split == VAL and not (validated and validated.isdisjoint(store.columns["source"][store.rows(VAL)])):
        return (
            "the best epoch and the threshold were chosen on pictures of this split: the scores are a little too good"
        )
    return None


def _first_rows(run: Run, store: FeatureStore, split: str) -> dict[str, int]:
    """Return the first row of each unchanged picture, by the hash of its file."""
    rows = find_rows(run, store, split)
    rows = rows[store.columns["variant"][rows] == CLEAN.name]
    if not len(rows):
        raise UserError(
            f"{store.path}: has only changed pictures, and runs are compared on unchanged ones; give another --store"
        )
    first = {}
    for row in rows:
        first.setdefault(store.columns["sha256"][row], int(row))
    return first


def _check_classes(names: Sequence[str], stores: Sequence[FeatureStore], found: Sequence[dict[str, int]]) -> None:
    labels = stores[0].columns["label"]
    for name, store, own in zip(names[1:], stores[1:], found[1:], strict=True):
        for sha256, row in found[0].items():
            if sha256 in own and store.columns["label"][own[sha256]] != labels[row]:
                raise UserError(
                    f"{store.columns['image'][own[sha256]]}: {CLASS_NAMES[labels[row]]} in {stores[0].path}, but "
                    f"{CLASS_NAMES[1 - labels[row]]} in {store.path}, so {names[0]} and {name} cannot be compared; "
                    "give one store with --store"
                )


def _find_warnings(
    runs: Sequence[Run],
    names: Sequence[str],
    stores: Sequence[FeatureStore],
    training: Sequence[FeatureStore | None],
    split: str,
    not_in_all: int,
    leaked: np.ndarray,
) -> list[str]:
    warnings = []
    for name, run, store, trained in zip(names, runs, stores, training, strict=True):
        if known := format_known_split(run, store, trained, split):
            warnings.append(f"{name}: {known}")
        warnings += format_store_changes(run, store, trained)
    if not_in_all:
        warnings.append(f"{not_in_all} pictures are not in all stores and are left out")
    if leaked.any():
        warnings.append(
            f"{int(leaked.sum())} pictures, or near-duplicates of them, were in a run's training or validation split "
            "and are left out"
        )
    return warnings
