"""Summary of a report, or of a comparison of runs, in sentences that need no statistics.

No sentence claims more than the intervals support: "clearly" means that the whole interval is on one side.
"""

from data_cards.audit.cross_validation import GUESSING
from data_cards.audit.file_baseline import ALL
from eval.explain.bands import format_frequency_band
from eval.explain.parts import PART_WORDS
from eval.report.format import INTERVAL, format_value
from eval.scores.bootstrap import LEVEL
from eval.scores.metrics import METRICS

FEW_PICTURES = 30  # of a class; with fewer the summary warns

_BLIND = 0.9  # share of wrong verdicts on a class, from which on the detector knows nothing of it


def summarise(report: dict) -> list[str]:
    """Summarise the contents of `report.json`, most important sentence first."""
    headline = report["scopes"][report["headline"]]
    auroc = headline["scores"]["auroc"]
    sentences = [
        _format_mistakes(headline["scores"], report["abstention"]),
        _format_ranking(auroc),
        _format_file_baseline(auroc, report["shortcuts"]),
        _format_jpeg_swap(report["swap"]),
        *_summarise_sources(report["sources"][report["headline"]]),
        *_summarise_conditions(report["conditions"]),
        _format_abstention(report["abstention"]),
        # With experts the bands are those of the network's share alone, and the experts' sentence says what decides.
        _format_deciding_band(report["deciding"], auroc) if "reason" in report["experts"] else "",
        _format_deciding_part(report["experts"], auroc),
        _format_small_number(headline["samples_by_class"], "test picture"),
    ]
    return [sentence for sentence in sentences if sentence]


def summarise_comparison(comparison: dict) -> list[str]:
    """Summarise the contents of `comparison.json`."""
    sentences = [_format_difference(one) for one in comparison["differences"]]
    for one in comparison["differences"]:
        real = [name for name in METRICS if name != "auroc" and one["scores"][name]["real"]]
        if real:
            listed = ", ".join(f"{METRICS[name].title} {_format_change(name, one['scores'][name])}" for name in real)
            also = " too" if one["scores"]["auroc"]["real"] else ""
            sentences.append(f"Real{also}, {one['first']} less {one['second']}: {listed}.")
        else:
            sentences.append(f"No other difference between {one['first']} and {one['second']} is clear.")
    if len(comparison["differences"]) > 1:
        sentences.append(
            f"With {len(comparison['differences'])} pairs of runs the intervals of the differences are wider, so that "
            f"all of them together are right in {100 * LEVEL:.0f} of 100 such comparisons."
        )
    few = _format_small_number(comparison["samples_by_class"], "picture")
    return [*sentences, few] if few else sentences


def _format_mistakes(scores: dict, abstention: dict) -> str:
    alarms, misses = scores["false_positive_rate"], scores["false_negative_rate"]
    decided = "If it had to decide on every picture, of" if abstention["unsure"]["value"] else "Of"
    return (
        f"{decided} 100 photographs it would call {_format_of_hundred(alarms)} generated; "
        f"of 100 generated pictures it would miss {_format_of_hundred(misses)}."
    )


def _format_ranking(auroc: dict) -> str:
    sentence = (
        "Shown a photograph and a generated picture, it finds the generated one in "
        f"{_format_of_hundred(auroc)} of 100 such pairs; guessing finds 50."
    )
    if auroc["low"] is None:
        return f"{sentence} Too few pictures to say whether that is better than guessing."
    if auroc["high"] < GUESSING:
        return f"{sentence} That is clearly worse than guessing: on these pictures it is misled."
    if auroc["low"] <= GUESSING:
        return f"{sentence} That is not clearly better than guessing."
    return sentence


def _format_file_baseline(auroc: dict, baseline: dict) -> str:
    if "reason" in baseline:
        return f"Whether file format, size and JPEG quality alone would do as well is not known: {baseline['reason']}."
    strongest, lead = baseline["strongest"], baseline["lead"]
    name = strongest["properties"]
    properties = "file format, size, bytes per pixel and JPEG quality together" if name == ALL else f"{name} alone"
    sentence = (
        f"Without a look at the picture, a classifier of {properties} finds it in "
        f"{_format_of_hundred(strongest['auroc'])} of 100."
    )
    if lead["low"] is None:
        return f"{sentence} Too few pictures to compare the two."
    if lead["low"] > 0:
        return f"{sentence} The detector is clearly better than that."
    if lead["high"] < 0:
        return (
            f"{sentence} That is clearly more than the detector finds: "
            "how these pictures were collected gives them away."
        )
    if auroc["low"] is not None and auroc["low"] > GUESSING:
        return (
            f"{sentence} The detector is not clearly better, so its score is no proof that it knows "
            "generated pictures by anything else."
        )
    return f"{sentence} The detector is not clearly better than that."


def _summarise_conditions(conditions: list[dict]) -> list[str]:
    """Name the condition that changes most verdicts, and those under which every verdict is one class."""
    changed = [one for one in conditions if one["flip_rate"]]
    if not changed:
        return []
    worst = max(changed, key=lambda one: one["flip_rate"]["value"])
    sentences = [
        f"What is done to a picture changes verdicts: most of all {worst['condition']}, which changes "
        f"{_format_of_hundred(worst['flip_rate'])} of 100."
    ]
    for rate, whole, words in (
        ("false_positive_rate", "photographs", "generated"),
        ("false_negative_rate", "generated pictures", "photographs"),
    ):
        blind = [
            one["condition"]
            for one in changed
            if one["scores"][rate]["value"] is not None and one["scores"][rate]["value"] >= _BLIND
        ]
        if blind:
            sentences.append(f"After {', '.join(blind)} it calls nearly all {whole} {words}: there it knows nothing.")
    return sentences


