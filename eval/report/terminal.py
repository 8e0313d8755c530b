"""Report and comparison as text for the terminal: the summary first, then tables.

The short form has at most `MOST_LINES` lines of `WIDTH` columns, including warnings; the full form has every table.
"""

from data_cards.audit.file_baseline import ALL
from data_cards.core.console import format_table
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import Lines, join_lines
from eval.explain.parts import PART_WORDS
from eval.explain.reasons import REASON_WORDS
from eval.report.format import (
    ALL_NOTE,
    EXPERT_COLUMNS,
    INTERVAL,
    PLANE_COLUMNS,
    SCOPES,
    SURE_SHARES,
    VARIANTS,
    format_score_in_line,
    format_share,
    format_share_in_line,
)
from eval.scores.expert_study import NO_EXPERTS
from eval.scores.metrics import MAIN_SCORES, METRICS
from eval.scores.occlusion_study import NO_NETWORK
from train.model.calibration import UNSURE

MOST_LINES, WIDTH = 40, 100

_FILES = 2  # lines below, with the names of the files
_CUT = 34  # maximum number of characters of an option's value in the short form
_MOST_OPTIONS = 8  # maximum number of options in the short form
_FULL = "the whole report: add --full, or open the page"


def format_report(report: dict, full: bool = False) -> Lines:
    """Format the contents of `report.json`: the summary, then the main scores and verdicts, or all tables."""
    above = [report["notice"], _format_subject(report)]
    if not full:
        names = (*MAIN_SCORES, "calibration_error")
        return _fit(report, above, [_format_scores(report, names), _format_confusion(report)])
    tables = [
        _format_scores(report, tuple(METRICS)),
        _format_confusion(report),
        _format_threshold(report),
        _format_sources(report),
        _format_variants(report["variants"]),
        _format_quality_bands(report),
        _format_conditions(report),
        _format_file_baseline(report["shortcuts"]),
        _format_jpeg_swap(report["swap"]),
        _format_experts(report["experts"]),
        _format_occlusion_study(report["deciding"]),
        join_lines(f"the training set's {report['audit']['words']}".split("\n")) if report["audit"] else None,
        report["notice"],
    ]
    return _join([*above, join_lines(report["summary"]), *tables])


def format_comparison(comparison: dict, full: bool = False) -> Lines:
    """Format the contents of `comparison.json`: the summary, then settings and main scores, or all tables."""
    above = [
        comparison["notice"],
        f"{comparison['split']} split, pictures that all runs can be scored on: {_format_counts(comparison)}",
    ]
    if not full:
        scores = _format_groups(comparison, ("auroc", "accuracy", "calibration_error"))
        return _fit(comparison, above, [_format_options(comparison, short=True), scores])
    tables = [_format_options(comparison), _format_groups(comparison, tuple(METRICS))]
    interval = f"{100 * comparison['intervals']['level_of_differences']:.3g}% interval"
    for one in comparison["differences"]:
        rows = [
            [METRICS[name].title, format_score_in_line(name, score), "yes" if score["real"] else "no"]
            for name, score in one["scores"].items()
        ]
        tables.append(
            format_table(rows, [f"{one['first']} minus {one['second']}", f"difference ({interval})", "clear"])
        )
    for run in comparison["runs"]:
        tables += [f"{run['name']}:", _format_file_baseline(run["shortcuts"]), _format_jpeg_swap(run["swap"])]
    return _join([*above, join_lines(comparison["summary"]), *tables, comparison["notice"]])


def _join(parts: list[str | None]) -> Lines:
    return join_lines((part for part in parts if part), "\n\n")


def _fit(contents: dict, above: list[str | None], tables: list[str | None]) -> Lines:
    """Join the parts of the short form, with as many sentences of the summary as fit."""
    rest = [part for part in (*above, *tables, _FULL) if part]
    warnings = sum(_count_lines(f"warning: {warning}") for warning in contents["warnings"])
    room = MOST_LINES - _FILES - warnings - sum(_count_lines(part) + 1 for part in rest)
    sentences = []
    for sentence in contents["summary"]:
        room -= _count_lines(sentence)
        if sentences and room < 0:
            break
        sentences.append(sentence)
    return _join([*above, join_lines(sentences), *tables, _FULL])


