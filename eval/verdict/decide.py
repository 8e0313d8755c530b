"""The verdict on one picture: logits of its crops averaged, then checked against JPEG and cropping.

A picture has one crop, or five fixed ones (the middle and the middles of the quarters) where the features are
those of a crop of native pixels and the picture holds at least two crops each way. Averaging the crops' logits
averages their log-odds.

The verdict is the calibration's, "unsure" within its band. It is also "unsure" where one of `CHECKS`, applied to
the decoded picture, moves the score across the threshold. The features of every crop come from `compute_features`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from PIL import Image

from data_cards.core.errors import UserError
from data_cards.image.jpeg import NO_QUALITY
from eval.settings import PredictSettings
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, Variant, create_jpeg_variant
from train.model.calibration import UNSURE, Calibration, compute_log_odds
from train.model.inference import predict_logits
from train.model.plane_detector import PlaneDetector

# None of them is random: a picture is checked in the same way each time.
CHECKS = (
    replace(create_jpeg_variant(90), name="JPEG 90"),
    replace(create_jpeg_variant(75), name="JPEG 75"),
    # Off the middle: the middle of a cropped picture is the same pixels where features are those of a crop.
    Variant("crop 0.9", ({"do": "crop-corner", "share": 0.9},), before_fit=True),
)

_JPEG_SIDE = 65_500  # libjpeg writes no longer one


@dataclass(frozen=True)
class Crops:
    """Features of one picture's crops, as it is and after each check.

    Attributes
    ----------
    levels : ndarray of uint8, shape (N, planes, H, W), the picture's own crops, then those of each check
    counts : tuple of int, number of crops of the picture as it is, then of each check
    checks : tuple of str, names of the checks done, in order; JPEG is left out where a side is longer than that
        format allows
    """

    levels: np.ndarray
    counts: tuple[int, ...]
    checks: tuple[str, ...]


class Reason(StrEnum):
    """Why a verdict is "unsure"."""

    IN_BAND = "in_band"  # the score lies in the calibration's band
    FLIPS = "flips"  # a check moves the score across the threshold
    FRAMES_DISAGREE = "frames_disagree"  # too many frames of a clip are surely called the opposite


@dataclass(frozen=True)
class Judgement:
    """The verdict on one picture, and what it rests on.

    Attributes
    ----------
    verdict : str, "real", "fake" or "unsure"
    probability_fake : float, calibrated, 0 to 1
    log_odds : float, ln(p / (1 - p)) of that probability, exact also where p rounds to 0 or 1
    reason : Reason or None, why the verdict is "unsure"
    crops : int, number of crops whose logits were averaged
    checks : dict of str to float, the probability after each check
    flips : tuple of str, checks that move the probability across the threshold, where that is the reason
    """

    verdict: str
    probability_fake: float
    log_odds: float
    reason: Reason | None = None
    crops: int = 1
    checks: dict[str, float] = field(default_factory=dict)
    flips: tuple[str, ...] = ()


def score_levels(
    detector: PlaneDetector, levels: np.ndarray, batch_size: int = PredictSettings.batch_size
) -> np.ndarray:
    """Compute the logits, float64 (N, 2), of features (N, planes, H, W); raise `UserError` if any is not finite."""
    batches = [levels[start : start + batch_size] for start in range(0, len(levels), batch_size)]
    logits = np.concatenate([predict_logits(detector, batch) for batch in batches])
    if not np.isfinite(logits).all():
        raise UserError("the run's network gives no finite scores; the training diverged, train it again")
    return logits


def compute_crops(picture: Image.Image, settings: FeatureSettings, checks: Sequence[Variant] = CHECKS) -> Crops:
    """Compute the features of an RGB picture's crops, as it is and after each check.

    Raises
    ------
    PictureError : the picture is too small for the settings
    """
    is_too_long = max(picture.size) > _JPEG_SIDE
    checks = [check for check in checks if not (is_too_long and check.jpeg_quality != NO_QUALITY)]
    features = compute_features(picture, settings, (CLEAN, *checks), all_crops=True, with_profile=False)
    found = [one.levels for one in features]
    return Crops(np.concatenate(found), tuple(map(len, found)), tuple(check.name for check in checks))


def decide(logits: np.ndarray, crops: Crops, calibration: Calibration) -> Judgement:
    """Decide the verdict from the logits, float64 (N, 2), of all crops."""
    starts = np.cumsum((0, *crops.counts[:-1]))
    means = np.add.reduceat(logits, starts) / np.array(crops.counts)[:, None]
    own, *changed = (float(one) for one in calibration.probability(means))
    checks = dict(zip(crops.checks, changed, strict=True))
    verdict, reason, flips = calibration.verdict(own), None, ()
    if verdict == UNSURE:
        reason = Reason.IN_BAND
    else:
        flips = tuple(name for name, p in checks.items() if calibration.is_fake(p) != calibration.is_fake(own))
        if flips:
            verdict, reason = UNSURE, Reason.FLIPS
    log_odds = float(compute_log_odds(means)[0]) / calibration.temperature
    return Judgement(verdict, own, log_odds, reason, crops.counts[0], checks, flips)


def decide_clip(frames: Sequence[Judgement], calibration: Calibration) -> Judgement:
    """Decide a clip's verdict from its frames' mean log-odds.

    It is "unsure" also where more than a quarter of the frames have the opposite verdict.
    """
    log_odds = float(np.mean([one.log_odds for one in frames]))
    own = float(calibration.probability(np.array([[0.0, log_odds * calibration.temperature]]))[0])
    verdict, reason = calibration.verdict(own), None
    if verdict == UNSURE:
        reason = Reason.IN_BAND
    elif sum(one.verdict not in (verdict, UNSURE) for one in frames) > len(frames) / 4:
        verdict, reason = UNSURE, Reason.FRAMES_DISAGREE
    return Judgement(verdict, own, log_odds, reason, frames[0].crops)
