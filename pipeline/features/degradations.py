"""Picture degradations: codecs, scaling, blur, noise and crops, one function each.

A step is a plain dict, `{"do": "jpeg", "quality": 60, "subsampling": "4:2:0"}`, so that a store's columns can record
it. Every step maps an RGB picture to an RGB picture, deterministically.
"""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter

from data_cards.core.errors import PictureError

CODEC_SIDES = {"jpeg": 65_500, "webp": 16_383}  # px: the longest side that a step's codec writes


def apply_steps(picture: Image.Image, steps: Sequence[dict]) -> Image.Image:
    """Apply steps to an RGB picture, in order; raises `PictureError` if a side is too long for one of the codecs."""
    if error := oversize_error(*picture.size, steps):
        raise error
    for step in steps:
        arguments = {name: value for name, value in step.items() if name != "do"}
        picture = STEPS[step["do"]](picture, **arguments)
    return picture


def oversize_error(width: int, height: int, steps: Sequence[dict]) -> PictureError | None:
    """Return the error of a picture, of a size in pixels, with a side too long for a codec of the steps; else None.

    Only "limit" steps before the codec count as making it smaller.
    """
    longest = max(width, height)
    for step in steps:
        if step["do"] == "limit":
            longest = min(longest, step.get("above") or step["longest"])
        most = CODEC_SIDES.get(step["do"], longest)
        if longest > most:
            return PictureError(
                f"{width} x {height} pixels, too large for the variants, which are saved as "
                f"{step['do'].upper()}; expected at most {most} a side; use a smaller copy, or --variants clean"
            )
    return None


def recompress_jpeg(picture: Image.Image, quality: int, subsampling: str) -> Image.Image:
    """Encode as JPEG and decode: quality 1 to 100 on libjpeg's scale, subsampling "4:4:4", "4:2:2" or "4:2:0"."""
    return _recompress(picture, "JPEG", quality=quality, subsampling=subsampling)


def recompress_webp(picture: Image.Image, quality: int) -> Image.Image:
    """Encode as lossy WebP, quality 0 to 100, and decode."""
    return _recompress(picture, "WEBP", quality=quality)


def scale(picture: Image.Image, factor: float, filter: str, least: int = 0) -> Image.Image:
    """Resample both sides by a factor, to at least one whole pixel; `filter` is Pillow's name, in any case.

    A picture whose short side is below `least` pixels stays as it is.
    """
    if min(picture.size) < least:
        return picture
    return _resize(picture, (picture.width * factor, picture.height * factor), filter)


def scale_and_back(picture: Image.Image, factor: float, filter: str) -> Image.Image:
    """Resample by a factor, then back to the original size."""
    return _resize(scale(picture, factor, filter), picture.size, filter)


def limit_size(
    picture: Image.Image, longest: int, filter: str, above: int | None = None, reducing_gap: float | None = None
) -> Image.Image:
    """Downscale a picture whose long side has more than `above` pixels, by default `longest`, to `longest`.

    With `reducing_gap`, 1 or more, blocks of pixels are averaged first, to a picture of at least that many times the
    final size. This is faster than filtering all pixels.
    """
    side = max(picture.size)
    if side <= (above or longest):
        return picture
    factor = longest / side
    return _resize(picture, (picture.width * factor, picture.height * factor), filter, reducing_gap)


def blur(picture: Image.Image, sigma: float) -> Image.Image:
    """Apply a Gaussian blur; `sigma` is the standard deviation in pixels."""
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def add_noise(picture: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Add independent Gaussian noise; `sigma` is the standard deviation in levels of 255. Rounds and clips."""
    levels = np.asarray(picture, dtype=np.float32)
    noise = np.random.default_rng(seed).standard_normal(levels.shape, dtype=np.float32)
    return Image.fromarray(np.clip(np.rint(levels + sigma * noise), 0, 255).astype(np.uint8))


def crop_middle(picture: Image.Image, share: float) -> Image.Image:
    """Crop the middle: a share of both sides, at least one pixel."""
    width, height = (max(round(side * share), 1) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def crop_corner(picture: Image.Image, share: float) -> Image.Image:
    """Crop the upper left corner: a share of both sides, at least one pixel."""
    return picture.crop((0, 0, *(max(round(side * share), 1) for side in picture.size)))


STEPS: dict[str, Callable[..., Image.Image]] = {
    "jpeg": recompress_jpeg,
    "webp": recompress_webp,
    "scale": scale,
    "scale-and-back": scale_and_back,
    "limit": limit_size,
    "blur": blur,
    "noise": add_noise,
    "crop": crop_middle,
    "crop-corner": crop_corner,
}


def _recompress(picture: Image.Image, form: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    saved = Image.open(buffer, formats=(form,))
    saved.load()
    return saved if saved.mode == "RGB" else saved.convert("RGB")  # which would copy it


def _resize(
    picture: Image.Image, size: tuple[float, float], filter: str, reducing_gap: float | None = None
) -> Image.Image:
    width, height = (max(round(side), 1) for side in size)
    return picture.resize((width, height), Image.Resampling[filter.upper()], reducing_gap=reducing_gap)
