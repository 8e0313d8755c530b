"""The planes of chosen samples as one picture, for a person to look at."""

import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_cards.errors import UsageError
from pipeline.store import CLASS_NAMES, FeatureStore


def draw_samples(store: FeatureStore, rows: list[int] | None, out: Path) -> list[int]:
    """Draw the planes of samples, one line of pictures a sample, to a PNG file.

    Parameters
    ----------
    store : to draw from
    rows : row numbers; None takes the first clean photograph and the first clean generated picture
    out : the PNG file

    Returns
    -------
    The row numbers drawn.
    """
    rows = _pick_rows(store) if rows is None else rows
    for row in rows:
        if not 0 <= row < len(store):
            raise UsageError(f"row {row}: the store has rows 0 to {len(store) - 1}")
    names = store.attributes["planes"]
    figure = Figure(figsize=(1.9 * len(names), 1.95 * len(rows) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(names), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for number, (axis, levels) in enumerate(zip(line, store.features[row], strict=True)):
            # Phase goes round a circle, so its colours must too.
            colours = "twilight" if names[number].startswith("phase") else "magma"
            axis.imshow(_shrink(levels), cmap=colours, vmin=0, vmax=255, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if line[0] is axes[0, 0]:
                axis.set_title(names[number].replace("_", " ").replace("dct", "DCT"), fontsize=9)
        columns = store.columns
        line[0].set_ylabel(
            f"row {row}: {CLASS_NAMES[columns['label'][row]]}\n{columns['source'][row]}\n{columns['variant'][row]}",
            fontsize=8,
        )
    temporary = out.with_name(out.name + ".partial")
    figure.savefig(temporary, format="png", dpi=110)
    os.replace(temporary, out)
    return rows


def _pick_rows(store: FeatureStore) -> list[int]:
    clean = store.columns["variant"] == "clean"
    chosen = [np.flatnonzero(clean & (store.columns["label"] == label)) for label in range(len(CLASS_NAMES))]
    return [int(found[0]) for found in chosen if len(found)]


def _shrink(levels: np.ndarray, most: int = 512) -> np.ndarray:
    """Every so-many-th level, so that a drawing of large planes stays small."""
    step = -(-max(levels.shape) // most)
    return levels[::step, ::step]