def _count_lines(text: str) -> int:
    """Count the lines of a text in a terminal of `WIDTH` columns."""
    return sum(-(-max(len(line), 1) // WIDTH) for line in text.split("\n"))


def _format_subject(report: dict) -> str:
    first = report["scopes"][report["headline"]]
    return (
        f"{report['run']['path']} on the {report['split']} split of {report['store']['path']}: "
        f"{first['pictures']} pictures; {SCOPES[report['headline']]}: {_format_counts(first)}"
    )


def _format_scores(report: dict, names: tuple[str, ...]) -> str:
    rows = [
        [METRICS[name].title, *(format_score_in_line(name, part["scores"][name]) for part in report["scopes"].values())]
        for name in names
    ]
    return format_table(rows, [f"score ({INTERVAL})", *(SCOPES[scope] for scope in report["scopes"])])


def _format_confusion(report: dict) -> str:
    counts = report["scopes"][report["headline"]]["verdicts"]
    words = (*CLASS_NAMES, UNSURE)
    rows = [[f"is {label}", *(counts[f"{label}_{word}"] for word in words)] for label in CLASS_NAMES]
    reasons = [
        f"{REASON_WORDS[reason]} ({count})" for reason, count in report["abstention"]["unsure_by_reason"].items()
    ]
    table = format_table(rows, [SCOPES[report["headline"]], *(f"called {word}" for word in words)])
    return join_lines([table, *([f"reasons for unsure: {', '.join(reasons)}"] if reasons else [])])


def _format_threshold(report: dict) -> str:
    threshold, oracle = report["threshold"], report["threshold"]["oracle"]
    balanced = report["scopes"][report["headline"]]["scores"]["balanced_accuracy"]["value"]
    return join_lines(
        [
            f"threshold: fake from probability {threshold['value']:.3f}, chosen {threshold['chosen']}: "
            f"balanced accuracy {balanced:.1%}",
            f"unsure between {threshold['low']:.3f} and {threshold['high']:.3f}; the best threshold for these very "
            f"pictures, {oracle['threshold']:.3f}, would have reached {oracle['balanced_accuracy']:.1%} (not used, "
            "because it depends on their labels)",
        ]
    )


def _format_sources(report: dict) -> str:
    rows = [
        [
            *(one[name] for name in ("source", "class", "pictures")),
            format_score_in_line("accuracy", one["accuracy"]),
            format_score_in_line("auroc", one["auroc_against_other_class"]),
            format_share(one["sure"])[0],
            format_share(one["wrong_when_sure"])[0],
        ]
        for one in report["sources"][report["headline"]]
    ]
    headers = ["source", "class", "pictures", f"accuracy ({INTERVAL})", "AUROC*", "sure", "wrong of these"]
    return join_lines([format_table(rows, headers), "* against all pictures of the other class"])


def _format_variants(variants: list[dict]) -> str:
    if not variants:
        return ""
    rows = [
        [METRICS[name].title, *(format_score_in_line(name, one[name]) for one in variants)]
        for name in ("auroc", "calibration_error")
    ]
    rows += [[words, *(format_share_in_line(one[name]) for one in variants)] for name, words in SURE_SHARES.items()]
    return format_table(rows, ["the same pictures", *(VARIANTS[one["variant"]] for one in variants)])


def _format_experts(experts: dict) -> str:
    if experts.get("reason") == NO_EXPERTS:
        return ""
    if "reason" in experts:
        return f"what the scores lose without each expert: {experts['reason']}"
    rows = [
        [PART_WORDS[one["name"]], format_score_in_line("auroc", one["auroc_drop"])]
        + [f"{one['log_odds'][label]['value']:+.2f}" for label in CLASS_NAMES]
        for one in experts["parts"]
    ]
    headers = ["without", f"AUROC lost ({INTERVAL})", *EXPERT_COLUMNS]
    return join_lines([format_table(rows, headers), _format_counts(experts)])


def _format_quality_bands(report: dict) -> str:
    rows = [
        [one["quality"], *one["samples_by_class"].values(), *_format_scored(one["scores"], "accuracy", "auroc")]
        for one in report["quality_bands"]
    ]
    return format_table(rows, ["JPEG quality", "real", "fake", f"accuracy ({INTERVAL})", "AUROC"])


def _format_conditions(report: dict) -> str:
    if not report["conditions"]:
        return ""
    rates = ("auroc", "false_positive_rate", "false_negative_rate")
    rows = [
        [
            one["condition"],
            *_format_scored(one["scores"], *rates),
            format_share_in_line(one["flip_rate"]) if one["flip_rate"] else "",
        ]
        for one in report["conditions"]
    ]
    return format_table(rows, ["condition", *(METRICS[name].title for name in rates), "verdicts changed"])


def _format_file_baseline(baseline: dict) -> str:
    if "reason" in baseline:
        return f"no scores of file properties alone: {baseline['reason']}"
    rows = [[one["properties"], *_format_scored(one, "auroc", "accuracy")] for one in baseline["shortcuts"]]
    table = format_table(rows, ["file properties alone", f"AUROC ({INTERVAL})", "accuracy"])
    return join_lines([table, *([ALL_NOTE] if baseline["strongest"]["properties"] != ALL else [])])


def _format_jpeg_swap(swap: dict) -> str:
    if "reason" in swap:
        return f"no JPEG-swap test: {swap['reason']}"
    rows = [
        [METRICS[name].title]
        + [format_score_in_line(name, one[state]) for state in ("as_they_are", "saved_alike", "drop")]
        for name, one in swap["scores"].items()
    ]
    headers = ["JPEG-swap test", "as they are", "saved as JPEG", "drop"]
    return join_lines([format_table(rows, headers), f"{_format_counts(swap)}; {swap['how']}"])


def _format_occlusion_study(deciding: dict) -> str:
    if deciding.get("reason") == NO_NETWORK:
        return ""
    if "reason" in deciding:
        return f"which frequencies decide the network's score: {deciding['reason']}"
    parts = [(f"{one['low']:.3f} to {one['high']:.3f} cycles/pixel", one) for one in deciding["bands"]]
    parts += [(f"{one['title']} planes", one) for one in deciding["kinds"]]
    rows = [
        [name, format_score_in_line("auroc", one["auroc_drop"])]
        + [f"{one['log_odds_change'][label]['value']:+.2f}" for label in CLASS_NAMES]
        for name, one in parts
    ]
    headers = ["without", f"AUROC lost ({INTERVAL})", *PLANE_COLUMNS]
    return join_lines([format_table(rows, headers), _format_counts(deciding)])


def _format_options(comparison: dict, short: bool = False) -> str:
    """Format the options in which the runs differ; the short form cuts long values and leaves out the last options."""
    options = comparison["differing_options"]
    if not options:
        return "the runs have the same settings"
    names = [group["name"] for group in comparison["groups"]]
    shown = options[:_MOST_OPTIONS] if short else options
    rows = [[row["option"], *(row["values"][name] for name in names)] for row in shown]
    if short:
        rows = [[cell if len(cell) <= _CUT else f"{cell[: _CUT - 1]}…" for cell in row] for row in rows]
    left_out = len(options) - len(shown)
    table = format_table(rows, ["setting", *names])
    return join_lines([table, *([f"and {left_out} more"] if left_out else [])])


def _format_groups(comparison: dict, names: tuple[str, ...]) -> str:
    rows = [
        [METRICS[name].title, *(format_score_in_line(name, group["scores"][name]) for group in comparison["groups"])]
        for name in names
    ]
    titles = [
        group["name"] if len(group["runs"]) == 1 else f"{group['name']}, mean of {len(group['runs'])} runs"
        for group in comparison["groups"]
    ]
    return format_table(rows, [f"score ({INTERVAL})", *titles])


def _format_scored(scores: dict, *names: str) -> list[str]:
    return [format_score_in_line(name, scores[name]) for name in names]


def _format_counts(part: dict) -> str:
    return ", ".join(f"{count} {name}" for name, count in part["samples_by_class"].items())
