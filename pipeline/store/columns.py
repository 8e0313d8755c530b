"""Checks of the values in the columns of an untrusted store, before they are used, and the choice of rows by them."""

import re
from collections.abc import Sequence

import numpy as np

from data_cards.core.errors import UsageError, UserError
from data_cards.core.labels import CLASS_NAMES, SPLITS
from pipeline.store.attributes import expect

_SHA256 = re.compile("[0-9a-f]{64}")


def check_columns(columns: dict[str, np.ndarray], roots: int) -> None:
    """Check the columns of a store (`pipeline.store.schema.SAMPLE_COLUMNS`).

    Parameters
    ----------
    columns : dict of str to ndarray of shape (N,), by name
    roots : int, number of folders that the column `root` may name

    Raises
    ------
    ValueError : a column has an impossible value; the message names the column
    """
    expect(len(columns["label"]) > 0, "label: no rows; expected 1 or more")
    for name, stop in (("label", len(CLASS_NAMES)), ("root", roots)):
        expect(bool((columns[name] < stop).all()), f"{name}: a number of {stop} or more; expected 0 to {stop - 1}")
    for name in ("picture", "group", "bytes"):
        expect(bool((columns[name] >= 0).all()), f"{name}: a negative number; expected 0 or more")
    for name in ("width", "height"):
        expect(bool((columns[name] > 0).all()), f"{name}: a number below 1; expected 1 or more")
    expect(set(columns["split"]) <= set(SPLITS), f"split: an unknown name; expected {', '.join(SPLITS)}")
    expect(all(map(_SHA256.fullmatch, columns["sha256"])), "sha256: not 64 hexadecimal digits")
    expect(bool(np.isfinite(columns["scale"]).all()), "scale: not a finite number")


def choose_rows(path: str, columns: dict[str, np.ndarray], split: str | None, variant: str | None) -> np.ndarray:
    """Choose the rows of the store at `path`, as `pipeline.store.reader.FeatureStore.rows`."""
    if split not in (*SPLITS, None):
        raise UsageError(f"split {split}: expected {', '.join(SPLITS)} or None")
    if variant is not None and variant not in (variants := sorted(set(columns["variant"]))):
        raise UserError(f"{path}: has no variant {variant}; expected one of {', '.join(variants)}")
    chosen = np.ones(len(columns["split"]), bool) if split is None else columns["split"] == split
    return np.flatnonzero(chosen if variant is None else chosen & (columns["variant"] == variant))


def check_rows(rows: np.ndarray | Sequence[int], count: int) -> np.ndarray:
    """Return rows as int64; raise `IndexError` unless all are numbers from 0 to `count` - 1, for a mask too."""
    rows = np.asarray(rows)
    if rows.ndim != 1 or (len(rows) and not np.issubdtype(rows.dtype, np.integer)):
        raise IndexError(f"rows: expected a list of row numbers, got {rows.dtype} {rows.shape}; np.flatnonzero(mask)")
    if len(rows) and not 0 <= rows.min() <= rows.max() < count:
        raise IndexError(f"rows {rows.min()} to {rows.max()}: expected 0 to {count - 1}")
    return rows.astype(np.int64)
