"""Report and comparison as text for the terminal."""

from data_cards.core.console import format_table
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import Lines, join_lines
from eval.explain.parts import PART_WORDS
from eval.report.format import INTERVAL, SCOPES, SURE_SHARES, UNSURE_WORDS, VARIANTS, format_score, format_share
from eval.scores.metrics import METRICS
from train.model.calibration import UNSURE


def format_report(report: dict) -> Lines:
    """Format the contents of `report.json` as tables, then the summary, which a terminal shows last."""
    parts = [
        report["notice"],
        _format_headline(report),
        _format_scores(report),
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
        join_lines(report["summary"]),
    ]
    return join_lines((part for part in parts if part), "\n\n")


def format_comparison(comparison: dict) -> Lines:
    """Format the contents of `comparison.json` as tables, then the summary."""
    runs = comparison["runs"]
    scores = [
        [metric.title, *(text for run in runs for text in format_score(name, run["scores"][name]))]
        for name, metric in METRICS.items()
    ]
    parts = [
        comparison["notice"],
        f"{comparison['split']} split, pictures that all runs can be scored on: {_format_counts(comparison)}",
        format_table(scores, ["score"] + [text for run in runs for text in (run["name"], INTERVAL)]),
    ]
    for one in comparison["differences"]:
        rows = [
            [METRICS[name].title, *format_score(name, score), "yes" if score["real"] else "not clear"]
            for name, score in one["scores"].items()
        ]
        interval = f"{100 * comparison['intervals']['level_of_differences']:.3g}% interval"
        parts.append(format_table(rows, [f"{one['first']} less {one['second']}", "difference", interval, "real?"]))
    for run in runs:
        parts += [f"{run['name']}:", _format_file_baseline(run["shortcuts"]), _format_jpeg_swap(run["swap"])]
    parts += [comparison["notice"], join_lines(comparison["summary"])]
    return join_lines((part for part in parts if part), "\n\n")


def _format_headline(report: dict) -> str:
    first = report["scopes"][report["headline"]]
    return (
        f"{report['run']['path']} on the {report['split']} split of {report['store']['path']}: "
        f"{first['pictures']} pictures; {SCOPES[report['headline']]}: {_format_counts(first)}"
    )


def _format_scores(report: dict) -> str:
    headers, rows = ["score"], [[metric.title] for metric in METRICS.values()]
    for scope, part in report["scopes"].items():
        headers += [SCOPES[scope], INTERVAL]
        for row, name in zip(rows, METRICS, strict=True):
            row += format_score(name, part["scores"][name])
    return format_table(rows, headers)


def _format_confusion(report: dict) -> str:
    counts = report["scopes"][report["headline"]]["verdicts"]
    words = (*CLASS_NAMES, UNSURE)
    rows = [[f"is {label}", *(counts[f"{label}_{word}"] for word in words)] for label in CLASS_NAMES]
    reasons = [f"{count} {UNSURE_WORDS[reason]}" for reason, count in report["abstention"]["unsure_by_reason"].items()]
    table = format_table(rows, [SCOPES[report["headline"]], *(f"called {word}" for word in words)])
    return join_lines([table, *([f"unsure: {', '.join(reasons)}"] if reasons else [])])


def _format_threshold(report: dict) -> str:
    threshold, oracle = report["threshold"], report["threshold"]["oracle"]
    balanced = report["scopes"][report["headline"]]["scores"]["balanced_accuracy"]["value"]
    return join_lines(
        [
            f"called fake from probability {threshold['value']:.3f} on, chosen {threshold['chosen']}: "
            f"balanced accuracy {balanced:.1%}",
            f"unsure between {threshold['low']:.3f} and {threshold['high']:.3f}; the best threshold for these very "
            f"pictures, {oracle['threshold']:.3f}, which nobody could have known, would have reached "
            f"{oracle['balanced_accuracy']:.1%}",
        ]
    )


def _format_sources(report: dict) -> str:
    rows = [
        [
            *(one[name] for name in ("source", "class", "pictures")),
            *format_score("accuracy", one["accuracy"]),
            *format_score("auroc", one["auroc_against_other_class"]),
            format_share(one["sure"])[0],
            format_share(one["wrong_when_sure"])[0],
        ]
        for one in report["sources"][report["headline"]]
    ]
    headers = ["source", "class", "pictures", "accuracy", INTERVAL, "AUROC*", INTERVAL, "sure", "wrong of sure"]
    return join_lines([format_table(rows, headers), "* against all pictures of the other class"])


