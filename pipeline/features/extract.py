"""Feature extraction: the one path from a picture to its planes and profile, for builds, verdicts and callers' code."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_cards.archives.place import read_file
from data_cards.core.value_types import converts_arguments
from data_cards.image.decode import decode_picture
from pipeline.features.coarse_levels import round_levels
from pipeline.features.degradations import apply_steps
from pipeline.features.fit import cut_crops, enlarge_to_fit, fit_picture, resize_to_overview, to_array
from pipeline.features.periodogram import compute_periodogram_levels
from pipeline.features.profile_vectors import SHRINK_LARGE
from pipeline.features.profiles import compute_profile
from pipeline.features.settings import COARSE, MAX_PIXELS, FeatureSettings
from pipeline.features.variants import CLEAN, Variant
from pipeline.features.welch import compute_welch_levels


class Features(NamedTuple):
    """The features of one variant of a picture.

    Attributes
    ----------
    levels : uint8 (crops, planes, side, side), levels 0 to 255; planes are in the order of `name_planes`. Without
        planes (1, 0, 0, 0)
    profile : float32 (755,), of the whole picture (`pipeline.features.profiles`); None if it was not asked for
    """

    levels: np.ndarray
    profile: np.ndarray | None


def compute_features(
    picture: Image.Image | bytes | str | os.PathLike,
    settings: FeatureSettings,
    variants: Iterable[Variant] = (CLEAN,),
    *,
    all_crops: bool = False,
    with_profile: bool = True,
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Features]:
    """Yield the features of each variant of a picture.

    `pipeline build`, `predict` and `page` all use this function. For `CLEAN` it yields the values that a
    store holds in the clean row of the file; `compute_file_features` returns these.

    Parameters
    ----------
    picture : path, bytes or PIL.Image.Image
        A picture file, its content, or a decoded and upright picture of mode RGB.
    settings : FeatureSettings
        The settings of the store or run that the features are compared with.
    variants : iterable of Variant
        Variants in the order in which their features are yielded.
    all_crops : bool
        Use up to five crops (`pipeline.features.fit.cut_crops`), the middle one first, instead of only the middle one.
    with_profile : bool
        Compute the profiles too.
    max_pixels : int
        A file with more pixels is not decoded.

    Yields
    ------
    Features
        `crops` is 1 without `all_crops`.

    Raises
    ------
    PictureError
        The file cannot be read or decoded, or the picture is too small for the fit; the message is the reason. A
        variant that is too small is enlarged instead, so every variant of a usable picture has features.
    """
    if not isinstance(picture, Image.Image):
        picture = decode_picture(picture if isinstance(picture, bytes) else read_file(picture), max_pixels)
    crops, overview = _fit(picture, picture, settings, all_crops)
    whole = _Whole(picture)
    for variant in variants:
        # The profile is always computed from the whole changed picture.
        changed = whole.change(variant.steps) if variant.before_fit or with_profile else picture
        if variant.before_fit:
            parts = _fit(enlarge_to_fit(changed, settings), changed, settings, all_crops)
        else:
            parts = (
                [apply_steps(crop, variant.steps) for crop in crops],
                overview and apply_steps(overview, variant.steps),
            )
        yield Features(_compute_levels(*parts, settings), whole.compute_profile(changed) if with_profile else None)


@converts_arguments
def compute_file_features(
    file: str | os.PathLike, settings: FeatureSettings | None = None, *, max_pixels: int = MAX_PIXELS
) -> Features:
    """Compute the features of an unchanged picture file, equal to the last bit to the clean row of a store.

    Parameters
    ----------
    file : path of a picture file, or of a member of an archive
    settings : FeatureSettings
        The settings of a store (`open_store(path).settings.features`) or of a run
        (`open_run(path).build_settings.features`); None for a profile without planes.
    max_pixels : int
        A file with more pixels is refused.

    Returns
    -------
    Features
        `levels` is uint8 (1, planes, side, side), `profile` float32 (755,).

    Raises
    ------
    PictureError : the file cannot be read or decoded, or is too small for the settings
    """
    (features,) = compute_features(file, settings or FeatureSettings(), max_pixels=max_pixels)
    return features


class _Whole:
    """A picture, with the intermediate results that several of its variants share; each is computed once."""

    def __init__(self, picture: Image.Image) -> None:
        self.picture = picture

    @cached_property
    def shrunk(self) -> Image.Image:
        return apply_steps(self.picture, (SHRINK_LARGE,))

    @cached_property
    def profile(self) -> np.ndarray:
        return compute_profile(self.shrunk, self.picture.size)

    def change(self, steps: Sequence[dict]) -> Image.Image:
        """Apply steps to the picture."""
        if steps and steps[0] == SHRINK_LARGE:
            return apply_steps(self.shrunk, steps[1:])
        return apply_steps(self.picture, steps)

    def compute_profile(self, changed: Image.Image) -> np.ndarray:
        """Compute the profile of a changed picture, which is the picture itself if no step changed it."""
        return self.profile if changed is self.picture else compute_profile(changed)


def _fit(
    picture: Image.Image, whole: Image.Image, settings: FeatureSettings, all_crops: bool
) -> tuple[list[Image.Image], Image.Image | None]:
    """Return the fitted crops of a picture, and the overview of `whole` (None without an overview).

    Without planes the list of crops is empty.
    """
    if not settings.planes:
        return [], None
    crops = cut_crops(picture, settings) if all_crops else [picture]
    return [fit_picture(crop, settings) for crop in crops], resize_to_overview(whole, settings)


def _compute_levels(
    crops: Sequence[Image.Image], overview: Image.Image | None, settings: FeatureSettings
) -> np.ndarray:
    """Compute the planes of fitted crops, uint8 (crops, planes, side, side); all crops share the overview's planes."""
    if not crops:
        return np.zeros((1, 0, 0, 0), np.uint8)
    levels = np.stack([compute_planes(to_array(crop), settings) for crop in crops])
    if overview is None:
        return levels
    shared = compute_planes(to_array(overview), settings)
    return np.concatenate([levels, np.broadcast_to(shared, levels.shape)], axis=1)


def compute_planes(rgb: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Compute the planes of a fitted picture or overview, uint8 (H, W, 3), by the settings: uint8 (9, side, side)."""
    if settings.patch is not None:
        return compute_welch_levels(rgb, settings.patch)
    levels = compute_periodogram_levels(rgb)
    return round_levels(levels) if settings.levels == COARSE else levels


def name_planes(settings: FeatureSettings) -> tuple[str, ...]:
    """Return the name of each plane in order, such as magnitude_r or overview_magnitude_r."""
    if not settings.planes:
        return ()
    middle = ("phase", "rgb") if settings.patch is None else ("coherency", ("rg", "gb", "br"))
    nine = tuple(f"{kind}_{one}" for kind, names in (("magnitude", "rgb"), middle, ("dct", "rgb")) for one in names)
    return nine if settings.overview is None else (*nine, *(f"overview_{name}" for name in nine))
