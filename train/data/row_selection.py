"""Selection of the rows that a run trains and validates on, checked before anything is computed."""

from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from data_cards.core.seeding import draw_key
from data_cards.dataset.lone_sources import format_lone_sources
from pipeline.store.reader import FeatureStore
from train.data.sampling import sample_epoch
from train.settings import TrainSettings

_SHOWN = 20  # names in an error

_BEFORE_TRAINING = 0  # the epoch that validation's variants are drawn as; training counts from 1


@dataclass(frozen=True)
class Rows:
    """The rows of a run.

    Attributes
    ----------
    train : ndarray of int64, shape (n,), rows to train on, ascending
    train_pictures : ndarray of int64, shape (n,), number of each training row's picture
    val : ndarray of int64, shape (m,), rows to validate each epoch on, ascending: of each picture as many variants as
        an epoch uses, drawn once
    calibration : ndarray of int64, shape (k,), rows to calibrate the kept weights on, ascending: all variants of the
        validation pictures
    strata : ndarray of int64, shape (n, levels), numbers of the training rows' classes and sources, the
        levels to balance; None without balancing
    """

    train: np.ndarray
    train_pictures: np.ndarray
    val: np.ndarray
    calibration: np.ndarray
    strata: np.ndarray | None = None

    def count_samples(self, variants_per_epoch: str) -> int:
        """Return how many samples an epoch trains on."""
        return len(self.train) if variants_per_epoch == "all" else len(np.unique(self.train_pictures))


def choose_rows(store: FeatureStore, settings: TrainSettings) -> Rows:
    """Choose the rows of a run, and refuse a store that the run cannot be trained on.

    Raises
    ------
    UserError : no training or no validation rows, or only one class in either, or a class with a single picture
    """
    train, val = split_rows(store, settings)
    filters = f", where {' and '.join(settings.where)}" if settings.where else ""
    filters += f", without {' and '.join(settings.hold_out)}" if settings.hold_out else ""
    filters += f", validated on {' and '.join(settings.validate_on)}" if settings.validate_on else ""
    if filters and not (len(train) and len(val)):
        raise UserError(
            f"{store.path}: has {len(train)} training and {len(val)} validation rows{filters}; expected both, "
            "change these options"
        )
    if not len(train):
        raise UserError(f"{store.path}: has no training rows; build it from a folder with a train split")
    advice = "change these options" if filters else "build it from pictures of both classes"
    _check_classes(store, train, f"training rows{filters}", advice)
    if len(np.unique(store.columns["label"][val])) < len(CLASS_NAMES):  # a class of one picture cannot have any in both
        rows = np.concatenate([train, val])
        check_picture_counts(store.path, store.columns["label"][rows], store.columns["group"][rows])
    if not len(val):
        raise UserError(
            f"{store.path}: has no validation rows, which decide early stopping and the best weights; "
            "build it with `pipeline build --val-fraction 0.15`"
        )
    advice = "build it with a larger `pipeline build --val-fraction`, or with both classes in the val folder"
    if settings.validate_on:
        advice = "give --validate-on a source of each class"
    elif filters:
        advice = "change these options, or validate on sources of both classes with --validate-on"
    _check_classes(store, val, f"validation rows{filters}", advice)
    pictures = store.columns["picture"][train].astype(np.int64)
    drawn = sample_epoch(
        val, store.columns["picture"][val], settings.seed, _BEFORE_TRAINING, settings.variants_per_epoch
    )
    return Rows(train, pictures, np.sort(drawn), val, _compute_strata(store, train, settings.balance))