def _format_jpeg_swap(swap: dict) -> str:
    if "reason" in swap:
        return ""
    auroc = swap["scores"]["auroc"]
    before, after, drop = auroc["as_they_are"], auroc["saved_alike"], auroc["drop"]
    if before["low"] is not None and before["low"] <= GUESSING:
        return ""  # there was nothing to lose
    sentence = (
        "Once both classes are saved alike as JPEG, so that the file no longer tells how it was kept, it finds the "
        f"generated one in {_format_of_hundred(after)} of 100 pairs; before, in {100 * before['value']:.0f}."
    )
    if drop["low"] is None:
        return f"{sentence} Too few pictures to say whether that is less."
    if drop["low"] > 0:
        return f"{sentence} What is lost was no evidence of a generator that lasts."
    return f"{sentence} No clear loss."


def _summarise_sources(sources: list[dict]) -> list[str]:
    """Name the generator found least and the photographs with most false alarms, where there are several."""
    sentences = []
    for label, words in (
        ("fake", "Of its generators it finds {source} least: {count} of 100."),
        ("real", "Of the photographs those of {source} raise most false alarms: {count} of 100."),
    ):
        own = [one for one in sources if one["class"] == label]
        if len(own) < 2:
            continue
        worst = min(own, key=lambda one: one["accuracy"]["value"])
        if worst["accuracy"]["value"] < 1:
            share = worst["accuracy"] if label == "fake" else _complement(worst["accuracy"])
            sentences.append(words.format(source=worst["source"], count=_format_of_hundred(share)))
    return sentences


def _complement(share: dict) -> dict:
    """Compute 1 - share, with its bounds."""
    low, high = share["low"], share["high"]
    return {
        "value": 1 - share["value"],
        "low": None if high is None else 1 - high,
        "high": None if low is None else 1 - low,
    }


def _format_abstention(abstention: dict) -> str:
    unsure, mistakes = abstention["unsure"], abstention["mistakes_when_judged"]
    if not unsure["value"]:
        return ""
    sentence = f"It says “unsure” of {_format_of_hundred(unsure)} of 100 pictures"
    if mistakes["value"] is None:
        return f"{sentence}, which is all of them."
    return f"{sentence}; of those that it does judge {_format_of_hundred(mistakes)} of 100 are wrong."


def _format_deciding_band(deciding: dict, auroc: dict) -> str:
    if "reason" in deciding or (auroc["low"] is not None and auroc["low"] <= GUESSING):
        return ""
    most = max(deciding["bands"], key=lambda band: band["auroc_drop"]["value"])
    drop = most["auroc_drop"]
    if drop["low"] is None or drop["low"] <= 0:
        return "No single band of frequencies decides: without any one of them it does about as well."
    band = format_frequency_band(most["low"], most["high"])
    return (
        f"It goes most by {band}: without them it finds the generated one in {100 * drop['value']:.0f} fewer of 100 "
        f"pairs ({INTERVAL} {100 * drop['low']:.0f} to {100 * drop['high']:.0f})."
    )


def _format_deciding_part(experts: dict, auroc: dict) -> str:
    if "reason" in experts or (auroc["low"] is not None and auroc["low"] <= GUESSING):
        return ""
    most = max(experts["parts"], key=lambda part: part["auroc_drop"]["value"])
    drop = most["auroc_drop"]
    if drop["low"] is None or drop["low"] <= 0:
        return "No single expert decides: without any one of them it does about as well."
    value, low, high = (100 * drop[name] for name in ("value", "low", "high"))
    return (
        f"It goes most by the expert for {PART_WORDS[most['name']]}: without it it finds the generated one in "
        f"{value:.0f} fewer of 100 pairs ({INTERVAL} {low:.0f} to {high:.0f})."
    )


def _format_of_hundred(estimate: dict) -> str:
    text = f"{100 * estimate['value']:.0f}"
    if estimate["low"] is None or estimate["low"] == estimate["high"]:
        return text
    return f"{text} ({INTERVAL} {100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"


def _format_small_number(samples_by_class: dict[str, int], what: str) -> str:
    fewest = min(samples_by_class.values())
    plural = "" if fewest == 1 else "s"
    return "" if fewest >= FEW_PICTURES else f"Mind the small number: one class has only {fewest} {what}{plural}."


def _format_difference(one: dict) -> str:
    first, second, lead = one["first"], one["second"], one["scores"]["auroc"]
    if lead["low"] is None:
        return f"Too few pictures to say which of {first} and {second} tells generated pictures better."
    interval = f"{_format_lead(lead['low'])} to {_format_lead(lead['high'])}"
    if not lead["real"]:
        return (
            f"Whether {first} or {second} tells generated pictures better is not clear: of 100 pairs of a photograph "
            f"and a generated picture {first} finds {_format_lead(lead['value'])} (interval {interval})."
        )
    better, worse = (first, second) if lead["value"] > 0 else (second, first)
    return (
        f"{better} tells generated pictures better than {worse}: of 100 pairs of a photograph and a generated picture "
        f"{first} finds {_format_lead(lead['value'])} (interval {interval}). That difference is real."
    )


def _format_lead(lead: float) -> str:
    return f"{abs(100 * lead):.1f} {'more' if lead >= 0 else 'fewer'}"


def _format_change(name: str, change: dict) -> str:
    percent = METRICS[name].percent
    low, high = (format_value(change[bound], percent) for bound in ("low", "high"))
    return f"{'+' if change['value'] > 0 else ''}{format_value(change['value'], percent)} ({low} to {high})"
