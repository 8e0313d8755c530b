"""Plots over frequency, as SVG that takes the page's colours: what decides, and the classes' mean spectra."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes

from data_cards.labels import CLASS_NAMES
from eval.frequencies import HIGHEST
from eval.plots import COLOURS, FAINT, INK, STYLE, as_number, as_svg, new_figure

_FREQUENCY = "frequency, cycles per pixel: coarse to fine"
_WORDS = dict(zip(CLASS_NAMES, ("photographs", "generated"), strict=True))


def draw_drops(deciding: dict) -> str:
    """AUROC lost without each band, as SVG; `deciding` as `eval.deciding.describe_deciding` returns it."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "drops"}):
        figure, axes = new_figure(5.2, 3.9)
        _draw_steps(axes, _edges(deciding), [band["auroc_drop"] for band in deciding["bands"]], INK, None)
        axes.set(ylabel="AUROC lost without it")
        _finish(axes)
        return as_svg(figure, "How much each band of frequencies matters")


def draw_changes(deciding: dict) -> str:
    """How much the log-odds of "fake" lose without each band, by class, as SVG; `deciding` likewise."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "changes"}):
        figure, axes = new_figure(5.2, 3.9)
        for name in CLASS_NAMES:
            estimates = [band["log_odds_change"][name] for band in deciding["bands"]]
            _draw_steps(axes, _edges(deciding), estimates, COLOURS[name], _WORDS[name])
        axes.set(ylabel="log-odds lost without it")
        axes.legend(loc="best")
        _finish(axes)
        return as_svg(figure, "Which way each band of frequencies speaks")


def draw_profiles(profiles: dict, picture: Sequence[float] | None = None, title: str = "Mean spectra") -> str:
    """Mean spectra of both classes, and a picture's beside them if given, as SVG.

    Parameters
    ----------
    profiles : as `eval.profiles.ClassProfiles.as_json` returns them
    picture : the picture's profile at the same frequencies
    """
    at = profiles["frequencies"]
    with mpl.rc_context({**STYLE, "svg.hashsalt": "profiles"}):
        figure, axes = new_figure(5.2, 3.9)
        for name, line in zip(CLASS_NAMES, ("-", "--"), strict=True):
            mean, spread = profiles["mean"][name], profiles["deviation"][name]
            low = [value - width for value, width in zip(mean, spread, strict=True)]
            high = [value + width for value, width in zip(mean, spread, strict=True)]
            axes.fill_between(at, low, high, color=COLOURS[name], alpha=0.15, lw=0)
            axes.plot(at, mean, color=COLOURS[name], ls=line, lw=2, label=_WORDS[name])
        if picture is not None:
            axes.plot(at, picture, color=INK, lw=2, label="this picture")
        axes.set(xlim=(0, HIGHEST), xlabel=_FREQUENCY, ylabel="strength, logarithmic")
        axes.legend(loc="upper right")
        axes.grid(alpha=0.6, lw=0.6)
        return as_svg(figure, title)


def _edges(deciding: dict) -> list[float]:
    return [deciding["bands"][0]["low"], *(band["high"] for band in deciding["bands"])]


def _draw_steps(axes: Axes, edges: list[float], estimates: list[dict], colour: str, label: str | None) -> None:
    axes.stairs([as_number(one["value"]) for one in estimates], edges, baseline=None, color=colour, lw=2, label=label)
    for low, high, one in zip(edges[:-1], edges[1:], estimates, strict=True):
        if one["low"] is not None:
            axes.fill_between([low, high], one["low"], one["high"], color=colour, alpha=0.15, lw=0)


def _finish(axes: Axes) -> None:
    axes.axhline(0, color=FAINT, lw=1.2, ls="--")
    axes.set(xlim=(0, HIGHEST), xlabel=_FREQUENCY)
    axes.grid(axis="y", alpha=0.6, lw=0.6)
