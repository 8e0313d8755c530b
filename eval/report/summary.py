"""Summary of a report, or of a comparison of runs, in sentences that need no statistics.

No sentence claims more than the intervals support: "clearly" means that the whole interval is on one side.
"""

from collections.abc import Callable

from data_cards.audit.cross_validation import GUESSING
from data_cards.audit.file_baseline import ALL
from data_cards.core.labels import CLASS_NAMES, SPLITS
from eval.explain.bands import format_frequency_band
from eval.explain.parts import PART_WORDS
from eval.report.format import INTERVAL, format_value
from eval.report.run_groups import SEED_OPTION
from eval.scores.bootstrap import LEVEL
from eval.scores.metrics import METRICS, OF_ORDER
from eval.settings import HELD_OUT
from train.model.detector import NETWORK_PART
from train.recipe.experts import ENOUGH_SOURCES, format_few_sources

FEW_PICTURES = 30  # of a class; with fewer the summary warns
_LEAST_PICTURES = 10  # of a source; with fewer it is not compared with other sources

_CLASSES = dict(zip(CLASS_NAMES, ("photographs", "generated pictures"), strict=True))
_SPLITS = dict(zip((*SPLITS, HELD_OUT), ("training", "validation", "test", "held-out"), strict=True))
_WHY_UNSURE = {  # by the names of `REASON_WORDS`, of several pictures
    "in_band": "the score is not clear enough",
    "small": "they are smaller than the training pictures",
    "blank": "they have hardly any contrast",
    "grey": "they have too little colour",
    "far": "they are unlike the training pictures",
    "contradicted": "its experts contradict each other",
    "untried": "it could not be tested on other sources",
    "unproven": "its tests were too small, or did not separate the classes",
}
_OF_SCORES = ("in_band", "unproven")  # reasons that more sources in training would remove
_MOST_NAMES = 3  # of sources or changes that tie
_FEW_RUNS = 2  # runs of one name; the interval that includes their luck of training is then very wide
_BLIND = 0.9  # share of a class on the wrong side of the threshold, from which on a verdict means nothing


def summarise(report: dict) -> list[str]:
    """Summarise the contents of `report.json`, most important sentence first."""
    headline = report["scopes"][report["headline"]]
    auroc = headline["scores"]["auroc"]
    has_unsure = bool(report["abstention"]["unsure"]["value"])
    sentences = [
        _format_abstention(report) if has_unsure else "",
        _format_single_sources(report),
        _format_mistakes(headline["scores"], has_unsure),
        _format_ranking(auroc),
        _format_file_baseline(auroc, report["shortcuts"]),
        _format_jpeg_swap(report["swap"]),
        *_summarise_sources(report["sources"][report["headline"]], has_unsure),
        *_summarise_conditions(report["conditions"]),
        # With experts, the bands describe the network's share alone; the sentence on the experts says what decides.
        _format_deciding_band(report["deciding"], auroc) if "reason" in report["experts"] else "",
        _format_deciding_part(report["experts"], auroc),
        _format_small_number(headline["samples_by_class"], f"{_SPLITS[report['split']]} picture"),
    ]
    return [sentence for sentence in sentences if sentence]


def summarise_comparison(comparison: dict) -> list[str]:
    """Summarise the contents of `comparison.json`, the result for each pair first."""
    differences, level = comparison["differences"], comparison["intervals"]["level_of_differences"]
    sentences = [_format_difference(one, level) for one in differences]
    if any(not one["holds_training"] for one in differences):
        sentences.append(
            "To include the luck of training, train at least three runs of each kind, with different --seed, and give "
            "them one name: report --run old=runs/001 --run old=runs/002 ... --run new=runs/004 ..."
        )
    sentences += [_format_other_differences(one) for one in differences]
    if len(differences) > 1:
        sentences.append(
            f"With {len(differences)} pairs the intervals are wider, so that all of them together hold in "
            f"{100 * LEVEL:.0f} of 100 such comparisons."
        )
    few = _format_small_number(comparison["samples_by_class"], "picture")
    return [*sentences, few] if few else sentences


def _format_abstention(report: dict) -> str:
    abstention = report["abstention"]
    unsure, mistakes = abstention["unsure"], abstention["mistakes_when_judged"]
    if mistakes["value"] is None:
        return f"The detector says “unsure” for every picture{_format_why_all_unsure(report)}."
    few = mistakes["low"] is None or mistakes["low"] == mistakes["high"]  # an interval cannot be given
    caution = "; there are too few of them to rely on this" if few else ""
    return (
        f"The detector says “unsure” for {_format_of_hundred(unsure)} of 100 pictures. "
        f"Of 100 sure verdicts, {_format_of_hundred(mistakes)} are wrong{caution}."
    )


