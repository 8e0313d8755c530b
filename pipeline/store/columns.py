"""Checks of the values in the columns of an untrusted store, before they are used."""

import re

import numpy as np

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
    for name, stop in (("label", len(CLASS_NAMES)), ("root", roots)):
        expect(bool((columns[name] < stop).all()), f"{name}: a number of {stop} or more; expected 0 to {stop - 1}")
    for name in ("picture", "group", "bytes"):
        expect(bool((columns[name] >= 0).all()), f"{name}: a negative number; expected 0 or more")
    for name in ("width", "height"):
        expect(bool((columns[name] > 0).all()), f"{name}: a number below 1; expected 1 or more")
    expect(set(columns["split"]) <= set(SPLITS), f"split: an unknown name; expected {', '.join(SPLITS)}")
    expect(all(map(_SHA256.fullmatch, columns["sha256"])), "sha256: not 64 hexadecimal digits")
    expect(bool(np.isfinite(columns["scale"]).all()), "scale: not a finite number")
