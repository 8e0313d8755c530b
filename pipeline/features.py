"""The one path from a picture to its features, for the build and for a verdict alike."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from data_cards.decode import decode_picture
from data_cards.files import read_file
from pipeline.averaged import averaged_planes
from pipeline.degrade import apply_steps
from pipeline.fit import as_array, enlarge_to_fit, fit_picture, squeeze_picture
from pipeline.settings import MAX_PIXELS, FeatureSettings
from pipeline.spectra import quantised_planes
from pipeline.variants import CLEAN, Variant


def features_of_variants(
    picture: Image.Image, variants: Iterable[Variant], settings: FeatureSettings
) -> Iterator[np.ndarray]:
    """Features (planes, side, side) of each variant of an RGB picture; the picture itself is fitted once.

    Raises
    ------
    PictureError : the picture cannot be fitted
    """
    fitted, overview = fit_picture(picture, settings), squeeze_picture(picture, settings)
    for variant in variants:
        if variant.before_fit:
            changed = apply_steps(picture, variant.steps)
            # A change may leave too little for a crop of native pixels; every variant has its row all the same.
            square = fit_picture(enlarge_to_fit(changed, settings), settings)
            yield features_of_square(square, squeeze_picture(changed, settings), settings)
        else:
            yield features_of_square(
                apply_steps(fitted, variant.steps), overview and apply_steps(overview, variant.steps), settings
            )


def features_of_square(square: Image.Image, overview: Image.Image | None, settings: FeatureSettings) -> np.ndarray:
    """Features (planes, side, side) of a fitted picture, and of the squeezed whole where there is to be one."""
    planes = estimate_planes(as_array(square), settings)
    return planes if overview is None else np.concatenate([planes, estimate_planes(as_array(overview), settings)])


def estimate_planes(rgb: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Planes (9, side, side) of a fitted or squeezed picture, uint8 (H, W, 3), by the settings' estimator."""
    return quantised_planes(rgb) if settings.patch is None else averaged_planes(rgb, settings.patch)


def name_planes(settings: FeatureSettings) -> tuple[str, ...]:
    """What each of the planes is, such as magnitude_r or overview_magnitude_r."""
    middle = ("phase", "rgb") if settings.patch is None else ("coherency", ("rg", "gb", "br"))
    nine = tuple(f"{kind}_{one}" for kind, names in (("magnitude", "rgb"), middle, ("dct", "rgb")) for one in names)
    return nine if settings.overview is None else (*nine, *(f"overview_{name}" for name in nine))


def features_of_file(path: str | Path, settings: FeatureSettings, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Features of a picture file as it is: (planes, side, side), the same as its row in a store.

    Raises
    ------
    PictureError : the file cannot be read or used; the message is the reason
    """
    picture = decode_picture(read_file(Path(path)), max_pixels)
    return next(features_of_variants(picture, (CLEAN,), settings))