def _format_why_all_unsure(report: dict) -> str:
    """Format the most frequent reason of "unsure", and whether it applies to all pictures, to most or to fewer."""
    reasons = report["abstention"]["unsure_by_reason"]
    most = max(reasons, key=reasons.get, default=None)
    if most not in _WHY_UNSURE:
        return ""
    total = sum(reasons.values())
    share = "" if reasons[most] == total else "mostly " if 2 * reasons[most] > total else "most often "
    return f", {share}because {_WHY_UNSURE[most]}{_format_few_sources(report) if most in _OF_SCORES else ''}"


def _format_few_sources(report: dict) -> str:
    """Format that few sources in training make more verdicts unsure; empty if there were enough."""
    few = format_few_sources(report["training_sources"] or {})
    if few is None or "reason" in report["experts"]:
        return ""
    return f". Training had {few}; with fewer than {ENOUGH_SOURCES}, a verdict needs a clearer score"


def _format_single_sources(report: dict) -> str:
    """Warn if all training pictures of a class came from one source, and say what to do; else empty."""
    sources = report["training_sources"]
    alone = [_CLASSES[name] for name, count in (sources or {}).items() if count == 1]
    if not alone:
        return ""
    pictures = f"{alone[0]} in training" if len(alone) == 1 else "training pictures of each class"
    untried = ""
    if "untried" in report["abstention"]["unsure_by_reason"]:
        untried = ". It could not be tested on other sources, so no verdict is sure"
    return (
        f"All {pictures} came from one source (sources that share near-duplicates count as one), so the scores may "
        f"only show that the detector recognises the collection{untried}. Put the pictures of each camera, collection "
        "and generator into a folder of its own, such as train/fake/NAME/, then build the store and train again."
    )


def _format_mistakes(scores: dict, has_unsure: bool) -> str:
    alarms, misses = (_format_of_hundred(scores[name]) for name in ("false_positive_rate", "false_negative_rate"))
    if has_unsure:
        calls, and_misses = "If it had to decide on every picture, it would call", "miss"
    else:
        calls, and_misses = "The detector calls", "misses"
    return f"{calls} {alarms} of 100 photographs generated, and {and_misses} {misses} of 100 generated pictures."


def _format_ranking(auroc: dict) -> str:
    sentence = (
        "Shown a photograph and a generated picture, it finds the generated one in "
        f"{_format_of_hundred(auroc)} of 100 such pairs; guessing finds 50."
    )
    if auroc["low"] is None:
        return f"{sentence} There are too few pictures to say whether that is better than guessing."
    if auroc["high"] < GUESSING:
        return f"{sentence} That is clearly worse than guessing: these pictures mislead it."
    if auroc["low"] <= GUESSING:
        return f"{sentence} That is not clearly better than guessing."
    return sentence


def _format_file_baseline(auroc: dict, baseline: dict) -> str:
    if "reason" in baseline:
        return f"It is not known whether file format, size and JPEG quality alone do as well: {baseline['reason']}."
    strongest, lead = baseline["strongest"], baseline["lead"]
    name = strongest["properties"]
    properties = "file format, size, bytes per pixel and JPEG quality" if name == ALL else f"{name} alone"
    sentence = (
        f"A classifier of {properties}, which sees no pixel, finds the generated one in "
        f"{_format_of_hundred(strongest['auroc'])} of 100 pairs."
    )
    if lead["low"] is None:
        return f"{sentence} There are too few pictures to compare the two."
    if lead["low"] > 0:
        if auroc["low"] is not None and auroc["low"] <= GUESSING:
            return f"{sentence} The detector is better than that, but not clearly better than guessing."
        return f"{sentence} The detector is clearly better than that."
    if lead["high"] < 0:
        return (
            f"{sentence} The detector is clearly worse, and a good score on these pictures would not show that a "
            "detector recognises generated ones."
        )
    if auroc["low"] is not None and auroc["low"] > GUESSING:
        return f"{sentence} The detector is not clearly better, so its score does not show that it uses anything else."
    return f"{sentence} The detector is not clearly better than that."


def _format_jpeg_swap(swap: dict) -> str:
    if "reason" in swap:
        return ""
    auroc = swap["scores"]["auroc"]
    before, after, drop = auroc["as_they_are"], auroc["saved_alike"], auroc["drop"]
    if before["low"] is not None and before["low"] <= GUESSING:
        return ""  # there was nothing to lose
    sentence = (
        "After both classes are saved as JPEG in the same way, it finds the generated one in "
        f"{_format_of_hundred(after)} of 100 pairs; before, in {_format_of_hundred(before)}."
    )
    if drop["low"] is None:
        return f"{sentence} There are too few pictures to say whether that is less."
    if drop["low"] > 0:
        return f"{sentence} It used traces that saving removes, or differences between the files of the two classes."
    return f"{sentence} The difference is not clear."


