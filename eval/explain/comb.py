"""The strongest periodic grid in a picture's spectrum, where the experts find traces of a decoder."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pipeline.features.patch_spectra import compute_mean_spectra
from pipeline.features.profile_vectors import PERIODS
from pipeline.features.profiles import compute_comb, compute_excess, extract_native_planes
from train.model.experts import Experts

STRONG = 3.0  # standard deviations; of our training pictures 6 % of the photographs reach it, 20 % of the others

SHADES = 0.4  # excess (natural logarithm) that is shown as white; black is minus a quarter of it


@dataclass(frozen=True)
class Comb:
    """The strongest comb of a picture.

    Attributes
    ----------
    excess : ndarray of float32, shape (65, 65), of luma's log amplitude above its background, 0 to 0.5 cycles per
        pixel each way, rows vertical
    period : float, px, of the comb whose mean excess is highest in comparison with photographs
    strength : float, that excess: standard deviations of photographs above their mean
    """

    excess: np.ndarray
    period: float
    strength: float

    @property
    def is_strong(self) -> bool:
        """Whether only few photographs have such a strong comb."""
        return self.strength >= STRONG

    @property
    def frequencies(self) -> np.ndarray:
        """Frequencies of the comb's teeth along an axis, float64 (K,), 0 to 0.5 cycles per pixel."""
        return np.arange(int(self.period / 2 + 1e-6) + 1) / self.period

    def scale_excess(self) -> np.ndarray:
        """Scale the excess to shades of grey, uint8 (65, 65): its peaks are bright."""
        return (255 * np.clip((self.excess + SHADES / 4) / (1.25 * SHADES), 0, 1)).round().astype(np.uint8)


def find_comb(picture: Image.Image, experts: Experts) -> Comb:
    """Find the strongest comb of an RGB picture among those that the experts measure."""
    luma, _, _ = extract_native_planes(picture)
    spectra = compute_excess(compute_mean_spectra(luma))
    mean, deviation = (values.reshape(len(spectra), -1) for values in experts.photographs)
    standardised = (np.stack([compute_comb(excess) for excess in spectra]) - mean) / deviation
    spectrum, number = np.unravel_index(standardised.argmax(), standardised.shape)
    return Comb(spectra[spectrum], float(PERIODS[number]), float(standardised[spectrum, number]))
