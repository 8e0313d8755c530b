"""One picture to a word: looks at several crops, and whether the word outlives what the web does to pictures.

A picture is looked at once, or, where features are those of a crop of native pixels and the picture
holds at least two crops each way, on five fixed crops: the middle and the middles of the quarters.
The logits of the crops are averaged, which averages the log-odds.

The word is the calibration's, "unsure" within its band. It is "unsure" too where one of `CHECKS`,
done to the picture as it was decoded, moves it to the other side of the threshold. All go the
one way of features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from PIL import Image

from data_cards.core.errors import UserError
from data_cards.image.jpeg import NO_QUALITY
from eval.defaults import BATCH_SIZE
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN, Variant, create_jpeg_variant
from train.model.calibration import UNSURE, Calibration
from train.model.detector import Detector
from train.model.inference import predict_logits

# Nothing in them is drawn, so a picture meets the same ones each time.
CHECKS = (
    replace(create_jpeg_variant(90), name="JPEG 90"),
    replace(create_jpeg_variant(75), name="JPEG 75"),
    # Off the middle: the middle of a cropped picture is the same pixels where features are those of a crop.
    Variant("crop 0.9", ({"do": "crop-corner", "share": 0.9},), before_fit=True),
)

_JPEG_SIDE = 65_500  # libjpeg writes no longer one


@dataclass(frozen=True)
class Looks:
    """Features of all that is looked at for one picture.

    Attributes
    ----------
    levels : (N, planes, H, W), uint8: the picture's own crops, then those of each check
    crops : how many of them are of the picture as it is, and of each check
    checks : names of those done, in order; JPEG is left out where a side is longer than that format allows
    """

    levels: np.ndarray
    crops: tuple[int, ...]
    checks: tuple[str, ...]


class Reason(StrEnum):
    """Why a verdict is "unsure"."""

    IN_BAND = "in_band"  # the score lies in the calibration's band
    FLIPS = "flips"  # a check moves the score across the threshold
    FRAMES_DISAGREE = "frames_disagree"  # too many frames of a clip are surely called the opposite


@dataclass(frozen=True)
class Judgement:
    """What is said of one picture.

    Attributes
    ----------
    verdict : "real", "fake" or "unsure"
    probability_fake : calibrated, 0 to 1
    log_odds : of that probability, ln(p / (1 - p)), also where p rounds to 0 or 1
    reason : why it is unsure; None where it is not
    crops : number of crops that it was judged on
    checks : the same probability after each check, by its name
    flips : names of the checks that move it across the threshold, where that is the reason
    """

    verdict: str
    probability_fake: float
    log_odds: float
    reason: Reason | None = None
    crops: int = 1
    checks: dict[str, float] = field(default_factory=dict)
    flips: tuple[str, ...] = ()


def score_levels(detector: Detector, levels: np.ndarray, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Logits, float64 (N, 2), of features (N, planes, H, W); raises `UserError` where they are not finite."""
    batches = [levels[start : start + batch_size] for start in range(0, len(levels), batch_size)]
    logits = np.concatenate([predict_logits(detector, batch) for batch in batches])
    if not np.isfinite(logits).all():
        raise UserError("the run's network gives no finite scores; the training diverged, train it again")
    return logits


def look_at(picture: Image.Image, settings: FeatureSettings, checks: Sequence[Variant] = CHECKS) -> Looks:
    """Features of an RGB picture's crops, as it is and after each check.

    Raises
    ------
    PictureError : it is too small for the settings
    """
    is_too_long = max(picture.size) > _JPEG_SIDE
    checks = [check for check in checks if not (is_too_long and check.jpeg_quality != NO_QUALITY)]
    found = list(compute_features(picture, settings, (CLEAN, *checks), all_crops=True))
    return Looks(np.concatenate(found), tuple(map(len, found)), tuple(check.name for check in checks))


def decide(logits: np.ndarray, looks: Looks, calibration: Calibration) -> Judgement:
    """The word from the logits, float64 (N, 2), of everything that was looked at."""
    starts = np.cumsum((0, *looks.crops[:-1]))
    means = np.add.reduceat(logits, starts) / np.array(looks.crops)[:, None]
    own, *changed = (float(one) for one in calibration.probability(means))
    checks = dict(zip(looks.checks, changed, strict=True))
    verdict, reason, flips = calibration.verdict(own), None, ()
    if verdict == UNSURE:
        reason = Reason.IN_BAND
    else:
        flips = tuple(name for name, p in checks.items() if calibration.is_fake(p) != calibration.is_fake(own))
        if flips:
            verdict, reason = UNSURE, Reason.FLIPS
    log_odds = float(means[0, 1] - means[0, 0]) / calibration.temperature
    return Judgement(verdict, own, log_odds, reason, looks.crops[0], checks, flips)


def decide_clip(frames: Sequence[Judgement], calibration: Calibration) -> Judgement:
    """The word of a clip: its frames' log-odds averaged; unsure too where frames contradict each other.

    They do where more than a quarter of them are surely called the opposite.
    """
    log_odds = float(np.mean([one.log_odds for one in frames]))
    own = float(calibration.probability(np.array([[0.0, log_odds * calibration.temperature]]))[0])
    verdict, reason = calibration.verdict(own), None
    if verdict == UNSURE:
        reason = Reason.IN_BAND
    elif sum(one.verdict not in (verdict, UNSURE) for one in frames) > len(frames) / 4:
        verdict, reason = UNSURE, Reason.FRAMES_DISAGREE
    return Judgement(verdict, own, log_odds, reason, frames[0].crops)
