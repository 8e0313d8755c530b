"""Sentences about a verdict that need no statistics, and claim no more than the validation pictures support."""

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from eval.explain.bands import format_frequency_band
from eval.explain.occlusion import Explanation
from eval.verdict.decide import Judgement, Reason
from pipeline.features.settings import base_kind, is_overview_kind
from train.model.calibration import UNSURE, WRONG_SHARE, Calibration

TITLES = dict(zip((*CLASS_NAMES, UNSURE), ("Looks like a photograph", "Looks generated", "Unsure"), strict=True))
_CLASS_WORDS = dict(zip(CLASS_NAMES, ("photograph", "generated picture"), strict=True))
_REASON_WORDS = {
    Reason.IN_BAND: "in the band",
    Reason.FLIPS: "flips under {flips}",
    Reason.FRAMES_DISAGREE: "frames contradict each other",
}
_KIND_WORDS = {"magnitude": "strength of patterns", "phase": "place of patterns", "dct": "patterns by cosine"}
CAUTION = (
    "A verdict is no proof. It holds for pictures like those that the detector was trained and tested on; "
    "how often it is wrong there, its report tells."
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
    return _REASON_WORDS[judgement.reason].format(flips=", ".join(judgement.flips))


def format_verdict(judgement: Judgement, calibration: Calibration) -> str:
    """Format the reason of a verdict, in one or two sentences."""
    if judgement.reason is Reason.IN_BAND:
        return "Its score lies where the detector mixed up both kinds of pictures when it was tried out."
    if judgement.reason is Reason.FLIPS:
        side = _CLASS_WORDS[CLASS_NAMES[int(calibration.is_fake(judgement.probability_fake))]]
        return (
            f"As it is, it looks rather like a {side}, but after {', '.join(judgement.flips)} the same picture falls "
            "on the other side. So little may not decide."
        )
    if judgement.reason is Reason.FRAMES_DISAGREE:
        return "Its frames contradict each other."
    if calibration.low == calibration.high:
        return "When it was tried out the detector mixed up so few pictures that it has no range of doubt."
    other = next(words for name, words in _CLASS_WORDS.items() if name != judgement.verdict)
    return f"When it was tried out at most {100 * WRONG_SHARE:.0f} of 100 {other}s had such a score."


def format_kind(kind: str, estimator: str) -> str:
    """Format the name of a kind of planes; `estimator` is that of the run's features."""
    what = base_kind(kind)
    # Averaged planes hold the coherency in place of the phase.
    words = "agreement of the colours" if what == "phase" and estimator == "averaged" else _KIND_WORDS[what]
    return f"{words} in the overview" if is_overview_kind(kind) else words


def summarise_explanation(explanation: Explanation, estimator: str) -> list[str]:
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
