"""Sentences about a verdict that need no statistics, and claim no more than holds for the limits of its detector."""

from typing import TYPE_CHECKING

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from eval.explain.bands import format_frequency_band
from eval.explain.comb import Comb
from eval.explain.parts import PART_WORDS
from eval.verdict.decide import Judgement, Reason
from pipeline.features.settings import base_kind, is_overview_kind
from train.model.calibration import UNSURE, WRONG_SHARE
from train.model.detector import Detector
from train.model.experts import SURE_WRONG_SHARE

if TYPE_CHECKING:
    from eval.explain.occlusion import Explanation  # loads PyTorch
    from eval.verdict.examine import Examined

TITLES = dict(zip((*CLASS_NAMES, UNSURE), ("Looks like a photograph", "Looks generated", "Unsure"), strict=True))
_CLASS_WORDS = dict(zip(CLASS_NAMES, ("photograph", "generated picture"), strict=True))
_REASON_WORDS = {
    Reason.IN_BAND: "in the band",
    Reason.FLIPS: "flips under {flips}",
    Reason.FRAMES_DISAGREE: "frames contradict each other",
    Reason.MAY_BE_DAMAGED: "large areas of one value, perhaps damage",
    Reason.SMALL: "smaller than the training pictures",
    Reason.BLANK: "hardly any contrast",
    Reason.GREY: "hardly any colour",
    Reason.FAR: "unlike the training pictures",
    Reason.CONTRADICTED: "experts contradict each other",
    Reason.UNTRIED: "not tried on other sources",
}
_UNLIKE_WORDS = {
    Reason.SMALL: "The picture is smaller than the pictures that the detector was trained on.",
    Reason.BLANK: "The picture has hardly any contrast, so there is hardly anything to judge.",
    Reason.GREY: "The picture has hardly any colour, and a part of the detector reads colours.",
    Reason.FAR: "The spectra of the picture are unlike those of the pictures that the detector was trained on.",
    Reason.CONTRADICTED: "Light and colours of the picture speak for one class, its regular patterns for the other.",
    Reason.UNTRIED: "All training pictures of a class came from one source, so the detector could not be tried on "
    "pictures from other sources.",
}
_KIND_WORDS = {"magnitude": "strength of patterns", "phase": "place of patterns", "dct": "patterns by cosine"}
CAUTION = (
    "A verdict is not proof. It holds for pictures like those that the detector was trained and tested on; "
    "its report measures how often it is wrong there."
)
DECLARED_NOTE = (
    "Declared, not verified: anybody can write or remove this. It has no part in the score; "
    "signatures were not checked."
)

_LITTLE = 0.05  # share of the log-odds below which a part is not mentioned


def format_reason(judgement: Judgement) -> str | None:
    """Format why a verdict is "unsure", in a few words; None where it is not."""
    if judgement.reason is None:
        return None
    words = _REASON_WORDS[judgement.reason].format(flips=", ".join(judgement.flips))
    return f"{words} after {', '.join(judgement.unlike_after)}" if judgement.unlike_after else words


def format_verdict(judgement: Judgement, detector: Detector) -> str:
    """Format the reason of a verdict, in one to three sentences."""
    if judgement.reason in _UNLIKE_WORDS:
        return _format_unlike(judgement)
    if judgement.reason is Reason.FLIPS:
        side = _CLASS_WORDS[CLASS_NAMES[int(detector.calibration.is_fake(judgement.probability_fake))]]
        return (
            f"The picture as it is looks more like a {side}, but after {', '.join(judgement.flips)} the same picture "
            "falls on the other side. A change so small must not decide."
        )
    if judgement.reason is Reason.MAY_BE_DAMAGED:
        return (
            "Large areas of the picture have exactly one value. A damaged file looks so too, and files of this format "
            "do not show whether they are damaged."
        )
    if judgement.reason is Reason.FRAMES_DISAGREE:
        return "Too many frames of the clip surely say the opposite of the clip as a whole."
    if detector.experts is not None:
        return _format_of_experts(judgement, detector)
    if judgement.reason is Reason.IN_BAND:
        return (
            "The score lies between the limits of “unsure”. "
            f"Beyond each limit lie at most {100 * WRONG_SHARE:.0f} of 100 validation pictures of the other class."
        )
    if detector.calibration.low == detector.calibration.high:
        return "The detector mixed up so few validation pictures that it has no range of doubt."
    other = next(words for name, words in _CLASS_WORDS.items() if name != judgement.verdict)
    return f"At most {100 * WRONG_SHARE:.0f} of 100 {other}s among the validation pictures had such a score."


