"""Simulated cameras and generators: the traces that each adds to the content of a picture.

Every maker is given the same kind of scene (linear light, twice the picture's height and width)
and returns an 8-bit sRGB picture. A camera adds its colour mosaic's interpolation and the
sensor's noise; a generator adds the traces of upsampling a small latent picture: mirrored
spectra and periodic patterns. These are models that a network learns in a minute, not
measurements of any product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

# A function from a scene (float32, 2H x 2W x 3, linear light 0..1) to a picture (uint8, H x W x 3).
Maker = Callable[[np.random.Generator, np.ndarray], np.ndarray]

# Demosaicing kernels. Bilinear: the mean of the nearest samples of a colour.
_BILINEAR_GREEN = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_BILINEAR_RED_BLUE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4
# Gradient-corrected: Malvar, He and Cutler, "High-quality linear interpolation for demosaicing
# of Bayer-patterned color images", ICASSP 2004, figure 2.
_MHC_GREEN = np.array([
    [0, 0, -1, 0, 0],
    [0, 0, 2, 0, 0],
    [-1, 2, 4, 2, -1],
    [0, 0, 2, 0, 0],
    [0, 0, -1, 0, 0],
], np.float32) / 8  # fmt: skip
_MHC_SAME_ROW = np.array([
    [0, 0, 0.5, 0, 0],
    [0, -1, 0, -1, 0],
    [-1, 4, 5, 4, -1],
    [0, -1, 0, -1, 0],
    [0, 0, 0.5, 0, 0],
], np.float32) / 8  # fmt: skip
_MHC_OPPOSITE = np.array([
    [0, 0, -1.5, 0, 0],
    [0, 2, 0, 2, 0],
    [-1.5, 0, 6, 0, -1.5],
    [0, 2, 0, 2, 0],
    [0, 0, -1.5, 0, 0],
], np.float32) / 8  # fmt: skip
# The sensor's response to white: less red and blue than green, so white balance amplifies their noise.
_RAW_GAINS = np.array([0.55, 0.95, 0.65], np.float32)


@dataclass(frozen=True)
class Camera:
    """A camera: lens, colour mosaic, sensor noise, demosaicing and its own sharpening.

    Attributes
    ----------
    red_at : row and column (0 or 1) of the first red sample of the Bayer mosaic
    blur : standard deviation of the lens's blur, in pixels of the picture
    shot_noise : variance divided by mean of the raw signal (photon noise), at base sensitivity
    read_noise : standard deviation of the raw signal in the dark, full scale 1
    gradient_corrected : whether demosaicing uses the kernels of Malvar, He and Cutler instead of bilinear ones
    sharpening : share of the fine detail that is added once more
    """

    red_at: tuple[int, int]
    blur: float
    shot_noise: float
    read_noise: float
    gradient_corrected: bool
    sharpening: float

    def __call__(self, rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
        lit = _halve(ndimage.gaussian_filter(scene, (2 * self.blur, 2 * self.blur, 0), mode="nearest"))
        masks = self._mask_mosaic(lit.shape[:2])
        raw = (lit * _RAW_GAINS * masks).sum(axis=2)
        sensitivity = np.exp(rng.uniform(np.log(0.4), np.log(2.2)))
        deviation = np.sqrt(sensitivity * self.shot_noise * raw + (sensitivity * self.read_noise) ** 2)
        raw = np.clip(raw + deviation * rng.standard_normal(raw.shape, dtype=np.float32), 0, 1)
        white_balanced = raw * (masks / _RAW_GAINS).sum(axis=2)
        colours = self._demosaic(white_balanced, masks)
        return _to_levels(_sharpen(_encode_srgb(colours), self.sharpening))

    def _mask_mosaic(self, shape: tuple[int, int]) -> np.ndarray:
        """Return 1 where a sample of that colour is measured, else 0: float32 (H, W, 3)."""
        row, column = self.red_at
        masks = np.zeros((*shape, 3), np.float32)
        masks[row::2, column::2, 0] = 1
        masks[1 - row :: 2, 1 - column :: 2, 2] = 1
        masks[..., 1] = 1 - masks[..., 0] - masks[..., 2]
        return masks

    def _demosaic(self, raw: np.ndarray, masks: np.ndarray) -> np.ndarray:
        if not self.gradient_corrected:
            kernels = (_BILINEAR_RED_BLUE, _BILINEAR_GREEN, _BILINEAR_RED_BLUE)
            planes = [_filter(raw * masks[..., c], kernels[c]) for c in range(3)]
            return np.stack(planes, axis=2)
        red, green, blue = np.moveaxis(masks, 2, 0)
        red_rows = red.max(axis=1, keepdims=True)  # green samples lie in rows with red or rows with blue
        same_row, same_column = _filter(raw, _MHC_SAME_ROW), _filter(raw, _MHC_SAME_ROW.T)
        opposite = _filter(raw, _MHC_OPPOSITE)
        beside_red = np.where(red_rows > 0, same_row, same_column)
        beside_blue = np.where(red_rows > 0, same_column, same_row)
        return np.stack(
            [
                red * raw + green * beside_red + blue * opposite,
                green * raw + (1 - green) * _filter(raw, _MHC_GREEN),
                blue * raw + green * beside_blue + red * opposite,
            ],
            axis=2,
        )


@dataclass(frozen=True)
class Generator:
    """An image generator's decoder: a latent picture at a quarter of the size, doubled twice.

    Attributes
    ----------
    doubling : "transposed" (zeros between the samples, then a small fixed convolution whose
        weights are uneven, as a learnt transposed convolution's are) or "bicubic"
    unevenness : relative deviation of the transposed convolution's weights
    detail : deviation of the texture that each step invents, in levels of 255
    sharpening : share of the fine detail that is added once more
    """

    doubling: str
    unevenness: float
    detail: float
    sharpening: float

    def __call__(self, rng: np.random.Generator, scene: np.ndarray) -> np.ndarray:
        half = _encode_srgb(_halve(_halve(scene)))
        picture = _halve(half)
        double = self._double_transposed if self.doubling == "transposed" else _double_bicubic
        strength = np.exp(rng.uniform(np.log(0.4), np.log(1.6)))
        # The latent holds the half-size detail too, so that only the traces of the steps differ from the scene.
        learnt_detail = half - _double_bicubic(picture)
        picture = double(picture) + learnt_detail
        picture += strength * self.detail / 255 * _draw_texture_noise(rng, picture.shape)
        picture = double(picture)
        picture += strength * self.detail / 255 * _draw_texture_noise(rng, picture.shape)
        return _to_levels(_sharpen(picture, self.sharpening))

    def _double_transposed(self, picture: np.ndarray) -> np.ndarray:
        height, width, channels = picture.shape
        spread = np.zeros((2 * height, 2 * width, channels), np.float32)
        spread[::2, ::2] = picture
        learnt = np.random.default_rng(0)  # the network's weights: the same in every picture and set
        planes = []
        for channel in range(channels):
            kernel = _BILINEAR_RED_BLUE * (1 + self.unevenness * learnt.standard_normal((3, 3)))
            kernel *= 4 / kernel.sum()  # keeps the mean: one sample in four is not zero
            planes.append(_filter(spread[..., channel], kernel.astype(np.float32)))
        return np.stack(planes, axis=2)


def _draw_texture_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw invented texture: noise of deviation 1, correlated between the colours, without the finest detail."""
    grey = rng.standard_normal((*shape[:2], 1), dtype=np.float32)
    noise = 0.8 * grey + 0.6 * rng.standard_normal(shape, dtype=np.float32)
    noise = ndimage.gaussian_filter(noise, (0.5, 0.5, 0), mode="wrap")
    return noise / noise.std()


def _double_bicubic(picture: np.ndarray) -> np.ndarray:
    height, width, channels = picture.shape
    planes = (Image.fromarray(np.ascontiguousarray(picture[..., channel])) for channel in range(channels))
    doubled = (plane.resize((2 * width, 2 * height), Image.Resampling.BICUBIC) for plane in planes)
    return np.stack([np.asarray(plane) for plane in doubled], axis=2)


def _halve(picture: np.ndarray) -> np.ndarray:
    """Return the mean of each 2 x 2 pixels."""
    return (picture[::2, ::2] + picture[1::2, ::2] + picture[::2, 1::2] + picture[1::2, 1::2]) / 4


def _filter(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    # "mirror" does not repeat the edge's own row, so the mosaic's phase continues across the edge.
    return ndimage.convolve(plane, kernel, mode="mirror")


def _encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear light by sRGB's curve (IEC 61966-2-1), both 0 to 1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _sharpen(picture: np.ndarray, amount: float) -> np.ndarray:
    return picture + amount * (picture - ndimage.gaussian_filter(picture, (1, 1, 0), mode="nearest"))


def _to_levels(picture: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(picture * 255), 0, 255).astype(np.uint8)


# Four makers for each class; their names are the sources' names. Noise costs bytes, so the classes' noises are
# balanced by trial until bytes per pixel alone did not separate them (AUROC 0.51 on 600 pictures).
MAKERS: dict[str, dict[str, Maker]] = {
    "real": {
        "camera-a": Camera(
            red_at=(0, 0),
            blur=0.45,
            shot_noise=0.0006,
            read_noise=0.002,
            gradient_corrected=False,
            sharpening=0.8,
        ),
        "camera-b": Camera(
            red_at=(1, 0),
            blur=0.55,
            shot_noise=0.0004,
            read_noise=0.003,
            gradient_corrected=True,
            sharpening=0.5,
        ),
        "camera-c": Camera(
            red_at=(0, 1),
            blur=0.5,
            shot_noise=0.0005,
            read_noise=0.0025,
            gradient_corrected=False,
            sharpening=0.6,
        ),
        "camera-d": Camera(
            red_at=(1, 1),
            blur=0.5,
            shot_noise=0.0005,
            read_noise=0.0025,
            gradient_corrected=True,
            sharpening=0.7,
        ),
    },
    "fake": {
        "generator-a": Generator(doubling="transposed", unevenness=0.03, detail=2.8, sharpening=0.6),
        "generator-b": Generator(doubling="bicubic", unevenness=0, detail=3.6, sharpening=0.8),
        "generator-c": Generator(doubling="transposed", unevenness=0.04, detail=3.0, sharpening=0.7),
        "generator-d": Generator(doubling="bicubic", unevenness=0, detail=3.3, sharpening=0.7),
    },
}
