"""Which rows of a store a run trains and validates on, checked before anything is computed."""

from dataclasses import dataclass

import numpy as np

from data_cards.core.errors import UsageError, UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from pipeline.store.reader import FeatureStore
from train.data.sampling import sample_epoch
from train.settings import TrainSettings

_BEFORE_TRAINING = 0  # the epoch that validation's variants are drawn as; training counts from 1


@dataclass(frozen=True)
class Rows:
    """Rows of a run.

    Attributes
    ----------
    train : int64 (N,), rows to train on, ascending
    train_pictures : int64 (N,), the picture that each of them shows
    val : int64 (M,), rows to validate each epoch on, ascending: of each picture the variants that an epoch takes of
        it, drawn once
    calibration : int64 (K,), rows to calibrate the kept weights on, ascending: all variants of these pictures
    strata : int64 (N, levels), class and source of the training rows as numbers, as far as they are balanced;
        None where they are not
    """

    train: np.ndarray
    train_pictures: np.ndarray
    val: np.ndarray
    calibration: np.ndarray
    strata: np.ndarray | None = None


def choose_rows(store: FeatureStore, settings: TrainSettings) -> Rows:
    """Pick the rows of a run and refuse a store that it cannot be trained on.

    Raises
    ------
    UserError : no training or no validation rows, or only one class in either
    UsageError : a batch larger than an epoch
    """
    chosen = _condition_mask(store, settings.where) & ~_source_mask(store, settings.hold_out, "--hold-out")
    train, val = (rows[chosen[rows]] for rows in (store.rows(TRAIN), store.rows(VAL)))
    if settings.validate_on:
        train, val = _swap_validation(store, settings.validate_on, train, val)
    told = f", where {' and '.join(settings.where)}" if settings.where else ""
    told += f", without {' and '.join(settings.hold_out)}" if settings.hold_out else ""
    told += f", validated on {' and '.join(settings.validate_on)}" if settings.validate_on else ""
    if told and not (len(train) and len(val)):
        raise UserError(f"{store.path}: has {len(train)} training and {len(val)} validation rows{told}; choose others")
    if not len(train):
        raise UserError(f"{store.path}: has no training rows; build it from a folder with a train split")
    advice = "choose others" if told else "build it from pictures of both classes"
    _check_classes(store, train, f"training rows{told}", advice)
    if not len(val):
        raise UserError(
            f"{store.path}: has no validation rows, which early stopping and the best weights are chosen by; "
            "build it with `pipeline build --val-fraction 0.15`"
        )
    advice = "build it with a larger `pipeline build --val-fraction`, or with both classes in the val folder"
    if settings.validate_on:
        advice = "give --validate-on a source of each class"
    elif told:
        advice = "choose others, or validate on sources of both classes with --validate-on"
    _check_classes(store, val, f"validation rows{told}", advice)
    pictures = store.columns["picture"][train].astype(np.int64)
    samples = len(train) if settings.variants_per_epoch == "all" else len(np.unique(pictures))
    if settings.batch_size > samples:
        raise UsageError(
            f"batch size {settings.batch_size}: an epoch of {store.path} has only {samples} samples; "
            f"give --batch-size {samples} or less"
        )
    drawn = sample_epoch(
        val, store.columns["picture"][val], settings.seed, _BEFORE_TRAINING, settings.variants_per_epoch
    )
    return Rows(train, pictures, np.sort(drawn), val, _compute_strata(store, train, settings.balance))


def _compute_strata(store: FeatureStore, rows: np.ndarray, balance: str) -> np.ndarray | None:
    if balance == "none":
        return None
    levels = [store.columns["label"][rows].astype(np.int64)]
    if balance == "source":
        levels.append(np.unique(store.columns["source"][rows].astype(str), return_inverse=True)[1])
    return np.stack(levels, axis=1)


def _swap_validation(
    store: FeatureStore, sources: tuple[str, ...], train: np.ndarray, val: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows without these sources and without near-duplicates of theirs, and all rows of them."""
    rows = np.sort(np.concatenate([train, val]))
    of_them = _source_mask(store, sources, "--validate-on")
    groups = store.columns["group"]
    val = rows[of_them[rows]]
    return train[~of_them[train] & ~np.isin(groups[train], groups[val])], val


def _source_mask(store: FeatureStore, sources: tuple[str, ...], option: str) -> np.ndarray:
    """bool (N,): rows of these sources; one that the store does not have is refused."""
    there = store.columns["source"]
    absent = sorted(set(sources) - set(there))
    if absent:
        found = ", ".join(sorted(set(there))[:20])
        raise UserError(f"{store.path}: has no source {absent[0]} ({option}); it has {found}")
    return np.isin(there, np.array(sources, dtype=object))


def _condition_mask(store: FeatureStore, where: tuple[str, ...]) -> np.ndarray:
    """bool (N,): rows that meet all conditions; a value that the store does not have is refused."""
    chosen = np.ones(len(store), dtype=bool)
    for condition in where:
        column, _, values = condition.partition("=")
        there, wanted = store.columns[column], values.split(",")
        absent = sorted(set(wanted) - set(there))
        if absent:
            found = ", ".join(sorted(set(there))[:20])
            raise UserError(f"{store.path}: has no {column} {absent[0]} (--where); it has {found}")
        chosen &= np.isin(there, np.array(wanted, dtype=object))
    return chosen


def _check_classes(store: FeatureStore, rows: np.ndarray, what: str, advice: str) -> None:
    labels = np.unique(store.columns["label"][rows])
    if len(labels) < len(CLASS_NAMES):
        raise UserError(
            f"{store.path}: all {len(rows)} {what} are {CLASS_NAMES[labels[0]]}; two classes are needed: {advice}"
        )