def _format_unlike(judgement: Judgement) -> str:
    words = _UNLIKE_WORDS[judgement.reason]
    if judgement.unlike_after:
        words = f"After {', '.join(judgement.unlike_after)}: {words}"
    return f"{words} How far its score can be trusted is not known."


def _format_of_experts(judgement: Judgement, detector: Detector) -> str:
    """Format a score's place relative to the limits, which are fitted on sources that were left out."""
    most = f"{100 * SURE_WRONG_SHARE:.0f} of 100"
    if detector.experts.network_weight:
        beyond = "between" if judgement.reason is Reason.IN_BAND else "beyond"
        return (
            f"The score lies {beyond} the limits of “unsure”. These limits were fitted for the experts of the detector "
            "without its network, so the share of wrong verdicts beyond them is known only from the report."
        )
    side = int(detector.calibration.is_fake(judgement.probability_fake))
    called, other = (f"{_CLASS_WORDS[CLASS_NAMES[number]]}s" for number in (side, 1 - side))
    tried = "The detector was tried on sources that were left out of its training, each counted alike."
    if judgement.reason is None:
        return f"{tried} Of the pictures with a score beyond the same limit at most {most} were {other}."
    if (detector.calibration.low, 1 - detector.calibration.high)[side] == 0:
        return f"{tried} No limit was found beyond which at most {most} of the supposed {called} were {other}."
    return f"{tried} Of the supposed {called} with such a score or a surer one more than {most} were {other}."


def format_kind(kind: str, estimator: str) -> str:
    """Format the name of a kind of planes; `estimator` is that of the run's features."""
    what = base_kind(kind)
    # Averaged planes hold the coherency in place of the phase.
    words = "agreement of the colours" if what == "phase" and estimator == "averaged" else _KIND_WORDS[what]
    return f"{words} in the overview" if is_overview_kind(kind) else words


def summarise_examined(examined: "Examined") -> list[str]:
    """Summarise what decided: the experts' parts, their strongest comb, and the network's bands and planes."""
    sentences = summarise_parts(examined.judgement.parts)
    if examined.comb is not None and not examined.judgement.is_unlike:
        sentences.append(format_comb(examined.comb))
    if examined.explanation is not None:
        of_network = "Network: " if examined.judgement.parts else ""
        found = summarise_explanation(examined.explanation, examined.estimator)
        sentences += [f"{of_network}{sentence}" for sentence in found]
    return sentences


def summarise_parts(parts: dict[str, float]) -> list[str]:
    """Summarise which part of the detector favoured each class most; empty where none did."""
    sentences = []
    least = _LITTLE * max(map(abs, parts.values()), default=0)
    for sign, words in ((1, "generated"), (-1, "a photograph")):
        most = max(parts, key=lambda name: sign * parts[name], default=None)
        if most is not None and sign * parts[most] > least:
            sentences.append(f"Most for “{words}”: {PART_WORDS[most]} ({parts[most]:+.2f} log-odds).")
    return sentences


def format_comb(comb: Comb) -> str:
    """Format how far the strongest comb stands out from those of photographs."""
    found = f"{comb.period:.1f} pixels, {comb.strength:.1f} standard deviations above the mean of photographs"
    if comb.stands_out:
        return f"A periodic grid stands out in its spectrum: a period of {found}."
    return f"No periodic grid stands out in its spectrum (the strongest: {found})."


def summarise_explanation(explanation: "Explanation", estimator: str) -> list[str]:
    """Summarise which band favoured each class most, and which planes counted most; empty where none did."""
    sentences = []
    edges = explanation.edges
    least = _LITTLE * max(abs(explanation.log_odds), np.abs(explanation.bands).max(), 1e-6)
    for sign, words in ((1, "generated"), (-1, "a photograph")):
        number = int(np.argmax(sign * explanation.bands))
        if sign * explanation.bands[number] > least:
            sentences.append(f"Most for “{words}” spoke {format_frequency_band(edges[number], edges[number + 1])}.")
    kinds = {name: value for name, value in explanation.kinds.items() if abs(value) > least}
    if len(explanation.kinds) > 1 and kinds:
        most = max(kinds, key=lambda name: abs(kinds[name]))
        side = "generated" if kinds[most] > 0 else "a photograph"
        sentences.append(f"Of the kinds of planes the {format_kind(most, estimator)} counted most, for “{side}”.")
    return sentences
