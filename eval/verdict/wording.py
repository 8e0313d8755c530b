"""Sentences about a verdict for people without statistics; they claim no more than the detector's limits support."""

from typing import TYPE_CHECKING

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from eval.explain.bands import format_frequency_band
from eval.explain.comb import Comb
from eval.explain.parts import PART_WORDS
from eval.explain.reasons import REASON_WORDS
from eval.verdict.decide import Judgement, Reason
from eval.verdict.levels import LEAST_LEVELS
from pipeline.features.profile_vectors import LARGE, LARGE_TO
from pipeline.features.settings import base_kind, is_overview_kind
from train.model.calibration import UNSURE, WRONG_SHARE
from train.model.detector import NETWORK_PART, Detector
from train.model.experts import SURE_WRONG_SHARE, explain_always_unsure
from train.run.folder import Run
from train.run.locate import format_starter_tests, is_starter

if TYPE_CHECKING:
    from eval.explain.occlusion import Explanation  # loads PyTorch
    from eval.verdict.examine import Examined

TITLES = dict(
    zip((*CLASS_NAMES, UNSURE), ("Real: probably a photograph", "Fake: probably generated", "Unsure"), strict=True)
)
_CLASS_WORDS = dict(zip(CLASS_NAMES, ("photograph", "generated picture"), strict=True))
_UNLIKE_WORDS = {
    Reason.SMALL: "A side of the picture is shorter than in the pictures that the detector was trained on.",
    Reason.BLANK: "The picture has hardly any contrast, so there is hardly anything to judge.",
    Reason.GREY: "The detector reads colours, and the picture has too little of them: hardly any, a single tint, or "
    "large grey areas.",
    Reason.FEW_LEVELS: f"Fewer than {LEAST_LEVELS} levels of each colour hold nearly all of the picture: it is very "
    "dark, or posterised.",
    Reason.FAR: "The spectra of the picture are unlike those of the pictures that the detector was trained on.",
    Reason.CONTRADICTED: "Light and colours of the picture indicate one class, and its regular patterns indicate the "
    "other.",
    Reason.UNTRIED: "All training pictures of a class came from one source (sources that share near-duplicates count "
    "as one), so the detector could not be tested on pictures from other sources.",
    Reason.UNPROVEN: "The tests of the detector allow no sure verdict.",
}
_KIND_WORDS = {"magnitude": "strength of patterns", "phase": "position of patterns", "dct": "cosine patterns"}
_CAUTION = (
    "A verdict is not proof. It is valid for pictures like those that the detector was trained and tested on; "
    "on others it is wrong more often."
)
DECLARED_NOTE = (
    "Declared, not verified: anybody can write or remove this. It does not affect the score; "
    "signatures were not checked."
)

UNSURE_AFTER_NOTE = (
    "would be unsure after: the verdict is on the file as it is, and a copy with this small change would be unsure; "
    "such a verdict is weaker than one without an entry here. JPEG 90: saved as JPEG of quality 90; crop to 90%: cut "
    "to nine tenths of width and height"
)
SCORE_NOTE = "This is not a probability, because the detector passed no test on such pictures."

_LITTLE = 0.1  # share of the log-odds up to which a part is not mentioned


def format_caution(run: Run) -> str:
    """Format how reliable the verdicts of a run are."""
    if not is_starter(run):
        return _CAUTION
    tests = format_starter_tests()
    return f"{_CAUTION} This is the starter run: {tests}."


def format_reason(judgement: Judgement) -> str | None:
    """Format why a verdict is "unsure", in a few words; None if it is sure."""
    if judgement.reason is None:
        return None
    words = REASON_WORDS[judgement.reason].format(flips=", ".join(judgement.flips))
    if judgement.least_side is not None:
        words = f"{words} (needs {judgement.least_side} px)"
    return f"{words} after {', '.join(judgement.unlike_after)}" if judgement.unlike_after else words


def format_verdict(judgement: Judgement, detector: Detector) -> str:
    """Format why a verdict was given, in one to four sentences; first, the checks after which it would be "unsure"."""
    return f"{_format_unsure_after(judgement)}{_format_why(judgement, detector)}"


