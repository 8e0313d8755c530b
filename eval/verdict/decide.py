"""The verdict on one picture: its score, then checks against JPEG and cropping.

The experts read the whole picture. The network reads one crop; if its planes are those of a crop of native pixels, and
both sides of the picture are at least two crops long, it reads five fixed crops: in the middle of the picture and of
each quarter. Averaging the logits of the crops averages their log-odds.

The calibration gives the verdict, "unsure" within its band. The verdict is also "unsure" if one of `CHECKS`, applied to
the decoded picture, moves the score across the threshold, or if the picture, or its copy after a check, is unlike the
training pictures (`train.model.experts.Unlike`). A check that moves the score of a sure verdict into the band does not
change the verdict, because that is on the file as it is; `Judgement.unsure_after` names the check. All features come
from `compute_features`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from PIL import Image

from data_cards.core.errors import UserError
from data_cards.image.jpeg import NO_QUALITY
from eval.explain.reasons import INVALID_SCORE
from eval.settings import PredictSettings
from eval.verdict.colours import has_own_colours
from eval.verdict.levels import has_enough_levels
from pipeline.features.extract import compute_features
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, Variant, create_jpeg_variant
from train.model.calibration import UNSURE, Calibration, compute_log_odds
from train.model.detector import Detector, Scores
from train.model.experts import Unlike

# Fixed, so that each verdict on a picture has the same checks. People read these names.
CHECKS = (
    replace(create_jpeg_variant(90), name="JPEG 90"),
    replace(create_jpeg_variant(75), name="JPEG 75"),
    # Not a crop to the middle: if the features are those of a middle crop, its pixels would be the same.
    Variant("crop to 90%", ({"do": "crop-corner", "share": 0.9},), before_fit=True),
)

_JPEG_SIDE = 65_500  # px, the longest side that libjpeg writes


@dataclass(frozen=True)
class Views:
    """Features of one picture, as it is and after each check.

    Attributes
    ----------
    levels : tuple of uint8 (crops, planes, H, W), of the picture, then of each check
    profiles : float32 (1 + checks, 755), in the same order; (1 + checks, 0) without profiles
    checks : tuple of str, names of the checks done, in order; without JPEG if a side is longer than that format allows
    has_colours : bool, False for a grey or toned picture (`eval.verdict.colours`)
    has_levels : bool, False for a very dark or posterised picture (`eval.verdict.levels`)
    """

    levels: tuple[np.ndarray, ...]
    profiles: np.ndarray
    checks: tuple[str, ...] = ()
    has_colours: bool = True
    has_levels: bool = True


class Reason(StrEnum):
    """Why a verdict is "unsure"."""

    IN_BAND = "in_band"  # the score lies in the calibration's band
    FLIPS = "flips"  # a check moves the score across the threshold
    FRAMES_DISAGREE = "frames_disagree"  # too many frames of a clip have the opposite verdict
    MAY_BE_DAMAGED = "may_be_damaged"  # large areas of one value, in a format that hides damage
    # The picture, or its copy after a check, is unlike the training pictures:
    SMALL = "small"  # a side is shorter than in training
    BLANK = "blank"  # hardly any contrast
    GREY = "grey"  # too little colour (`eval.verdict.colours`)
    FEW_LEVELS = "few_levels"  # very dark or posterised (`eval.verdict.levels`)
    FAR = "far"  # its profile is too far from the training profiles
    CONTRADICTED = "contradicted"  # light and colours indicate one class, regular patterns the other
    UNTRIED = "untried"  # a class came from one source, so no source could be left out to test the detector
    UNPROVEN = "unproven"  # the detector's tests do not show that it separates the classes


# The reason of each kind of unlike pictures, which has the same name.
_UNLIKE_REASONS = {one: Reason[one.name] for one in Unlike if one is not Unlike.NOTHING}
_OTHER_KINDS = (Reason.SMALL, Reason.BLANK, Reason.GREY, Reason.FEW_LEVELS, Reason.FAR)


@dataclass(frozen=True)
class Judgement:
    """The verdict on one picture, and the values behind it.

    Attributes
    ----------
    verdict : str, "real", "fake" or "unsure"
    probability_fake : float, calibrated, 0 to 1
    log_odds : float, ln(p / (1 - p)) of that probability, exact even if p rounds to 0 or 1
    reason : Reason or None, why the verdict is "unsure"
    crops : int, number of crops whose logits were averaged
    checks : dict of str to float, the probability after each check
    flips : tuple of str, checks that move the probability across the threshold, if that is the reason
    unlike_after : tuple of str, checks that make the picture unlike the training pictures, if that is the reason
    unsure_after : tuple of str, checks that move the score of a sure verdict into the band of "unsure"
    parts : dict of str to float, what each expert, and the network if the run has one, adds to the log-odds; empty
        without experts
    least_side : int or None, px, that both sides of a picture need; None unless the reason is that one is shorter
    """

    verdict: str
    probability_fake: float
    log_odds: float
    reason: Reason | None = None
    crops: int = 1
    checks: dict[str, float] = field(default_factory=dict)
    flips: tuple[str, ...] = ()
    unlike_after: tuple[str, ...] = ()
    unsure_after: tuple[str, ...] = ()
    parts: dict[str, float] = field(default_factory=dict)
    least_side: int | None = None

    @property
    def is_unlike(self) -> bool:
        """Whether the picture itself is unlike the training pictures."""
        return self.reason in (*_UNLIKE_REASONS.values(), Reason.FEW_LEVELS) and not self.unlike_after

    @property
    def has_valid_score(self) -> bool:
        """Whether the detector was tested on such pictures, so that the score is a probability."""
        return self.reason not in INVALID_SCORE or bool(self.unlike_after)

    @property
    def is_of_other_kind(self) -> bool:
        """Whether training had no pictures of this kind, so that nothing in this one can be compared with them."""
        return self.reason in _OTHER_KINDS and not self.unlike_after


def score_views(
    detector: Detector, views: Sequence[Views], batch_size: int = PredictSettings.batch_size
) -> list[Scores]:
    """Score the views of each picture; raise `UserError` if a score is not finite."""
    if not views:
        return []
    levels = [one for part in views for one in part.levels]
    scores = detector.score(levels, np.concatenate([part.profiles for part in views]), batch_size)
    if not np.isfinite(scores.logits).all():
        raise UserError("the run's network gives no finite scores, because training diverged; train it again")
    ends = np.cumsum([len(part.levels) for part in views])
    return [scores[end - len(part.levels) : end] for part, end in zip(views, ends, strict=True)]


def compute_views(
    picture: Image.Image, settings: FeatureSettings, checks: Sequence[Variant] = CHECKS, *, with_profile: bool = True
) -> Views:
    """Compute the features of an RGB picture, as it is and after each check.

    Raises
    ------
    PictureError : the picture is too small for the features
    """
    is_too_long = max(picture.size) > _JPEG_SIDE
    checks = [check for check in checks if not (is_too_long and check.jpeg_quality != NO_QUALITY)]
    found = list(compute_features(picture, settings, (CLEAN, *checks), all_crops=True, with_profile=with_profile))
    profiles = np.zeros((len(found), PROFILE_LENGTH if with_profile else 0), np.float32)
    for row, one in zip(profiles, found, strict=True):
        row[:] = one.profile if with_profile else ()
    names = tuple(check.name for check in checks)
    levels = tuple(one.levels for one in found)
    return Views(levels, profiles, names, has_own_colours(picture), has_enough_levels(picture))


def decide(scores: Scores, views: Views, calibration: Calibration, least_side: int | None = None) -> Judgement:
    """Decide the verdict from the scores of a picture's views; `least_side` is that of the detector."""
    own, *changed = (float(one) for one in calibration.probability(scores.logits))
    checks = dict(zip(views.checks, changed, strict=True))
    flips = tuple(name for name, p in checks.items() if calibration.is_fake(p) != calibration.is_fake(own))
    unlike_after = tuple(name for name, unlike in zip(views.checks, scores.unlike[1:], strict=True) if unlike)
    verdict, reason, is_unlike_after = calibration.verdict(own), None, False
    is_tiny = scores.unlike[0] in (Unlike.SMALL, Unlike.BLANK)
    if not views.has_levels and not is_tiny:
        reason = Reason.FEW_LEVELS
    elif not views.has_colours and not is_tiny:
        reason = Reason.GREY
    elif scores.unlike[0]:
        reason = _UNLIKE_REASONS[scores.unlike[0]]
    elif verdict == UNSURE:
        reason = Reason.IN_BAND
    elif flips:
        reason = Reason.FLIPS
    elif unlike_after:
        is_unlike_after = True
        reason = _UNLIKE_REASONS[scores.unlike[1 + views.checks.index(unlike_after[0])]]
    unsure_after = tuple(name for name, p in checks.items() if calibration.is_unsure(p))
    return Judgement(
        verdict=verdict if reason is None else UNSURE,
        probability_fake=own,
        log_odds=float(compute_log_odds(scores.logits)[0]) / calibration.temperature,
        reason=reason,
        crops=len(views.levels[0]),
        checks=checks,
        flips=flips if reason is Reason.FLIPS else (),
        unlike_after=unlike_after if is_unlike_after else (),
        unsure_after=unsure_after if reason is None else (),
        parts={name: float(values[0]) for name, values in scores.parts.items()},
        least_side=least_side if reason is Reason.SMALL else None,
    )


