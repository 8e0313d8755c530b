"""Report and comparison as self-contained HTML pages: nothing is loaded from elsewhere, every text is escaped."""

from dataclasses import fields, replace
from pathlib import Path, PurePath
from shlex import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from data_cards.audit.file_baseline import ALL
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.options import list_given_options
from data_cards.core.text import escape_value
from eval.explain.parts import PART_WORDS
from eval.explain.reasons import REASON_WORDS
from eval.report.format import (
    ALL_NOTE,
    EXPERT_COLUMNS,
    INTERVAL,
    INTERVAL_NOTE,
    PLANE_COLUMNS,
    SCOPES,
    SURE_SHARES,
    VARIANTS,
    format_score,
    format_share,
    format_share_in_line,
    format_span,
    format_value,
)
from eval.report.gallery import Example
from eval.report.svg import (
    plot_auroc_drops,
    plot_class_spectra,
    plot_conditions,
    plot_histogram,
    plot_log_odds_changes,
    plot_reliability,
    plot_risk_coverage,
    plot_roc,
    plot_runs,
)
from eval.scores.metrics import MAIN_SCORES, METRICS, OF_ORDER
from eval.scores.occlusion_study import NO_NETWORK
from pipeline.store.settings import BuildSettings
from train.model.calibration import UNSURE
from train.settings import MACHINE_FIELDS, TrainSettings

_TEMPLATES = Path(__file__).parent / "templates"


def create_environment() -> Environment:
    """Create the templates' environment, which escapes every text and has the formatters of scores."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=escape_value,
    )
    environment.filters["basename"] = lambda path: PurePath(path).name
    environment.globals |= {
        "class_names": CLASS_NAMES,
        "interval": INTERVAL,
        "metrics": METRICS,
        "of_order": [METRICS[name].title for name in OF_ORDER],
        "main_scores": MAIN_SCORES,
        "scopes": SCOPES,
        "variants": VARIANTS,
        "sure_shares": SURE_SHARES,
        "reason_words": REASON_WORDS,
        "part_words": PART_WORDS,
        "words": (*CLASS_NAMES, UNSURE),
        "interval_note": INTERVAL_NOTE,
        "no_network": NO_NETWORK,
        "all_properties": ALL,
        "all_note": ALL_NOTE,
        "expert_columns": EXPERT_COLUMNS,
        "plane_columns": PLANE_COLUMNS,
        "score": format_score,
        "value": format_value,
        "share": format_share,
        "span": format_span,
        "train_options": _list_train_options,
        "build_options": _list_build_options,
        "share_in_line": format_share_in_line,
    }
    return environment


def render_report(report: dict, worst: list[Example], examples: list[Example]) -> str:
    """Render the page of `report.json` and its example pictures."""
    run, store = report["run"]["path"], report["store"]["path"]
    return (
        create_environment()
        .get_template("report.html")
        .render(
            report=report,
            first=report["scopes"][report["headline"]],
            card=report["card"],
            # The plots are ours and contain no untrusted text.
            roc=Markup(plot_roc(report["roc"])),
            histogram=Markup(plot_histogram(report["histogram"], report["threshold"]["value"])),
            reliability=Markup(plot_reliability(report["reliability"])),
            coverage=Markup(plot_risk_coverage(report["coverage"])),
            drops=Markup("" if "reason" in report["deciding"] else plot_auroc_drops(report["deciding"])),
            changes=Markup("" if "reason" in report["deciding"] else plot_log_odds_changes(report["deciding"])),
            profiles=Markup("" if "reason" in report["profiles"] else plot_class_spectra(report["profiles"])),
            curves=Markup(plot_conditions(report["conditions"])),
            command="report "
            + ("" if report["run"]["starter"] else f"--run {quote(run)} ")
            + f"--store {quote(store)} --split {report['split']}",
            worst=worst,
            examples=examples,
        )
    )


def _format_run(run: dict, groups: list[dict]) -> str:
    """Format a compared run as it is given to `--run`."""
    group = next(one for one in groups if run["name"] in one["runs"])
    return run["path"] if group["runs"] == [group["name"]] else f"{group['name']}={run['path']}"


def _list_train_options(settings: dict) -> list[str]:
    settings = TrainSettings.from_dict(settings)
    on_this_machine = {f.name: f.default for f in fields(settings) if f.name in MACHINE_FIELDS and f.name != "store"}
    return ["train run", *list_given_options(replace(settings, **on_this_machine))]


def _list_build_options(settings: dict) -> list[str]:
    build = BuildSettings.from_dict(settings)
    return ["pipeline build", *list_given_options(build.features), *list_given_options(build)]


def render_comparison(comparison: dict) -> str:
    """Render the page of `comparison.json`."""
    runs = comparison["runs"]
    stores = {run["store"]["path"] for run in runs}
    named = f" --store {quote(*stores)}" if len(stores) == 1 else ""
    return (
        create_environment()
        .get_template("comparison.html")
        .render(
            report=comparison,
            plot=Markup(plot_runs([group["scores"]["auroc"] for group in comparison["groups"]])),
            command="report "
            + " ".join(f"--run {quote(_format_run(run, comparison['groups']))}" for run in runs)
            + f"{named} --split {comparison['split']}",
        )
    )
