"""Plots of reports as inline SVG in the page's colours, light or dark.

matplotlib plots in marker colours, which are then replaced by the style sheet's variables.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from data_cards.audit.cross_validation import GUESSING
from data_cards.core.labels import CLASS_NAMES
from pipeline.features.frequencies import MAX_FREQUENCY

# Colours that occur nowhere else, each replaced by a variable of the style sheet.
INK, SOFT, FAINT, REAL, FAKE = "#010203", "#020304", "#040506", "#070809", "#0a0b0c"
_VARIABLES = {INK: "--ink", SOFT: "--soft", FAINT: "--line", REAL: "--real", FAKE: "--fake"}
COLOURS = dict(zip(CLASS_NAMES, (REAL, FAKE), strict=True))
_FREQUENCY = "cycles per pixel: coarse to fine; above 0.5, diagonal"
_WORDS = dict(zip(CLASS_NAMES, ("photographs", "generated"), strict=True))

STYLE = {
    "svg.fonttype": "none",  # text remains text, which can be read aloud, searched and styled
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


def plot_roc(roc: dict) -> str:
    """Plot the ROC curve with its band as SVG; `roc` as `eval.scores.breakdown.compute_roc` returns it."""
    with styled_figure("roc", 4.4, 4.2) as (figure, axes):
        band = roc["interval"]
        if band:
            axes.fill_between(
                band["false_positive_rate"], band["low"], band["high"], step="post", color=FAKE, alpha=0.18, lw=0
            )
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1.2, ls="--")
        axes.plot(roc["false_positive_rate"], roc["true_positive_rate"], color=FAKE, lw=2)
        axes.set(
            xlim=(-0.01, 1.01),
            ylim=(-0.01, 1.02),
            aspect="equal",
            xlabel="share of photographs called fake",
            ylabel="share of generated pictures found",
        )
        axes.grid(alpha=0.6, lw=0.6)
        return render_svg(figure, "ROC curve")


def plot_histogram(histogram: dict, threshold: float) -> str:
    """Plot the scores of each class as SVG; `histogram` as `eval.scores.breakdown.compute_histogram` returns it."""
    with styled_figure("histogram", 4.8, 4.2) as (figure, axes):
        edges = histogram["edges"]
        for name, words in _WORDS.items():
            total = max(sum(histogram[name]), 1)
            shares = [100 * count / total for count in histogram[name]]
            axes.stairs(shares, edges, fill=True, color=COLOURS[name], alpha=0.35)
            axes.stairs(shares, edges, color=COLOURS[name], lw=1.6, label=words)
        axes.axvline(threshold, color=INK, lw=1, ls=":")
        axes.set(xlim=(0, 1), xlabel="score: probability that the picture is fake", ylabel="% of the class")
        axes.grid(axis="y", alpha=0.6, lw=0.6)
        axes.legend(loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.13))
        return render_svg(figure, "Scores of both classes")


def plot_reliability(bins: list[dict]) -> str:
    """Plot the reliability diagram as SVG; `bins` as `eval.scores.reliability.compute_reliability` returns them."""
    with styled_figure("reliability", 4.4, 4.2) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1.2, ls="--")
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
            xlabel="probability that the picture is fake",
            ylabel="share that is generated",
        )
        axes.grid(alpha=0.6, lw=0.6)
        return render_svg(figure, "Reliability diagram")


def plot_risk_coverage(coverage: dict) -> str:
    """Plot mistakes against coverage as SVG; `coverage` as `reliability.compute_risk_coverage` returns it."""
    with styled_figure("coverage", 4.8, 4.2) as (figure, axes):
        band = coverage["interval"]
        if band:
            low, high = ([100 * value for value in band[bound]] for bound in ("low", "high"))
            axes.fill_between([100 * value for value in band["coverage"]], low, high, color=FAKE, alpha=0.18, lw=0)
        judged, mistakes = ([100 * value for value in coverage[name]] for name in ("coverage", "risk"))
        axes.plot(judged, mistakes, color=FAKE, lw=2, drawstyle="steps-post")
        axes.set(xlim=(0, 101), xlabel="% of the pictures judged, surest first", ylabel="% of those judged wrongly")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.6, lw=0.6)
        return render_svg(figure, "Mistakes against the share of pictures judged")


def plot_runs(estimates: list[dict]) -> str:
    """Plot several AUROCs with their intervals as SVG, labelled by number, because names may contain anything."""
    numbers = range(len(estimates))
    with styled_figure("runs", 5.2, 0.7 + 0.45 * len(estimates)) as (figure, axes):
        for place, one in enumerate(estimates):
            if one["low"] is not None:
                axes.plot([one["low"], one["high"]], [place, place], color=INK, lw=1.6)
            axes.plot([as_number(one["value"])], [place], color=FAKE, marker="o", ms=8)
        axes.axvline(GUESSING, color=SOFT, lw=1.2, ls="--")
        axes.set(xlabel="AUROC", yticks=numbers, yticklabels=[f"{number + 1}." for number in numbers])
        axes.set_ylim(len(estimates) - 0.4, -0.6)  # the first at the top
        axes.grid(axis="x", alpha=0.6, lw=0.6)
        return render_svg(figure, "AUROC of each run")


def plot_conditions(conditions: list[dict]) -> str:
    """Plot scores against strength, a panel for each kind of change, as SVG; empty without conditions.

    `conditions` as `eval.scores.stress.compute_by_condition` returns them; each curve begins at the clean picture.
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
        return render_svg(figure, "Scores against the strength of each change")


