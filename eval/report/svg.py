"""The plots of reports as SVG that stands in HTML and takes the page's colours, light or dark.

Drawn with matplotlib in marker colours; those are then replaced by the style sheet's variables.
"""

import io
import re
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from data_cards.core.labels import CLASS_NAMES
from pipeline.features.frequencies import MAX_FREQUENCY

# Colours that nothing else draws in, by the variable of the style sheet that takes their place.
INK, FAINT, REAL, FAKE = "#010203", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "--ink", FAINT: "--line", REAL: "--real", FAKE: "--fake"}
COLOURS = dict(zip(CLASS_NAMES, (REAL, FAKE), strict=True))
_FREQUENCY = "frequency, cycles per pixel: coarse to fine"
_WORDS = dict(zip(CLASS_NAMES, ("photographs", "generated"), strict=True))

STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and styled
    "font.size": 11,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "grid.color": FAINT,
    "legend.frameon": False,
}


def draw_roc(roc: dict) -> str:
    """The ROC curve with its band, as SVG; `roc` as `eval.scores.breakdown.describe_roc` returns it."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "roc"}):
        figure, axes = new_figure(4.4, 4.2)
        band = roc["interval"]
        if band:
            axes.fill_between(
                band["false_positive_rate"], band["low"], band["high"], step="post", color=FAKE, alpha=0.18, lw=0
            )
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls="--")
        axes.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=FAKE, lw=2)
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.02),
            aspect="equal",
            xlabel="share of photographs called fake",
            ylabel="share of generated pictures found",
        )
        axes.grid(alpha=0.6, lw=0.6)
        return as_svg(figure, "ROC curve")


def draw_histogram(histogram: dict, threshold: float) -> str:
    """Scores of each class as SVG; `histogram` as `eval.scores.breakdown.describe_histogram` returns it."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "histogram"}):
        figure, axes = new_figure(4.8, 4.2)
        edges = histogram["edges"]
        for name, words in zip(CLASS_NAMES, ("photographs", "generated"), strict=True):
            total = max(sum(histogram[name]), 1)
            shares = [100 * count / total for count in histogram[name]]
            axes.stairs(shares, edges, fill=True, color=COLOURS[name], alpha=0.35)
            axes.stairs(shares, edges, color=COLOURS[name], lw=1.6, label=words)
        axes.axvline(threshold, color=INK, lw=1, ls=":")
        axes.set(xlim=(0, 1), xlabel="score: probability of being generated", ylabel="% of the class")
        axes.grid(axis="y", alpha=0.6, lw=0.6)
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.13))
        return as_svg(figure, "Scores of both classes")


def draw_reliability(bins: list[dict]) -> str:
    """The reliability diagram as SVG; `bins` as `eval.scores.reliability.describe_reliability` returns them."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "reliability"}):
        figure, axes = new_figure(4.4, 4.2)
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls="--")
        said = [one["mean_probability"] for one in bins]
        shares = [one["share_fake"] for one in bins]
        for at, share in zip(said, shares, strict=True):
            if share["low"] is not None:
                axes.plot([at, at], [share["low"], share["high"]], color=INK, lw=1.4, alpha=0.6)
        most = max(one["samples"] for one in bins)
        sizes = [30 + 170 * one["samples"] / most for one in bins]
        axes.scatter(said, [share["value"] for share in shares], s=sizes, color=FAKE, zorder=3)
        axes.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            aspect="equal",
            xlabel="probability of being generated, as said",
            ylabel="share that is generated",
        )
        axes.grid(alpha=0.6, lw=0.6)
        return as_svg(figure, "Reliability diagram")


def draw_coverage(coverage: dict) -> str:
    """Mistakes against coverage as SVG; `coverage` as `eval.scores.reliability.describe_coverage` returns it."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "coverage"}):
        figure, axes = new_figure(4.8, 4.2)
        band = coverage["interval"]
        if band:
            low, high = ([100 * value for value in band[bound]] for bound in ("low", "high"))
            axes.fill_between([100 * value for value in band["coverage"]], low, high, color=FAKE, alpha=0.18, lw=0)
        judged, mistakes = ([100 * value for value in coverage[name]] for name in ("coverage", "risk"))
        axes.plot(judged, mistakes, color=FAKE, lw=2, drawstyle="steps-post")
        axes.set(xlim=(0, 101), xlabel="% of the pictures judged, surest first", ylabel="% of those judged wrongly")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.6, lw=0.6)
        return as_svg(figure, "Mistakes against the share of pictures judged")