def split_rows(store: FeatureStore, settings: TrainSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that a network is trained on, and those that it is validated on with all their variants."""
    chosen = condition_mask(store, settings.where) & ~source_mask(store, settings.hold_out, "--hold-out")
    train, val = (rows[chosen[rows]] for rows in (store.rows(TRAIN), store.rows(VAL)))
    if settings.validate_on:
        return _swap_validation(store, settings.validate_on, train, val)
    if settings.has_experts and (drawn := _draw_sources(store, np.concatenate([train, val]), settings.seed)):
        return _swap_validation(store, drawn, train, val)
    return train, val


def _compute_strata(store: FeatureStore, rows: np.ndarray, balance: str) -> np.ndarray | None:
    if balance == "none":
        return None
    levels = [store.columns["label"][rows].astype(np.int64)]
    if balance == "source":
        levels.append(np.unique(store.columns["source"][rows].astype(str), return_inverse=True)[1])
    return np.stack(levels, axis=1)


def _draw_sources(store: FeatureStore, rows: np.ndarray, seed: int) -> tuple[str, ...]:
    """Draw a fifth of each class's sources to validate on; return none if a class has fewer than three.

    They decide the weight of a network beside the experts: its gain on sources that it was not trained on.
    """
    drawn = []
    for label in np.unique(store.columns["label"][rows]):
        names = sorted(set(store.columns["source"][rows][store.columns["label"][rows] == label].tolist()))
        if len(names) < 3:
            return ()
        key = [draw_key(seed, name.encode(), "validate-on") for name in names]
        drawn += [name for _, name in sorted(zip(key, names, strict=True))[: -(-len(names) // 5)]]
    return tuple(sorted(set(drawn)))


def _swap_validation(
    store: FeatureStore, sources: tuple[str, ...], train: np.ndarray, val: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the training rows without these sources and their near-duplicates, and all rows of these sources."""
    rows = np.sort(np.concatenate([train, val]))
    of_them = source_mask(store, sources, "--validate-on")
    groups = store.columns["group"]
    val = rows[of_them[rows]]
    return train[~of_them[train] & ~np.isin(groups[train], groups[val])], val


def source_mask(store: FeatureStore, sources: tuple[str, ...], option: str) -> np.ndarray:
    """Return which rows are of these sources, bool (rows,); raises `UserError` for an unknown source."""
    present = store.columns["source"]
    absent = sorted(set(sources) - set(present))
    if absent:
        raise UserError(f"{store.path}: has no source {absent[0]} ({option}); {_format_names(absent[0], present)}")
    return np.isin(present, np.array(sources, dtype=object))


def _format_names(name: str, present: np.ndarray) -> str:
    """Format the names that a column has, first those that are like the given one."""
    names = sorted(set(present))
    close = get_close_matches(name, names, cutoff=0.7)
    shown = close or names[:_SHOWN]
    others = len(names) - len(shown)
    more = f" and {others} others" if others else ""
    return f"did you mean {' or '.join(close)}?" if close else f"it has {', '.join(shown)}{more}"


def condition_mask(store: FeatureStore, where: tuple[str, ...]) -> np.ndarray:
    """Return which rows meet all conditions, bool (rows,); raises `UserError` for an unknown value."""
    chosen = np.ones(len(store), dtype=bool)
    for condition in where:
        column, _, values = condition.partition("=")
        present, wanted = store.columns[column], values.split(",")
        absent = sorted(set(wanted) - set(present))
        if absent:
            found = _format_names(absent[0], present)
            raise UserError(f"{store.path}: has no {column} {absent[0]} (--where); {found}")
        chosen &= np.isin(present, np.array(wanted, dtype=object))
    return chosen


def check_picture_counts(name: str, labels: np.ndarray, groups: np.ndarray) -> None:
    """Raise `UserError` if a class has fewer than two pictures; near-duplicates count as one picture.

    Parameters
    ----------
    name : str, what the error says of the rows, such as the path of their store
    labels, groups : int (N,), class and near-duplicate group of each row
    """
    for label, class_name in enumerate(CLASS_NAMES):
        if (count := len(np.unique(groups[labels == label]))) < 2:
            raise UserError(
                f"{name}: {'only one' if count else 'no'} {class_name} picture to train on, if near-duplicates count "
                "as one; expected at least 2, better hundreds from several sources; add pictures and build the store "
                "again, or change --where or --hold-out"
            )


def _check_classes(store: FeatureStore, rows: np.ndarray, what: str, advice: str) -> None:
    labels = np.unique(store.columns["label"][rows])
    if len(labels) < len(CLASS_NAMES):
        raise UserError(
            f"{store.path}: all {len(rows)} {what} are {CLASS_NAMES[labels[0]]}; expected both classes: {advice}"
        )


def format_single_sources(store: FeatureStore, rows: np.ndarray) -> str | None:
    """Format a warning if all rows of a class have one source; None if every class has several."""
    columns = store.columns
    names = [CLASS_NAMES[label] for label in columns["label"][rows].astype(int)]
    return format_lone_sources(set(zip(names, columns["source"][rows].tolist(), strict=True)))


def compute_source_ids(store: FeatureStore) -> np.ndarray:
    """Number each row's source from 0, int64 (N,); a name that both classes share has two numbers."""
    columns = store.columns
    names = np.char.add(columns["label"].astype(str), np.char.add("/", columns["source"].astype(str)))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