def _format_variants(variants: list[dict]) -> str:
    if not variants:
        return ""
    rows = [
        [
            VARIANTS[one["variant"]],
            *_format_scored(one, "auroc", "calibration_error"),
            *(text for name in SURE_SHARES for text in format_share(one[name])),
        ]
        for one in variants
    ]
    columns = ["AUROC", "calibration error", *SURE_SHARES.values()]
    return format_table(rows, ["the pictures"] + [text for column in columns for text in (column, INTERVAL)])


def _format_experts(experts: dict) -> str:
    if "reason" in experts:
        return f"what the scores lose without each expert: {experts['reason']}"
    rows = [
        [PART_WORDS[one["name"]], *format_score("auroc", one["auroc_drop"])]
        + [f"{one['log_odds'][label]['value']:+.2f}" for label in CLASS_NAMES]
        for one in experts["parts"]
    ]
    headers = ["without", "AUROC lost", INTERVAL, "log-odds lost, real", "fake"]
    return join_lines([format_table(rows, headers), _format_counts(experts)])


def _format_quality_bands(report: dict) -> str:
    rows = [
        [one["quality"], *one["samples_by_class"].values(), *_format_scored(one["scores"], "accuracy", "auroc")]
        for one in report["quality_bands"]
    ]
    return format_table(rows, ["JPEG quality", "real", "fake", "accuracy", INTERVAL, "AUROC", INTERVAL])


def _format_conditions(report: dict) -> str:
    if not report["conditions"]:
        return ""
    rates = ("auroc", "false_positive_rate", "false_negative_rate")
    rows = [
        [
            one["condition"],
            *_format_scored(one["scores"], *rates),
            *(format_share(one["flip_rate"]) if one["flip_rate"] else ("", "")),
        ]
        for one in report["conditions"]
    ]
    columns = [*(METRICS[name].title for name in rates), "verdicts changed"]
    headers = ["condition"] + [text for column in columns for text in (column, INTERVAL)]
    return format_table(rows, headers)


def _format_file_baseline(baseline: dict) -> str:
    if "reason" in baseline:
        return f"no scores of file properties alone: {baseline['reason']}"
    rows = [[one["properties"], *_format_scored(one, "auroc", "accuracy")] for one in baseline["shortcuts"]]
    return format_table(rows, ["file properties alone", "AUROC", INTERVAL, "accuracy", INTERVAL])


def _format_jpeg_swap(swap: dict) -> str:
    if "reason" in swap:
        return f"no JPEG-swap test: {swap['reason']}"
    rows = []
    for name, one in swap["scores"].items():
        cells = [text for state in ("as_they_are", "saved_alike", "drop") for text in format_score(name, one[state])]
        rows.append([METRICS[name].title, *cells])
    headers = ["JPEG-swap test"]
    headers += [text for state in ("as they are", "saved alike", "drop") for text in (state, INTERVAL)]
    return join_lines([format_table(rows, headers), f"{_format_counts(swap)}; {swap['how']}"])


def _format_occlusion_study(deciding: dict) -> str:
    if "reason" in deciding:
        return f"which frequencies decide the network's score: {deciding['reason']}"
    parts = [(f"{one['low']:.3f} to {one['high']:.3f} cycles/pixel", one) for one in deciding["bands"]]
    parts += [(f"{one['title']} planes", one) for one in deciding["kinds"]]
    rows = [
        [name, *format_score("auroc", one["auroc_drop"])]
        + [f"{one['log_odds_change'][label]['value']:+.2f}" for label in CLASS_NAMES]
        for name, one in parts
    ]
    headers = ["without", "AUROC lost", INTERVAL, "log-odds lost, real", "fake"]
    return join_lines([format_table(rows, headers), _format_counts(deciding)])


def _format_scored(scores: dict, *names: str) -> list[str]:
    return [text for name in names for text in format_score(name, scores[name])]


def _format_counts(part: dict) -> str:
    return ", ".join(f"{count} {name}" for name, count in part["samples_by_class"].items())