def _format_unsure_after(judgement: Judgement) -> str:
    if not judgement.unsure_after:
        return ""
    return (
        f"The verdict is on the file as it is. After {' or '.join(judgement.unsure_after)}, it would be “unsure”: "
        "it is weaker than a verdict that no such change moves. "
    )


def _format_why(judgement: Judgement, detector: Detector) -> str:
    if judgement.reason in _UNLIKE_WORDS:
        return _format_unlike(judgement)
    if judgement.reason is Reason.FLIPS:
        is_fake = int(detector.calibration.is_fake(judgement.probability_fake))
        return (
            f"The score of the unchanged picture indicates “{CLASS_NAMES[is_fake]}”, but after "
            f"{', '.join(judgement.flips)} it indicates “{CLASS_NAMES[1 - is_fake]}”. A verdict must not depend on so "
            "small a change."
        )
    if judgement.reason is Reason.MAY_BE_DAMAGED:
        return (
            "Large areas of the picture have exactly one value. Damage can cause this, and a file of this format does "
            "not show whether it is damaged."
        )
    if judgement.reason is Reason.FRAMES_DISAGREE:
        return "More than a quarter of the frames have the verdict opposite to that of the whole clip."
    if detector.experts is not None:
        return _format_of_experts(judgement, detector)
    if judgement.reason is Reason.IN_BAND:
        return (
            "The score is not clear enough. A verdict needs a score that at most "
            f"{100 * WRONG_SHARE:.0f} of 100 validation pictures of the other class had."
        )
    if detector.calibration.low == detector.calibration.high:
        return "The detector confused so few validation pictures that it calls no score unsure."
    other = next(words for name, words in _CLASS_WORDS.items() if name != judgement.verdict)
    return f"At most {100 * WRONG_SHARE:.0f} of 100 {other}s among the validation pictures had such a score."


def _format_unlike(judgement: Judgement) -> str:
    words = _UNLIKE_WORDS[judgement.reason]
    if judgement.least_side is not None:
        words = f"{words} Both sides need at least {judgement.least_side} pixels."
    if judgement.unlike_after:
        words = f"After {', '.join(judgement.unlike_after)}: {words[0].lower()}{words[1:]}"
    return words if judgement.reason is Reason.UNPROVEN else f"{words} So the verdict is “unsure”."


def _format_of_experts(judgement: Judgement, detector: Detector) -> str:
    """Format how a score compares with the limits, which were fitted on sources left out of training."""
    most = f"{100 * SURE_WRONG_SHARE:.0f} of 100"
    if detector.experts.network_weight:
        clear = "not clear enough" if judgement.reason is Reason.IN_BAND else "clear enough"
        return (
            f"The score is {clear} by limits that were fitted without the detector's network. Only the report shows "
            "how often a verdict beyond these limits is wrong."
        )
    calibration = detector.calibration
    side = int(calibration.is_fake(judgement.probability_fake))
    if (calibration.low <= 0, calibration.high >= 1)[side]:
        return "The score is not clear enough."  # `format_never` gives the reason
    limit = (calibration.low, calibration.high)[side]
    shown = f"{limit:.1%}"
    if shown == f"{judgement.probability_fake:.1%}":
        shown = f"{limit:.2%}"
    says = (
        f"says “{CLASS_NAMES[side]}” only if the probability that the picture is fake is {shown} or "
        f"{('less', 'more')[side]}"
    )
    if judgement.reason is not None:
        return f"The score is not clear enough: the detector {says}."
    return (
        f"The detector {says}. This limit was chosen so that at most {most} such verdicts were wrong on the sources "
        "used to choose it. On other pictures, more are wrong."
    )


def format_never(detector: Detector) -> str | None:
    """Format which sure verdict a detector never gives, and why; None if it gives both."""
    calibration = detector.calibration
    if why := explain_always_unsure(calibration, detector.experts):
        return f"this detector is always unsure: {why}"
    words = [
        f"“{name}”"
        for name, ends in zip(CLASS_NAMES, (calibration.low <= 0, calibration.high >= 1), strict=True)
        if ends
    ]
    if not words:
        return None
    [never] = words
    return (
        f"this detector never says {never}: in its tests too many {never} verdicts were wrong, "
        "or there were too few pictures to know"
    )