def doubt_blank_areas(judgement: Judgement) -> Judgement:
    """Return the judgement with "unsure" in place of a class, because large areas of one value may be damage."""
    if judgement.verdict == UNSURE:
        return judgement
    return replace(judgement, verdict=UNSURE, reason=Reason.MAY_BE_DAMAGED, unsure_after=())


def decide_clip(frames: Sequence[Judgement], calibration: Calibration) -> Judgement:
    """Decide a clip's verdict from the mean log-odds of its frames.

    Frames that are unlike the training pictures are skipped. The clip is "unsure" if most frames are unlike them, or if
    more than a quarter of the others have the opposite verdict.
    """
    unlike = [one for one in frames if one.is_unlike]
    counted = [one for one in frames if not one.is_unlike] or frames
    log_odds = float(np.mean([one.log_odds for one in counted]))
    own = float(calibration.probability(np.array([[0.0, log_odds * calibration.temperature]]))[0])
    verdict, reason = calibration.verdict(own), None
    if 2 * len(unlike) > len(frames):
        reason = Counter(one.reason for one in unlike).most_common(1)[0][0]
    elif verdict == UNSURE:
        reason = Reason.IN_BAND
    elif sum(one.verdict not in (verdict, UNSURE) for one in counted) > len(counted) / 4:
        reason = Reason.FRAMES_DISAGREE
    parts = {name: float(np.mean([one.parts[name] for one in counted])) for name in counted[0].parts}
    least_side = unlike[0].least_side if reason is Reason.SMALL else None
    verdict = verdict if reason is None else UNSURE
    return Judgement(verdict, own, log_odds, reason, frames[0].crops, parts=parts, least_side=least_side)
