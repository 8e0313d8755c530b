"""Full examination of one picture: verdict, declarations of its file, spectrum, deciding frequencies and planes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from data_cards.image.decode import decode_picture
from eval.explain.class_spectra import ClassSpectra, load_class_spectra
from eval.explain.occlusion import Explanation, explain_levels
from eval.settings import PredictSettings
from eval.verdict.decide import CHECKS, Judgement, compute_crops, decide, score_levels
from eval.verdict.metadata import Declaration, read_declarations
from pipeline.features.variants import Variant
from train.model.calibration import Calibration
from train.run.folder import Run, load_detector


@dataclass(frozen=True)
class Examined:
    """The result of an examination.

    Attributes
    ----------
    judgement : Judgement, equal to that of `eval predict`
    declared : tuple of Declaration, what the file declares, not verified
    explanation : Explanation, what decided; of a picture with several crops, for the middle one
    picture : PIL.Image.Image, upright RGB
    estimator : str, of the run's features
    """

    judgement: Judgement
    declared: tuple[Declaration, ...]
    explanation: Explanation
    picture: Image.Image
    estimator: str


class Examiner:
    """A run's loaded detector, for any number of pictures.

    Attributes
    ----------
    run : Run
    spectra : ClassSpectra or None, mean spectra of both classes, where they are available
    simulated : bool, whether the run was trained on simulated pictures
    """

    def __init__(self, run: Run, device: str = PredictSettings.device, max_pixels: int | None = None):
        self.run = run
        self._max_pixels = max_pixels or run.build_settings.max_pixels
        self._detector = load_detector(run, device)
        self.spectra: ClassSpectra | None = load_class_spectra(run)
        self.simulated = run.simulated

    @property
    def calibration(self) -> Calibration:
        """The detector's calibration."""
        return self._detector.calibration

    def examine(
        self, data: bytes, checks: Sequence[Variant] = CHECKS, batch_size: int = PredictSettings.batch_size
    ) -> Examined:
        """Examine a picture file's bytes.

        Parameters
        ----------
        checks : sequence of Variant, which may turn the verdict into "unsure"
        batch_size : int, samples that the network scores at a time

        Raises
        ------
        PictureError : the picture cannot be read or used; the message is the reason
        UserError : the network gives no finite scores
        """
        settings = self.run.build_settings
        picture = decode_picture(data, self._max_pixels)
        crops = compute_crops(picture, settings.features, checks)
        judgement = decide(
            score_levels(self._detector.plane_detector, crops.levels, batch_size), crops, self.calibration
        )
        explanation = explain_levels(self._detector.plane_detector, crops.levels[0])
        return Examined(
            judgement, read_declarations(io.BytesIO(data)), explanation, picture, settings.features.estimator
        )
