"""Fitting a picture of any size to the square that its planes are computed from."""

import numpy as np
from PIL import Image

from data_cards.core.errors import PictureError
from pipeline.features.settings import FeatureSettings

MOST_CROPS = 5


def fit_picture(picture: Image.Image, settings: FeatureSettings) -> Image.Image:
    """Fit an RGB picture to `size` x `size` pixels by the settings' `fit`.

    With averaged planes, a side of the picture that is shorter than `size` is kept whole.

    Raises
    ------
    PictureError : the fit is "crop" and the picture is smaller than the crop
    """
    error = misfit_error(picture.width, picture.height, settings)
    if error:
        raise error
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
    """Cut up to `MOST_CROPS` crops of native pixels: around the middle, then around the middle of each quarter.

    A picture with a side below two crops, and any picture that is resampled, is returned whole as the only crop.
    """
    size = settings.size
    if settings.fit != "crop" or min(picture.size) < 2 * size:
        return [picture]
    middles = [(picture.width / 2, picture.height / 2)]
    middles += [(picture.width * x / 4, picture.height * y / 4) for y in (1, 3) for x in (1, 3)]
    corners = [(int(x - size / 2), int(y - size / 2)) for x, y in middles]
    return [picture.crop((left, top, left + size, top + size)) for left, top in corners]


def resize_to_overview(picture: Image.Image, settings: FeatureSettings) -> Image.Image | None:
    """Resize the whole picture to the square of the overview; None with settings that have no overview."""
    if settings.overview is None:
        return None
    return picture.resize((settings.overview,) * 2, Image.Resampling[settings.resample.upper()])


def enlarge_to_fit(picture: Image.Image, settings: FeatureSettings) -> Image.Image:
    """Enlarge a picture that is too small to be fitted; return any other picture unchanged."""
    if misfit_error(picture.width, picture.height, settings) is None:
        return picture
    least = settings.side
    factor = least / min(picture.size)
    size = tuple(max(round(side * factor), least) for side in picture.size)
    return picture.resize(size, Image.Resampling[settings.resample.upper()])


def misfit_error(width: int, height: int, settings: FeatureSettings) -> PictureError | None:
    """Return the error of a picture, of a size in pixels, that is too small to be fitted; None for any other."""
    if settings.fit != "crop" or min(width, height) >= settings.side:
        return None
    what, option = ("crop", "--size") if settings.patch is None else ("patch", "--patch")
    return PictureError(
        f"{width} x {height} pixels, smaller than the {what} of {settings.side}",
        f"use a smaller {option}, or --fit cover, which resamples",
    )


def compute_resampling_factor(width: int, height: int, settings: FeatureSettings) -> float:
    """Return the factor by which the short side is resampled; above 1 the picture is upsampled."""
    return settings.size / min(width, height) if settings.fit in ("cover", "stretch") else 1.0


def to_array(picture: Image.Image) -> np.ndarray:
    """Return an RGB picture's pixels: uint8 (H, W, 3)."""
    return np.asarray(picture, dtype=np.uint8)
