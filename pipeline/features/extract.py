"""The one path from a picture to its features: for a build, a verdict, and whoever wants the numbers themselves."""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image

from data_cards.core.files import read_file
from data_cards.image.decode import decode_picture
from pipeline.features.degradations import apply_steps
from pipeline.features.fit import cut_crops, enlarge_to_fit, fit_picture, resize_to_overview, to_array
from pipeline.features.periodogram import compute_periodogram_levels
from pipeline.features.settings import MAX_PIXELS, FeatureSettings
from pipeline.features.variants import CLEAN, Variant
from pipeline.features.welch import compute_welch_levels


def compute_features(
    picture: Image.Image | bytes | str | os.PathLike,
    settings: FeatureSettings,
    variants: Iterable[Variant] = (CLEAN,),
    *,
    all_crops: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[np.ndarray]:
    """Yield the features of each variant of a picture: uint8 (crops, planes, side, side), in levels.

    A build, a verdict and the page all make features with this function. The features of a picture file as it is,
    those of its row in a store:

        ((levels,),) = compute_features("picture.jpg", store.settings.features)

    Parameters
    ----------
    picture : a picture file's path or its bytes, or a decoded RGB picture, upright
    settings : how features are made; those of the store or run that they are compared with
    variants : of the picture, in the order in which their features are yielded
    all_crops : up to five crops (`pipeline.features.fit.cut_crops`), the middle first, instead of the middle alone
    max_pixels : a file with more pixels is not decoded

    Raises
    ------
    PictureError : the file cannot be read or decoded, or the picture is too small to be fitted; the message is the
        reason. A variant that is too small is enlarged instead: every variant of a usable picture has features
    """
    if not isinstance(picture, Image.Image):
        picture = decode_picture(picture if isinstance(picture, bytes) else read_file(picture), max_pixels)
    crops, overview = _fit(picture, picture, settings, all_crops)
    for variant in variants:
        if variant.before_fit:
            changed = apply_steps(picture, variant.steps)
            parts = _fit(enlarge_to_fit(changed, settings), changed, settings, all_crops)
        else:
            parts = (
                [apply_steps(crop, variant.steps) for crop in crops],
                overview and apply_steps(overview, variant.steps),
            )
        yield _compute_levels(*parts, settings)


def _fit(
    picture: Image.Image, whole: Image.Image, settings: FeatureSettings, all_crops: bool
) -> tuple[list[Image.Image], Image.Image | None]:
    """The fitted crops of a picture, and the overview, of the `whole` one; None where there is to be none."""
    crops = cut_crops(picture, settings) if all_crops else [picture]
    return [fit_picture(crop, settings) for crop in crops], resize_to_overview(whole, settings)


def _compute_levels(
    crops: Sequence[Image.Image], overview: Image.Image | None, settings: FeatureSettings
) -> np.ndarray:
    """Features (crops, planes, side, side) of fitted crops, which share the planes of their overview."""
    levels = np.stack([compute_planes(to_array(crop), settings) for crop in crops])
    if overview is None:
        return levels
    shared = compute_planes(to_array(overview), settings)
    return np.concatenate([levels, np.broadcast_to(shared, levels.shape)], axis=1)


def compute_planes(rgb: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Planes (9, side, side) of a fitted or squeezed picture, uint8 (H, W, 3), by the settings' estimator."""
    return compute_periodogram_levels(rgb) if settings.patch is None else compute_welch_levels(rgb, settings.patch)


def name_planes(settings: FeatureSettings) -> tuple[str, ...]:
    """What each of the planes is, such as magnitude_r or overview_magnitude_r."""
    middle = ("phase", "rgb") if settings.patch is None else ("coherency", ("rg", "gb", "br"))
    nine = tuple(f"{kind}_{one}" for kind, names in (("magnitude", "rgb"), middle, ("dct", "rgb")) for one in names)
    return nine if settings.overview is None else (*nine, *(f"overview_{name}" for name in nine))
