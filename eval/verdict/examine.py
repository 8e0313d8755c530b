"""Full examination of one picture: verdict, declarations of its file, spectrum, deciding frequencies and planes."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from data_cards.image.damage import may_hide_damage
from data_cards.image.decode import decode_with_remarks
from eval.explain.class_spectra import ClassSpectra, load_class_spectra
from eval.explain.comb import Comb, find_comb
from eval.settings import PredictSettings
from eval.verdict.decide import CHECKS, Judgement, Views, compute_views, decide, doubt_blank_areas, score_views
from eval.verdict.metadata import Declaration, read_declarations
from pipeline.features.variants import Variant
from train.run.folder import Run, load_detector

if TYPE_CHECKING:
    from eval.explain.occlusion import Explanation


@dataclass(frozen=True)
class Examined:
    """The result of an examination.

    Attributes
    ----------
    judgement : Judgement, the same as that of `predict`
    declared : tuple of Declaration, what the file declares, not verified
    explanation : Explanation or None, what decided the network's score, for the middle crop if there are several; None
        without a network
    comb : Comb or None, the peaks that the experts read; None without experts
    picture : PIL.Image.Image, upright RGB
    estimator : str, of the run's features
    remarks, sha256 : as in `eval.verdict.predict.Verdict`
    """

    judgement: Judgement
    declared: tuple[Declaration, ...]
    explanation: "Explanation | None"
    comb: Comb | None
    picture: Image.Image
    estimator: str
    remarks: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def has_grid(self) -> bool:
        """Whether the comb is strong, in a picture that can be compared with the photographs."""
        return self.comb is not None and self.comb.is_strong and not self.judgement.is_of_other_kind


class Examiner:
    """A run's loaded detector, for any number of pictures.

    Attributes
    ----------
    run : Run
    detector : Detector
    spectra : ClassSpectra or None, mean spectra of both classes; None without a network, or if they are not available
    simulated : bool, whether the run was trained on simulated pictures
    """

    def __init__(self, run: Run, device: str = PredictSettings.device, max_pixels: int | None = None):
        self.run = run
        self._max_pixels = max_pixels or run.build_settings.max_pixels
        self.detector = load_detector(run, device)
        self.spectra: ClassSpectra | None = None if self.detector.plane_detector is None else load_class_spectra(run)
        self.simulated = run.simulated

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
        picture, remarks = decode_with_remarks(data, self._max_pixels)
        views = compute_views(
            picture,
            self.detector.choose_settings(settings.features),
            checks,
            with_profile=self.detector.experts is not None,
        )
        (scores,) = score_views(self.detector, [views], batch_size)
        judgement = decide(scores, views, self.detector.calibration, self.detector.least_side)
        if may_hide_damage(picture, data):
            judgement = doubt_blank_areas(judgement)
        declared = read_declarations(io.BytesIO(data))
        experts = self.detector.experts
        return Examined(
            judgement,
            declared,
            self._explain(views),
            None if experts is None else find_comb(picture, experts),
            picture,
            settings.features.estimator,
            remarks,
            hashlib.sha256(data).hexdigest(),
        )

    def _explain(self, views: Views) -> "Explanation | None":
        if self.detector.plane_detector is None:
            return None
        from eval.explain.occlusion import explain_levels  # loads PyTorch

        return explain_levels(self.detector.plane_detector, views.levels[0][0])
