"""The one path from a picture to its features, for the build and for a verdict alike."""

from pathlib import Path

import numpy as np
from PIL import Image

from data_cards.decode import decode_picture
from data_cards.facts import read_file
from pipeline.fit import as_array, fit_picture
from pipeline.settings import MAX_PIXELS, FeatureSettings
from pipeline.spectra import quantised_planes
from pipeline.variants import Variant, apply_variant

CLEAN = Variant("clean")


def features_of_picture(fitted: Image.Image, variant: Variant, settings: FeatureSettings) -> np.ndarray:
    """Features (9, size, size) of one variant of a fitted RGB picture."""
    return quantised_planes(as_array(apply_variant(fitted, variant)), settings.dtype)


def features_of_file(path: str | Path, settings: FeatureSettings, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Features of a picture file as it is: (9, size, size), the same as its row in a store.

    Raises
    ------
    PictureError : the file cannot be read or used; the message is the reason
    """
    picture = decode_picture(read_file(Path(path)), max_pixels)
    return features_of_picture(fit_picture(picture, settings), CLEAN, settings)