def _summarise_sources(sources: list[dict], has_unsure: bool) -> list[str]:
    """Name the generators found least often and the collections with most false alarms, if the sources differ."""
    sentences = []
    one, several = ("would be", "would be") if has_unsure else ("is", "are")
    fakes, reals = "found least often", "of photographs with most false alarms"
    count = "{source}: {count} of 100 pictures"
    for label, words in (
        ("fake", (f"the generator {fakes} {one} {count}.", f"the generators {fakes} {several} {count} of each.")),
        ("real", (f"the collection {reals} {one} {count}.", f"the collections {reals} {several} {count} of each.")),
    ):
        of_class = [one for one in sources if one["class"] == label]
        own = [one for one in of_class if one["pictures"] >= _LEAST_PICTURES]
        if len(own) < 2:
            continue
        worst = _find_extremes(own, lambda one: -one["accuracy"]["value"])
        if len(worst) == len(own):
            continue
        shares = [one["accuracy"] if label == "fake" else _complement(one["accuracy"]) for one in worst]
        counts = list(dict.fromkeys(_format_of_hundred(share) for share in shares))
        count = counts[0] if len(counts) == 1 else f"{100 * shares[0]['value']:.0f}"
        source = _list_names([one["source"] for one in worst])
        words = words[len(worst) > 1].format(source=source, count=count)
        if len(own) < len(of_class):
            words = f"{words} Sources with fewer than {_LEAST_PICTURES} pictures are left out."
        sentences.append(f"If it had to decide, {words}" if has_unsure else f"{words[0].upper()}{words[1:]}")
    return sentences


def _find_extremes(items: list[dict], key: Callable[[dict], float]) -> list[dict]:
    """Find the items with the highest key; several if they tie."""
    most = max(map(key, items))
    return [one for one in items if key(one) == most]


def _list_names(names: list[str]) -> str:
    """Join names; if there are many, only the first `_MOST_NAMES`, and the number of the others."""
    if len(names) > _MOST_NAMES + 1:
        names = [*names[:_MOST_NAMES], f"{len(names) - _MOST_NAMES} more"]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _complement(share: dict) -> dict:
    """Compute 1 - share, with its bounds."""
    low, high = share["low"], share["high"]
    return {
        "value": 1 - share["value"],
        "low": None if high is None else 1 - high,
        "high": None if low is None else 1 - low,
    }


