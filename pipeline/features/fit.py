"""Picture of any size to a square of the store's size; for averaged planes also to what there is of it."""

import numpy as np
from PIL import Image

from data_cards.core.errors import PictureError
from pipeline.features.settings import FeatureSettings

MOST_CROPS = 5


def fit_picture(picture: Image.Image, settings: FeatureSettings) -> Image.Image:
    """Fit an RGB picture to `size` x `size` pixels as the settings say.

    A crop for averaged planes is as large as the picture where that is smaller.

    Raises
    ------
    PictureError : "crop" and the picture is smaller than the crop
    """
    reason = explain_misfit(picture.width, picture.height, settings)
    if reason:
        raise PictureError(reason)
    size = settings.size
    if settings.fit == "crop":
        width, height = min(picture.width, size), min(picture.height, size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + width, top + height))
    if picture.size == (size, size):
        return picture
    box = (0.0, 0.0, float(picture.width), float(picture.height))
    if settings.fit == "cover":
        side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)
    return picture.resize((size, size), Image.Resampling[settings.resample.upper()], box=box)


def cut_crops(picture: Image.Image, settings: FeatureSettings) -> list[Image.Image]:
    """The crops of native pixels that a picture is judged by: the middle, then the middles of the quarters.

    The picture itself, alone, where it does not hold two crops each way, and where pictures are resampled.
    """
    size = settings.size
    if settings.fit != "crop" or min(picture.size) < 2 * size:
        return [picture]
    middles = [(picture.width / 2, picture.height / 2)]
    middles += [(picture.width * x / 4, picture.height * y / 4) for y in (1, 3) for x in (1, 3)]
    corners = [(int(x - size / 2), int(y - size / 2)) for x, y in middles]
    return [picture.crop((left, top, left + size, top + size)) for left, top in corners]


def squeeze_picture(picture: Image.Image, settings: FeatureSettings) -> Image.Image | None:
    """The whole picture on a square of the settings' overview; None where there is to be none."""
    if settings.overview is None:
        return None
    return picture.resize((settings.overview,) * 2, Image.Resampling[settings.resample.upper()])


def enlarge_to_fit(picture: Image.Image, settings: FeatureSettings) -> Image.Image:
    """The picture, enlarged where it is too small to be fitted."""
    if explain_misfit(picture.width, picture.height, settings) is None:
        return picture
    least = settings.side
    factor = least / min(picture.size)
    size = tuple(max(round(side * factor), least) for side in picture.size)
    return picture.resize(size, Image.Resampling[settings.resample.upper()])


def explain_misfit(width: int, height: int, settings: FeatureSettings) -> str | None:
    """Why a picture of this size cannot be fitted; None where it can."""
    if settings.fit == "crop" and min(width, height) < settings.side:
        what, option = ("crop", "--size") if settings.patch is None else ("patch", "--patch")
        return (
            f"{width} x {height} pixels, smaller than the {what} of {settings.side}; "
            f"use a smaller {option}, or --fit cover, which resamples"
        )
    return None


def resampling_factor(width: int, height: int, settings: FeatureSettings) -> float:
    """By how much the short side is resampled; above 1 the picture is upsampled."""
    return 1.0 if settings.fit == "crop" else settings.size / min(width, height)


def as_array(picture: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of an RGB picture."""
    return np.asarray(picture, dtype=np.uint8)
