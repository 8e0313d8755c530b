"""Loss and accuracy of a run's epochs as a picture."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

_TRAIN, _VALIDATION = "#888888", "#1f6fb4"


def draw_curves(history: list[dict], best_epoch: int, path: Path, title: str) -> None:
    """Draw a run's history as PNG.

    Parameters
    ----------
    history : one dict an epoch, as `train.run_folder` keeps it
    best_epoch : is marked
    path : of the PNG; its folder exists
    """
    # A figure of its own, without pyplot: no global state, no display.
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    for axes, what in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        train, val = ([row[f"{split}_{what}"] for row in history] for split in ("train", "val"))
        axes.plot(epochs, train, "o-", color=_TRAIN, markersize=3, label="training")
        axes.plot(epochs, val, "o-", color=_VALIDATION, markersize=3, label="validation")
        best = f"best: epoch {best_epoch}"
        axes.axvline(best_epoch, color=_VALIDATION, linestyle=":", linewidth=1, label=best)
        axes.set_xlabel("epoch")
        axes.set_title(what)
        axes.set_xlim(0.5, max(epochs[-1], 2) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if what == "loss":
            axes.set_ylim(bottom=0)
        else:
            axes.set_ylim(min(0.45, *train, *val) - 0.02, 1.02)
            axes.axhline(0.5, color="black", linewidth=0.6, alpha=0.4)
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})
