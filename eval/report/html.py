"""A report as one self-contained HTML page: nothing is loaded from elsewhere, every text is escaped."""

from pathlib import Path, PurePath
from shlex import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.report.format import INTERVAL_NOTE, SCOPES, format_score, format_share, format_span, format_value
from eval.report.gallery import Example
from eval.report.svg import (
    draw_changes,
    draw_conditions,
    draw_coverage,
    draw_drops,
    draw_histogram,
    draw_profiles,
    draw_reliability,
    draw_roc,
    draw_runs,
)
from eval.scores.metrics import METRICS

_TEMPLATES = Path(__file__).parent / "templates"


def make_environment() -> Environment:
    """Templates of this folder, with every text escaped and what all pages write figures with."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["basename"] = lambda path: PurePath(path).name
    environment.globals |= {
        "metrics": METRICS,
        "scopes": SCOPES,
        "interval_note": INTERVAL_NOTE,
        "score": format_score,
        "value": format_value,
        "share": format_share,
        "span": format_span,
    }
    return environment


def render_report(report: dict, worst: list[Example], examples: list[Example]) -> str:
    """The page of a report's figures (as in `report.json`) and its example pictures."""
    run, store = report["run"]["path"], report["store"]["path"]
    return (
        make_environment()
        .get_template("report.html")
        .render(
            report=report,
            first=report["scopes"][report["headline"]],
            card=report["card"],
            # Our own drawings: their only words are our own.
            roc=Markup(draw_roc(report["roc"])),
            histogram=Markup(draw_histogram(report["histogram"], report["threshold"]["value"])),
            reliability=Markup(draw_reliability(report["reliability"])),
            coverage=Markup(draw_coverage(report["coverage"])),
            drops=Markup("" if "reason" in report["deciding"] else draw_drops(report["deciding"])),
            changes=Markup("" if "reason" in report["deciding"] else draw_changes(report["deciding"])),
            profiles=Markup("" if "reason" in report["profiles"] else draw_profiles(report["profiles"])),
            curves=Markup(draw_conditions(report["conditions"])),
            command=f"eval report --run {quote(run)} --store {quote(store)} --split {report['split']}",
            worst=worst,
            examples=examples,
        )
    )


def render_comparison(comparison: dict) -> str:
    """The page of a comparison's figures (as in `comparison.json`)."""
    runs = comparison["runs"]
    stores = {run["store"]["path"] for run in runs}
    named = f" --store {quote(*stores)}" if len(stores) == 1 else ""
    return (
        make_environment()
        .get_template("comparison.html")
        .render(
            report=comparison,
            plot=Markup(draw_runs([run["scores"]["auroc"] for run in runs], [run["name"] for run in runs])),
            command="eval report "
            + " ".join(f"--run {quote(run['path'])}" for run in runs)
            + f"{named} --split {comparison['split']}",
        )
    )
