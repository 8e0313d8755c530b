"""The figures of a report, or of a comparison of runs, in words that need no statistics.

The words never claim more than the intervals bear: "clearly" means that the whole interval is
on one side.
"""

from eval.explain.bands import name_band
from eval.report.format import format_value
from eval.scores.metrics import METRICS

# Below so many pictures of a class the summary warns of the small number.
FEW_PICTURES = 30

# From this share of wrong verdicts on a class on, the detector calls everything by the other class's name.
_BLIND = 0.9
_GUESSING = 0.5  # AUROC of a detector that knows nothing


def summarise(report: dict) -> list[str]:
    """The report's message, most important sentence first, from its figures (see `report.json`)."""
    headline = report["scopes"][report["headline"]]
    sentences = [_tell_mistakes(headline["scores"]), _tell_ranking(headline["scores"]["auroc"])]
    sentences += _tell_shortcuts(headline["scores"]["auroc"], report["shortcuts"])
    sentences += _tell_swap(report["swap"])
    sentences += _tell_sources(report["sources"][report["headline"]])
    sentences += _tell_conditions(report["conditions"])
    sentences += _tell_abstention(report["abstention"])
    sentences += _tell_deciding(report["deciding"], headline["scores"]["auroc"])
    fewest = min(headline["samples_by_class"].values())
    if fewest < FEW_PICTURES:
        sentences.append(f"Mind the small number: one class has only {_count(fewest, 'test picture')}.")
    return sentences


def summarise_comparison(comparison: dict) -> list[str]:
    """The comparison's message, from its figures (see `comparison.json`)."""
    sentences = [_tell_difference(one) for one in comparison["differences"]]
    for one in comparison["differences"]:
        real = [name for name in METRICS if name != "auroc" and one["scores"][name]["real"]]
        if real:
            listed = ", ".join(f"{METRICS[name].title} {_write_change(name, one['scores'][name])}" for name in real)
            also = " too" if one["scores"]["auroc"]["real"] else ""
            sentences.append(f"Real{also}, {one['first']} less {one['second']}: {listed}.")
        else:
            sentences.append(f"No other difference between {one['first']} and {one['second']} is clear.")
    if len(comparison["differences"]) > 1:
        sentences.append(
            f"With {len(comparison['differences'])} pairs of runs the intervals of the differences are wider, so that "
            "all of them together are right in 95 of 100 such comparisons."
        )
    fewest = min(comparison["samples_by_class"].values())
    if fewest < FEW_PICTURES:
        sentences.append(f"Mind the small number: one class has only {_count(fewest, 'picture')}.")
    return sentences


def _tell_mistakes(scores: dict) -> str:
    alarms, misses = scores["false_positive_rate"], scores["false_negative_rate"]
    return (
        f"Of 100 photographs it would call {_of_hundred(alarms)} generated; "
        f"of 100 generated pictures it would miss {_of_hundred(misses)}."
    )


def _tell_ranking(auroc: dict) -> str:
    sentence = (
        "Shown a photograph and a generated picture, it finds the generated one in "
        f"{_of_hundred(auroc)} of 100 such pairs; guessing finds 50."
    )
    if auroc["low"] is None:
        return f"{sentence} Too few pictures to say whether that is better than guessing."
    if auroc["high"] < _GUESSING:
        return f"{sentence} That is clearly worse than guessing: on these pictures it is misled."
    if auroc["low"] <= _GUESSING:
        return f"{sentence} That is not clearly better than guessing."
    return sentence


def _tell_shortcuts(auroc: dict, baseline: dict) -> list[str]:
    if "reason" in baseline:
        return [
            f"Whether file format, size and JPEG quality alone would do as well is not known: {baseline['reason']}."
        ]
    alone, lead = baseline["shortcuts"][0]["auroc"], baseline["lead"]
    sentence = (
        "File format, size, bytes per pixel and JPEG quality alone, without a look at the picture, "
        f"find it in {_of_hundred(alone)} of 100."
    )
    if lead["low"] is None:
        return [f"{sentence} Too few pictures to compare the two."]
    if lead["low"] > 0:
        return [f"{sentence} The network is clearly better than that."]
    if lead["high"] < 0:
        return [
            f"{sentence} That is clearly more than the network finds: "
            "how these pictures were collected gives them away."
        ]
    if auroc["low"] is not None and auroc["low"] > _GUESSING:
        return [
            f"{sentence} The network is not clearly better, so its score is no proof that it knows "
            "generated pictures by anything else."
        ]
    return [f"{sentence} The network is not clearly better than that."]


