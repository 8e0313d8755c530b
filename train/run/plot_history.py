"""Plot of loss and accuracy of a run's epochs and the confusion of its best one."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from data_cards.core.labels import TRAIN, VAL
from data_cards.core.text import escape_untrusted
from train.run.best_epoch import BestEpoch

_TRAIN, _VALIDATION = "#888888", "#1f6fb4"


def plot_history(history: list[dict], best: BestEpoch, path: Path, title: str) -> None:
    """Plot a run's history as PNG.

    Parameters
    ----------
    history : list of dict, one an epoch (`train.run.history`)
    best : the epoch that is marked, and its confusion
    path : of the PNG, in an existing folder
    """
    # A figure of its own, without pyplot: no global state, no display.
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    *curves, last = figure.subplots(1, 3, width_ratios=(3, 3, 2))
    for axes, what in zip(curves, ("loss", "accuracy"), strict=True):
        _plot_curve(axes, history, best.epoch, what)
    _plot_confusion(last, best)
    figure.suptitle(escape_untrusted(title), fontsize=10, parse_math=False)
    figure.savefig(path, format="png", dpi=120, metadata={"Software": None})


def _plot_curve(axes: Axes, history: list[dict], best_epoch: int, what: str) -> None:
    epochs = [row["epoch"] for row in history]
    train, val = ([row[f"{split}_{what}"] for row in history] for split in (TRAIN, VAL))
    axes.plot(epochs, train, "o-", color=_TRAIN, markersize=3, label="training")
    axes.plot(epochs, val, "o-", color=_VALIDATION, markersize=3, label="validation")
    axes.axvline(best_epoch, color=_VALIDATION, linestyle=":", linewidth=1, label=f"kept: epoch {best_epoch}")
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


def _plot_confusion(axes: Axes, best: BestEpoch) -> None:
    """Plot counts of the validation rows, coloured by their share of the true class."""
    names = list(best.confusion)
    shares = [[count / max(sum(row.values()), 1) for count in row.values()] for row in best.confusion.values()]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for true, row in enumerate(best.confusion.values()):
        for called, count in enumerate(row.values()):
            colour = "white" if shares[true][called] > 0.5 else "black"
            axes.text(called, true, f"{count:,}", ha="center", va="center", color=colour)
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("called")
    axes.set_ylabel("is")
    axes.set_title(f"validation, epoch {best.epoch}, threshold {best.calibration.threshold:.2f}", fontsize=10)
