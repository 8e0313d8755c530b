"""The report's plots as SVG that stands in HTML and takes the page's colours, light or dark.

Drawn with matplotlib in marker colours; those are then replaced by the style sheet's variables.
"""

import io
import re

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from pipeline.store import CLASS_NAMES

# Colours that nothing else draws in, by the variable of the style sheet that takes their place.
_INK, _FAINT, _REAL, _FAKE = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {_INK: "--ink", _FAINT: "--line", _REAL: "--real", _FAKE: "--fake"}
_COLOURS = dict(zip(CLASS_NAMES, (_REAL, _FAKE), strict=True))

_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and styled
    "font.size": 11,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "text.color": _INK,
    "grid.color": _FAINT,
    "legend.frameon": False,
}


def draw_roc(roc: dict) -> str:
    """The ROC curve with its band, as SVG; `roc` as `eval.breakdown.describe_roc` returns it."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "roc"}):
        figure, axes = _new_figure(4.4, 4.2)
        band = roc["interval"]
        if band:
            axes.fill_between(
                band["false_positive_rate"], band["low"], band["high"], step="post", color=_FAKE, alpha=0.18, lw=0
            )
        axes.plot([0, 1], [0, 1], color=_FAINT, lw=1.2, ls="--")
        axes.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=_FAKE, lw=2)
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.02),
            aspect="equal",
            xlabel="share of photographs called fake",
            ylabel="share of generated pictures found",
        )
        axes.grid(alpha=0.6, lw=0.6)
        return _as_svg(figure, "ROC curve")


def draw_histogram(histogram: dict, threshold: float) -> str:
    """Scores of each class as SVG; `histogram` as `eval.breakdown.describe_histogram` returns it."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "histogram"}):
        figure, axes = _new_figure(4.8, 4.2)
        edges = histogram["edges"]
        for name, words in zip(CLASS_NAMES, ("photographs", "generated"), strict=True):
            total = max(sum(histogram[name]), 1)
            shares = [100 * count / total for count in histogram[name]]
            axes.stairs(shares, edges, fill=True, color=_COLOURS[name], alpha=0.35)
            axes.stairs(shares, edges, color=_COLOURS[name], lw=1.6, label=words)
        axes.axvline(threshold, color=_INK, lw=1, ls=":")
        axes.set(xlim=(0, 1), xlabel="score: probability of being generated", ylabel="% of the class")
        axes.grid(axis="y", alpha=0.6, lw=0.6)
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.13))
        return _as_svg(figure, "Scores of both classes")


def draw_conditions(conditions: list[dict]) -> str:
    """Scores against strength, a panel for each kind of change, as SVG; empty without conditions.

    `conditions` as `eval.conditions.describe_conditions` returns them; each curve begins at the clean picture.
    """
    families = dict.fromkeys(one["family"] for one in conditions if one["strength"] is not None)
    if not families:
        return ""
    curves = {
        "AUROC": (lambda scores: scores["auroc"], _INK, "-"),
        "photographs called fake": (lambda scores: scores["false_positive_rate"], _REAL, "--"),
        "generated called real": (lambda scores: scores["false_negative_rate"], _FAKE, ":"),
    }
    clean = next(one for one in conditions if one["strength"] is None)
    with mpl.rc_context({**_STYLE, "svg.hashsalt": "conditions"}):
        figure = Figure(figsize=(10.5, 2.7 * -(-len(families) // 3) + 0.4), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(-(-len(families) // 3), 3, squeeze=False, sharey=True).ravel()
        for axes, family in zip(panels, families, strict=False):
            points = [clean, *(one for one in conditions if one["family"] == family)]
            ticks = ["clean", *(f"{one['strength']:g}" for one in points[1:])]
            for name, (pick, colour, line) in curves.items():
                estimates = [pick(one["scores"]) for one in points]
                values = [_number(estimate["value"]) for estimate in estimates]
                axes.plot(values, color=colour, ls=line, lw=2, marker="o", ms=4, label=name)
                low, high = ([_number(one[bound]) for one in estimates] for bound in ("low", "high"))
                axes.fill_between(range(len(points)), low, high, color=colour, alpha=0.12, lw=0)
            axes.set(title=family, ylim=(-0.02, 1.02), xticks=range(len(points)), xticklabels=ticks)
            axes.grid(axis="y", alpha=0.6, lw=0.6)
        for axes in panels[len(families) :]:
            axes.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return _as_svg(figure, "Scores against the strength of each change")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def _as_svg(figure: Figure, title: str) -> str:
    file = io.StringIO()
    # Without metadata the bytes do not depend on the time, and no address stands in them.
    figure.savefig(
        file, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # not needed within HTML
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"font: [^;\"]*'[^;\"]*;?", "font-size: 11px;", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