def format_kind(kind: str, estimator: str) -> str:
    """Format the name of a kind of planes; `estimator` is that of the run's features."""
    what = base_kind(kind)
    # Averaged planes hold the coherency in place of the phase.
    words = "agreement of the colours" if what == "phase" and estimator == "averaged" else _KIND_WORDS[what]
    return f"{words} in the overview" if is_overview_kind(kind) else words


def summarise_examined(examined: "Examined") -> list[str]:
    """Summarise what decided: the experts' parts, a strong comb, and the network's bands and planes.

    Empty if training had no pictures of this kind, because the parts of the score then have no known meaning. If the
    detector passed no test, only the comb, which is compared with photographs alone.
    """
    if examined.judgement.is_of_other_kind:
        return []
    is_untested = examined.judgement.reason in (Reason.UNTRIED, Reason.UNPROVEN)
    sentences = [] if is_untested else summarise_parts(examined.judgement.parts, examined.has_grid)
    if examined.has_grid:
        sentences.append(format_comb(examined.comb, max(examined.picture.size) > LARGE))
    if examined.explanation is None or is_untested:
        return sentences
    found, parts = summarise_explanation(examined.explanation, examined.estimator), examined.judgement.parts
    if not parts:
        return sentences + found
    if abs(parts[NETWORK_PART]) <= _LITTLE * max(map(abs, parts.values())):
        return sentences  # the network hardly changed the score
    return sentences + [f"Network: {sentence[0].lower()}{sentence[1:]}" for sentence in found]


def summarise_parts(parts: dict[str, float], has_grid: bool) -> list[str]:
    """Summarise which part of the detector favoured each class most; empty if none did.

    Parameters
    ----------
    has_grid : bool, as in `Examined`
    """
    sentences = []
    least = _LITTLE * max(map(abs, parts.values()), default=0)
    for sign, name in ((1, "fake"), (-1, "real")):
        most = max(parts, key=lambda name: sign * parts[name], default=None)
        if most is not None and sign * parts[most] > least:
            sentences.append(f"Strongest sign of “{name}”: {_format_sign(most, sign, has_grid)}.")
    return sentences


def _format_sign(part: str, sign: int, has_grid: bool) -> str:
    """Format what a part of the detector found; the expert for grids also reads weak grids and periods."""
    if part != "comb":
        return PART_WORDS[part]
    if sign > 0:
        return "periodic grid" if has_grid else "weak periodic grids"
    return "period of the grid" if has_grid else "no strong periodic grid"


def format_map_title(examined: "Examined") -> str:
    """Format what the map of peaks in the spectrum shows, in a few words."""
    if examined.has_grid:
        comb = examined.comb
        return f"rings: a grid of {comb.period:.1f} pixels, {comb.strength:.1f} standard deviations above photographs"
    if examined.judgement.is_of_other_kind:
        return "not compared with photographs"
    return "no strong periodic grid"


def format_comb(comb: Comb, was_shrunk: bool) -> str:
    """Format what a strong comb shows; `was_shrunk`: it was found in a smaller copy."""
    shrunk = f" The picture was shrunk to {LARGE_TO} pixels first." if was_shrunk else ""
    return f"The spectrum has a periodic grid of {comb.period:.1f} pixels, stronger than in most photographs.{shrunk}"


def summarise_explanation(explanation: "Explanation", estimator: str) -> list[str]:
    """Summarise which band favoured each class most, and which planes counted most; empty if none did."""
    sentences = []
    edges = explanation.edges
    least = _LITTLE * max(abs(explanation.log_odds), np.abs(explanation.bands).max(), 1e-6)
    for sign, name in ((1, "fake"), (-1, "real")):
        number = int(np.argmax(sign * explanation.bands))
        if sign * explanation.bands[number] > least:
            sentences.append(f"Strongest sign of “{name}”: {format_frequency_band(edges[number], edges[number + 1])}.")
    kinds = {name: value for name, value in explanation.kinds.items() if abs(value) > least}
    if len(explanation.kinds) > 1 and kinds:
        most = max(kinds, key=lambda name: abs(kinds[name]))
        side = CLASS_NAMES[int(kinds[most] > 0)]
        sentences.append(f"Kind of plane that counted most: {format_kind(most, estimator)}, as a sign of “{side}”.")
    return sentences