def draw_runs(estimates: list[dict], names: list[str]) -> str:
    """The AUROC of each run with its interval as SVG, the runs by number, since names may be long or hold anything."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": "runs"}):
        figure, axes = new_figure(5.2, 0.7 + 0.45 * len(names))
        for place, one in enumerate(estimates):
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [place, place], color=INK, lw=1.6)
            axes.plot([as_number(one["value"])], [place], color=FAKE, marker="o", ms=8)
        axes.axvline(0.5, color=FAINT, lw=1.2, ls="--")
        axes.set(xlabel="AUROC", yticks=range(len(names)), yticklabels=[f"{n + 1}." for n in range(len(names))])
        axes.set_ylim(len(names) - 0.4, -0.6)  # the first at the top
        axes.grid(axis="x", alpha=0.6, lw=0.6)
        return as_svg(figure, "AUROC of each run")


def draw_conditions(conditions: list[dict]) -> str:
    """Scores against strength, a panel for each kind of change, as SVG; empty without conditions.

    `conditions` as `eval.scores.stress.describe_conditions` returns them; each curve begins at the clean picture.
    """
    families = dict.fromkeys(one["family"] for one in conditions if one["strength"] is not None)
    if not families:
        return ""
    curves = {
        "AUROC": (lambda scores: scores["auroc"], INK, "-"),
        "photographs called fake": (lambda scores: scores["false_positive_rate"], REAL, "--"),
        "generated called real": (lambda scores: scores["false_negative_rate"], FAKE, ":"),
    }
    clean = next(one for one in conditions if one["strength"] is None)
    with mpl.rc_context({**STYLE, "svg.hashsalt": "conditions"}):
        figure = Figure(figsize=(10.5, 2.7 * -(-len(families) // 3) + 0.4), layout="constrained")
        FigureCanvasSVG(figure)
        panels = figure.subplots(-(-len(families) // 3), 3, squeeze=False, sharey=True).ravel()
        for axes, family in zip(panels, families, strict=False):
            points = [clean, *(one for one in conditions if one["family"] == family)]
            ticks = ["clean", *(f"{one['strength']:g}" for one in points[1:])]
            for name, (pick, colour, line) in curves.items():
                estimates = [pick(one["scores"]) for one in points]
                values = [as_number(estimate["value"]) for estimate in estimates]
                axes.plot(values, color=colour, ls=line, lw=2, marker="o", ms=4, label=name)
                low, high = ([as_number(one[bound]) for one in estimates] for bound in ("low", "high"))
                axes.fill_between(range(len(points)), low, high, color=colour, alpha=0.12, lw=0)
            axes.set(title=family, ylim=(-0.02, 1.02), xticks=range(len(points)), xticklabels=ticks)
            axes.grid(axis="y", alpha=0.6, lw=0.6)
        for axes in panels[len(families) :]:
            axes.set_axis_off()
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
        return as_svg(figure, "Scores against the strength of each change")


def as_number(value: float | None) -> float:
    return float("nan") if value is None else value


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots()


def as_svg(figure: Figure, title: str) -> str:
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


def draw_drops(deciding: dict) -> str:
    """AUROC lost without each band, as SVG; `deciding` as `describe_deciding` of the occlusion study returns it."""
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
    profiles : as `eval.explain.class_spectra.ClassProfiles.as_json` returns them
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
        axes.set(xlim=(0, MAX_FREQUENCY), xlabel=_FREQUENCY, ylabel="strength, logarithmic")
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
    axes.set(xlim=(0, MAX_FREQUENCY), xlabel=_FREQUENCY)
    axes.grid(axis="y", alpha=0.6, lw=0.6)