def _tell_conditions(conditions: list[dict]) -> list[str]:
    """The conditions under which verdicts change most, and those that turn everything into one class."""
    changed = [one for one in conditions if one["flip_rate"]]
    if not changed:
        return []
    worst = max(changed, key=lambda one: one["flip_rate"]["value"])
    sentences = [
        f"What is done to a picture changes verdicts: most of all {worst['condition']}, which changes "
        f"{_of_hundred(worst['flip_rate'])} of 100."
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


def _tell_swap(swap: dict) -> list[str]:
    if "reason" in swap:
        return []
    auroc = swap["scores"]["auroc"]
    before, after, drop = auroc["as_they_are"], auroc["saved_alike"], auroc["drop"]
    if before["low"] is not None and before["low"] <= _GUESSING:
        return []  # there was nothing to lose
    sentence = (
        "Once both classes are saved alike as JPEG, so that the file no longer tells how it was kept, it finds the "
        f"generated one in {_of_hundred(after)} of 100 pairs; before, in {100 * before['value']:.0f}."
    )
    if drop["low"] is None:
        return [f"{sentence} Too few pictures to say whether that is less."]
    if drop["low"] > 0:
        return [f"{sentence} What is lost was no evidence of a generator that lasts."]
    return [f"{sentence} No clear loss."]


def _tell_sources(sources: list[dict]) -> list[str]:
    """The generator that is found least and the photographs that raise most alarms, where there are several."""
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
            share = worst["accuracy"] if label == "fake" else _turn_round(worst["accuracy"])
            sentences.append(words.format(source=worst["source"], count=_of_hundred(share)))
    return sentences


def _turn_round(share: dict) -> dict:
    """One less a share, with its bounds."""
    low, high = share["low"], share["high"]
    return {
        "value": 1 - share["value"],
        "low": None if high is None else 1 - high,
        "high": None if low is None else 1 - low,
    }


def _tell_abstention(abstention: dict) -> list[str]:
    unsure, mistakes = abstention["unsure"], abstention["mistakes_when_judged"]
    if not unsure["value"]:
        return []
    sentence = f"It says “unsure” of {_of_hundred(unsure)} of 100 pictures"
    if mistakes["value"] is None:
        return [f"{sentence}, which is all of them."]
    return [f"{sentence}; of those that it does judge {_of_hundred(mistakes)} of 100 are wrong."]


def _tell_deciding(deciding: dict, auroc: dict) -> list[str]:
    if "reason" in deciding or (auroc["low"] is not None and auroc["low"] <= _GUESSING):
        return []
    most = max(deciding["bands"], key=lambda band: band["auroc_drop"]["value"])
    drop = most["auroc_drop"]
    if drop["low"] is None or drop["low"] <= 0:
        return ["No single band of frequencies decides: without any one of them it does about as well."]
    return [
        f"It goes most by {name_band(most['low'], most['high'])}: without them it finds the generated one in "
        f"{100 * drop['value']:.0f} fewer of 100 pairs (95% interval {100 * drop['low']:.0f} to "
        f"{100 * drop['high']:.0f})."
    ]


def _of_hundred(estimate: dict) -> str:
    text = f"{100 * estimate['value']:.0f}"
    if estimate["low"] is None or estimate["low"] == estimate["high"]:
        return text
    return f"{text} (95% interval {100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _tell_difference(one: dict) -> str:
    first, second, lead = one["first"], one["second"], one["scores"]["auroc"]
    if lead["low"] is None:
        return f"Too few pictures to say which of {first} and {second} tells generated pictures better."
    interval = f"{_write_lead(lead['low'])} to {_write_lead(lead['high'])}"
    if not lead["real"]:
        return (
            f"Whether {first} or {second} tells generated pictures better is not clear: of 100 pairs of a photograph "
            f"and a generated picture {first} finds {_write_lead(lead['value'])} (interval {interval})."
        )
    better, worse = (first, second) if lead["value"] > 0 else (second, first)
    return (
        f"{better} tells generated pictures better than {worse}: of 100 pairs of a photograph and a generated picture "
        f"{first} finds {_write_lead(lead['value'])} (interval {interval}). That difference is real."
    )


def _write_lead(lead: float) -> str:
    return f"{abs(100 * lead):.1f} {'more' if lead >= 0 else 'fewer'}"


def _write_change(name: str, change: dict) -> str:
    percent = METRICS[name].percent
    low, high = (format_value(change[bound], percent) for bound in ("low", "high"))
    return f"{'+' if change['value'] > 0 else ''}{format_value(change['value'], percent)} ({low} to {high})"
