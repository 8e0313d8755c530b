"""The values that the columns of a store may have: a stranger's store is checked before anything is made of them."""

import re

import numpy as np

from data_cards.core.labels import CLASS_NAMES, SPLITS
from pipeline.store.attributes import expect

_SHA256 = re.compile("[0-9a-f]{64}")


def check_columns(columns: dict[str, np.ndarray], roots: int) -> None:
    """Check the columns of a store (`pipeline.store.schema.SAMPLE_COLUMNS`).

    Parameters
    ----------
    columns : of equal lengths
    roots : int, number of the folders that the column `root` may name

    Raises
    ------
    ValueError : names the first column with a value that cannot be
    """
    for name, stop in (("label", len(CLASS_NAMES)), ("root", roots)):
        expect(bool((columns[name] < stop).all()), f"{name}: a number of {stop} or more")
    for name in ("picture", "group", "bytes"):
        expect(bool((columns[name] >= 0).all()), f"{name}: a number below 0")
    for name in ("width", "height"):
        expect(bool((columns[name] > 0).all()), f"{name}: a number below 1")
    expect(set(columns["split"]) <= set(SPLITS), "split: a name that is none")
    expect(all(map(_SHA256.fullmatch, columns["sha256"])), "sha256: a text that is none")
    expect(bool(np.isfinite(columns["scale"]).all()), "scale: a number that is not finite")