def _summarise_conditions(conditions: list[dict]) -> list[str]:
    """Name the condition that changes most verdicts, and those under which nearly every picture gets one class."""
    changed = [one for one in conditions if one["flip_rate"]]
    if not changed:
        return []
    worst = _find_extremes(changed, lambda one: one["flip_rate"]["value"])
    if not worst[0]["flip_rate"]["value"]:
        return ["None of the changes to a picture changes a verdict."]
    names, change = _list_names([one["condition"] for one in worst]), "changes" if len(worst) == 1 else "change"
    sentences = [
        f"Of the changes to a picture, {names} {change} most verdicts: "
        f"{_format_of_hundred(worst[0]['flip_rate'])} of 100{' each' if len(worst) > 1 else ''}."
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
            sentences.append(
                f"After {', '.join(blind)} it would call nearly all {whole} {words}: its verdicts mean nothing there."
            )
    return sentences


def _format_deciding_band(deciding: dict, auroc: dict) -> str:
    if "reason" in deciding or (auroc["low"] is not None and auroc["low"] <= GUESSING):
        return ""
    most = _find_most_needed(deciding["bands"])
    if not most:
        return "Leaving out any single band of frequencies makes no clear difference."
    bands = _list_names([format_frequency_band(one["low"], one["high"]) for one in most])
    them = "them" if len(most) == 1 else "one of these bands"
    return f"It relies most on {bands}: without {them} it finds {_format_drop(most[0]['auroc_drop'])}."


def _format_deciding_part(experts: dict, auroc: dict) -> str:
    if "reason" in experts or (auroc["low"] is not None and auroc["low"] <= GUESSING):
        return ""
    most = _find_most_needed(experts["parts"])
    if not most:
        part = "part" if any(one["name"] == NETWORK_PART for one in experts["parts"]) else "expert"
        return f"Leaving out any single {part} makes no clear difference."
    parts = _list_names([_name_part(one["name"]) for one in most])
    it = "it" if len(most) == 1 else "one of these parts"
    return f"It relies most on {parts}: without {it}, it finds {_format_drop(most[0]['auroc_drop'])}."


def _name_part(name: str) -> str:
    return f"its {PART_WORDS[name]}" if name == NETWORK_PART else f"the expert for {PART_WORDS[name]}"


def _find_most_needed(parts: list[dict]) -> list[dict]:
    """Find the parts whose removal lowers the AUROC most; empty if no removal lowers it clearly."""
    clear = [part for part in parts if (part["auroc_drop"]["low"] or 0) > 0]
    return _find_extremes(clear, lambda part: part["auroc_drop"]["value"]) if clear else []


def _format_drop(drop: dict) -> str:
    return f"the generated one in {_format_of_hundred(drop)} fewer of 100 pairs"


def _format_of_hundred(estimate: dict) -> str:
    """Format a share as a number out of 100, with its interval; with one decimal if the interval is narrow."""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    if low is None or low == high:
        return f"{100 * value:.0f}"
    digits = 0 if high - low >= 0.02 and (low <= 0 or low >= 0.005) else 1
    return f"{100 * value:.{digits}f} ({INTERVAL} {100 * low:.{digits}f} to {100 * high:.{digits}f})"


def _format_small_number(samples_by_class: dict[str, int], what: str) -> str:
    fewest, most = sorted(samples_by_class.values())
    if fewest >= FEW_PICTURES:
        return ""
    whose = "each class has" if most == fewest else "one class has"
    other = f", and the other {most}" if fewest < most < FEW_PICTURES else ""
    return f"Caution: {whose} only {fewest} {what}{'' if fewest == 1 else 's'}{other}."


def _format_difference(one: dict, level: float) -> str:
    first, second, lead = one["first"], one["second"], one["scores"]["auroc"]
    if lead["low"] is None:
        return f"There are too few pictures to say whether {first} or {second} finds generated pictures better."
    if one["equal_scores"]:
        why = "" if one["differ_in"] else " The runs have the same settings."
        return f"{first} and {second} give every picture the same score.{why}"
    luck = _format_luck(one)
    if lead["value"] == lead["low"] == lead["high"] == 0:
        found = f"{first} and {second} rank photographs and generated pictures equally well, in every resample"
        return f"{found}.{luck and ' '}{luck}"
    sign = -1 if lead["value"] < 0 else 1
    better, worse = (first, second) if sign == 1 else (second, first)
    value, *bounds = (100 * sign * lead[name] for name in ("value", "low", "high"))
    low, high = sorted(bounds)
    counted = (
        f"of 100 pairs of a photograph and a generated picture, {better} finds {_format_lead(value)} "
        f"({100 * level:.3g}% interval {_format_lead(low) if low < 0 else f'{low:.1f}'} to {_format_lead(high)})"
    )
    if not lead["real"]:
        found = f"It is not clear whether {first} or {second} finds generated pictures better"
    elif one["holds_training"]:
        found = f"{better} finds generated pictures better than {worse}"
    else:
        found = f"On these pictures {better} finds generated pictures better than {worse}"
    return f"{found}: {counted}.{luck and ' '}{luck}"


def _format_luck(one: dict) -> str:
    """Format whether the interval of a difference includes the luck of training."""
    single = one["runs"] == [1, 1]
    if single and not one["differ_in"]:
        return "The two runs have the same settings."
    if single and one["differ_in"] == [SEED_OPTION] and not one["holds_training"]:
        return "The two runs differ in their seed alone, so a difference between them is the luck of training."
    if not one["holds_training"]:
        what = "the luck of training" if single else "all of the luck of training"
        return f"The interval does not include {what}: with other seeds the result may be the opposite."
    if single:
        return ""  # experts alone, which are fitted without chance
    counts = " and ".join(map(str, one["runs"]))
    more = "; more runs would narrow it" if _FEW_RUNS in one["runs"] else ""
    return f"The interval includes the luck of training, estimated from {counts} runs{more}."


def _format_other_differences(one: dict) -> str:
    real = [name for name in METRICS if name != "auroc" and one["scores"][name]["real"]]
    if not real:
        return f"No other score of {one['first']} and {one['second']} clearly differs."
    listed = ", ".join(f"{METRICS[name].title} {_format_change(name, one['scores'][name])}" for name in real)
    left_out = [METRICS[name].title for name in real if name not in OF_ORDER] if one["order_alone"] else []
    luck = (
        f" For {', '.join(left_out)}, the interval leaves out that experts give other probabilities with another seed."
    )
    return f"Other clear differences, {one['first']} minus {one['second']}: {listed}.{luck if left_out else ''}"


def _format_lead(lead: float) -> str:
    return f"{abs(lead):.1f} {'more' if lead >= 0 else 'fewer'}"


def _format_change(name: str, change: dict) -> str:
    percent = METRICS[name].percent
    low, high = (format_value(change[bound], percent) for bound in ("low", "high"))
    return f"{'+' if change['value'] > 0 else ''}{format_value(change['value'], percent)} ({low} to {high})"