def as_number(value: float | None) -> float:
    """Return the value; NaN for None."""
    return float("nan") if value is None else value


@contextmanager
def styled_figure(name: str, width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Context with a new figure and its axes in the report's style; `name` makes the identifiers in its SVG unique."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots()


def render_svg(figure: Figure, title: str) -> str:
    """Render a figure as inline SVG, with `title` as its label."""
    file = io.StringIO()
    # Without metadata the bytes do not depend on the time and contain no address.
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


def plot_auroc_drops(deciding: dict) -> str:
    """Plot the AUROC lost without each band as SVG; `deciding` as `compute_occlusion_study` returns it."""
    with styled_figure("drops", 5.2, 3.9) as (figure, axes):
        _plot_steps(axes, _edges(deciding), [band["auroc_drop"] for band in deciding["bands"]], INK, None)
        axes.set(ylabel="AUROC lost without it")
        _finish_band_axes(axes)
        return render_svg(figure, "AUROC lost without each band of frequencies")


def plot_log_odds_changes(deciding: dict) -> str:
    """Plot the log-odds of "fake" lost without each band, by class, as SVG; `deciding` as in `plot_auroc_drops`."""
    with styled_figure("changes", 5.2, 3.9) as (figure, axes):
        for name in CLASS_NAMES:
            estimates = [band["log_odds_change"][name] for band in deciding["bands"]]
            _plot_steps(axes, _edges(deciding), estimates, COLOURS[name], _WORDS[name])
        axes.set(ylabel="log-odds lost without it")
        axes.legend(loc="best")
        _finish_band_axes(axes)
        return render_svg(figure, "What each band of frequencies adds to the log-odds")


def plot_class_spectra(spectra: dict) -> str:
    """Plot the mean spectra of both classes as SVG; `spectra` as `ClassSpectra.to_dict` returns them."""
    at = spectra["frequencies"]
    with styled_figure("profiles", 5.2, 3.9) as (figure, axes):
        for name, line in zip(CLASS_NAMES, ("-", "--"), strict=True):
            mean, spread = spectra["mean"][name], spectra["deviation"][name]
            low = [value - width for value, width in zip(mean, spread, strict=True)]
            high = [value + width for value, width in zip(mean, spread, strict=True)]
            axes.fill_between(at, low, high, color=COLOURS[name], alpha=0.15, lw=0)
            axes.plot(at, mean, color=COLOURS[name], ls=line, lw=2, label=_WORDS[name])
        axes.set(xlim=(0, MAX_FREQUENCY), xlabel=_FREQUENCY, ylabel="strength, logarithmic")
        axes.legend(loc="upper right")
        axes.grid(alpha=0.6, lw=0.6)
        return render_svg(figure, "Mean spectra")


def _edges(deciding: dict) -> list[float]:
    return [deciding["bands"][0]["low"], *(band["high"] for band in deciding["bands"])]


def _plot_steps(axes: Axes, edges: list[float], estimates: list[dict], colour: str, label: str | None) -> None:
    axes.stairs([as_number(one["value"]) for one in estimates], edges, baseline=None, color=colour, lw=2, label=label)
    for low, high, one in zip(edges[:-1], edges[1:], estimates, strict=True):
        if one["low"] is not None:
            axes.fill_between([low, high], one["low"], one["high"], color=colour, alpha=0.15, lw=0)


def _finish_band_axes(axes: Axes) -> None:
    axes.axhline(0, color=SOFT, lw=1.2, ls="--")
    axes.set(xlim=(0, MAX_FREQUENCY), xlabel=_FREQUENCY)
    axes.grid(axis="y", alpha=0.6, lw=0.6)
