"""One picture in full: verdict, what its file declares, its spectrum, and which frequencies and planes decided."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from data_cards.image.decode import decode_picture
from eval.defaults import BATCH_SIZE
from eval.explain.class_spectra import ClassProfiles, find_profiles
from eval.explain.occlusion import Explanation, explain_levels
from eval.verdict.decide import CHECKS, Judgement, decide, look_at, score_levels
from eval.verdict.metadata import Declaration, read_declared
from pipeline.features.variants import Variant
from train.model.calibration import Calibration
from train.run.folder import Run, load_detector


@dataclass(frozen=True)
class Examined:
    """What there is to say of one picture.

    Attributes
    ----------
    judgement : the same as `eval predict` gives it
    declared : what the file says of itself, not verified
    explanation : what decided; of a picture judged on several crops, on the middle one
    picture : upright RGB
    estimator : of the run's features
    """

    judgement: Judgement
    declared: tuple[Declaration, ...]
    explanation: Explanation
    picture: Image.Image
    estimator: str


class Examiner:
    """A run's detector, ready for one picture after the other.

    Attributes
    ----------
    run : the run
    calibration : how its scores are read
    profiles : mean spectra of both classes; None where they are not to be had
    simulated : whether it was trained on simulated pictures
    """

    def __init__(self, run: Run, device: str = "auto"):
        self.run = run
        self._detector = load_detector(run, device)
        self.profiles: ClassProfiles | None = find_profiles(run)
        self.simulated = run.simulated

    @property
    def calibration(self) -> Calibration:
        """How the detector's scores are read."""
        return self._detector.calibration

    def examine(self, data: bytes, checks: Sequence[Variant] = CHECKS, batch_size: int = BATCH_SIZE) -> Examined:
        """Examine a picture file's bytes.

        Parameters
        ----------
        checks : that may turn the verdict into "unsure"
        batch_size : samples that the network scores at a time

        Raises
        ------
        PictureError : it cannot be read or used; the message is the reason
        UserError : the network gives no finite scores
        """
        settings = self.run.build_settings
        picture = decode_picture(data, settings.max_pixels)
        looks = look_at(picture, settings.features, checks)
        judgement = decide(score_levels(self._detector, looks.levels, batch_size), looks, self.calibration)
        explanation = explain_levels(self._detector, looks.levels[0])
        return Examined(judgement, read_declared(data), explanation, picture, settings.features.estimator)
