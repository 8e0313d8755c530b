"""Plots of the planes of samples, as one PNG file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_cards.core.errors import UsageError
from data_cards.core.files import whole_file
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import escape_untrusted
from data_cards.core.value_types import converts_arguments
from pipeline.features.variants import CLEAN
from pipeline.store.reader import FeatureStore
from pipeline.store.schema import BUILD_PLANES, Attribute

_IN_A_LINE = 9  # planes; the overview's are below those of native pixels


@converts_arguments
def plot_samples(store: FeatureStore, rows: Sequence[int] | None, out: str | Path) -> Sequence[int]:
    """Plot the planes of samples into a PNG file, nine in a line.

    Parameters
    ----------
    store : FeatureStore
    rows : sequence of int; None plots the first clean photograph and the first clean generated picture
    out : path of the PNG file

    Returns
    -------
    sequence of int, the plotted rows

    Raises
    ------
    UsageError : the store has no planes, or a row is not in it
    """
    if not store.has_planes:
        raise UsageError(
            f"{store.path}: the store has no planes, only profiles; build a store with planes: {BUILD_PLANES}"
        )
    rows = _choose_rows(store) if rows is None else rows
    for row in rows:
        if not 0 <= row < len(store):
            raise UsageError(f"--row {row}: not in the store; expected 0 to {len(store) - 1}")
    names = [str(name) for name in store.attributes[Attribute.PLANES]]
    lines = [(row, first) for row in rows for first in range(0, len(names), _IN_A_LINE)]
    figure = Figure(figsize=(1.9 * _IN_A_LINE, 2.0 * len(lines) + 0.1), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(lines), _IN_A_LINE, squeeze=False)
    columns = store.columns
    for line, (row, first) in zip(axes, lines, strict=True):
        planes = store.features[row]
        for number, axis in enumerate(line, first):
            name = names[number].replace("_", " ").replace("dct", "DCT")
            # Phase is cyclic, so its colour map must be too.
            colours = "twilight" if name.startswith("phase") else "magma"
            axis.imshow(_shrink(planes[number]), cmap=colours, vmin=0, vmax=255, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == rows[0]:
                axis.set_title(escape_untrusted(name), fontsize=9, parse_math=False)
        if first == 0:
            of_row = [
                CLASS_NAMES[columns["label"][row]],
                escape_untrusted(columns["source"][row]),
                columns["variant"][row],
            ]
            line[0].set_ylabel("\n".join([f"row {row}: {of_row[0]}", *of_row[1:]]), fontsize=8, parse_math=False)
    with whole_file(Path(out)) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    return rows


def _choose_rows(store: FeatureStore) -> list[int]:
    clean = store.columns["variant"] == CLEAN.name
    chosen = [np.flatnonzero(clean & (store.columns["label"] == label)) for label in range(len(CLASS_NAMES))]
    return [int(found[0]) for found in chosen if len(found)]


def _shrink(levels: np.ndarray, most: int = 512) -> np.ndarray:
    """Subsample a plane to at most `most` levels a side, so that the plot stays small."""
    step = -(-max(levels.shape) // most)
    return levels[::step, ::step]
