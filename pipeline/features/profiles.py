"""Profile of a picture: the numbers that the experts read, traces of generators in its spectra.

| vector | length | what it holds |
|---|---|---|
| light | 9 | rings of the log luma of the whole picture, squeezed to 128 px, less their mean |
| colour | 36 | rings of Cb and of Cr, squeezed to 64 and to 128 px, each nine less their mean |
| harmonics | 162 | luma at native pixels: excess at multiples of 1/16 cycle a pixel, 9 x 9 bins of two spectra |
| tints | 324 | as `harmonics`, of B - Y and of R - Y |
| comb | 220 | luma: mean excess on combs of 110 periods, of two spectra |
| facts | 4 | height and width in px, deviation of luma and mean chroma in grey levels |

An excess is a log amplitude (natural logarithm) above its local background. A profile is these vectors in this order.
"""

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from pipeline.features.degradations import apply_steps
from pipeline.features.patch_spectra import HALF, PATCH, compute_mean_spectra, make_hann
from pipeline.features.profile_vectors import PERIODS, PROFILE_VECTORS, SHRINK_LARGE

REGION = 1024  # px, of the middle: more pixels cost time and change the means little
GRID = 16  # px: the region starts on a multiple of JPEG's and of most decoders' grids
FACT_ROWS = 4  # contrast and chroma are measured on every fourth row of the region
SIGMA = 2.0  # bins, deviation of the Gaussian mean that is a spectrum's background
HARMONIC_STEP = 8  # bins of 1 / 128: multiples of 1/16 cycle a pixel
JPEG_CAP = 0.1  # largest excess that counts on the harmonics of JPEG's own blocks of 8 px
SQUEEZED = 128  # px, side of the square that the whole picture is squeezed to
SMALL_PATCH, RINGS = 16, 9  # px of their patches, and number of rings of frequency
_ROWS = 64  # converted at a time: they fit the processor's cache
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B (ITU-R BT.601)

# Profiles are rounded to multiples of this: far below their variation, but enough to make processors agree whose sums
# differ in the last bit.
PROFILE_STEP = 2.0**-12


def compute_profile(picture: Image.Image, size: tuple[int, int] | None = None) -> np.ndarray:
    """Compute the profile of an RGB picture; a large one is shrunk first, by the step `SHRINK_LARGE`.

    Parameters
    ----------
    picture : PIL.Image.Image of mode RGB
    size : tuple of int, width and height that the vector `facts` holds; None for those of the picture

    Returns
    -------
    ndarray of float32, shape (755,)
        Multiples of `PROFILE_STEP`, finite for every picture. `pipeline.features.profile_vectors.split_profiles`
        splits it into its vectors.
    """
    vectors = compute_vectors(picture, size)
    profile = np.concatenate([vectors[name] for name in PROFILE_VECTORS])
    return (np.rint(profile / PROFILE_STEP) * PROFILE_STEP).astype(np.float32)


def compute_vectors(picture: Image.Image, size: tuple[int, int] | None = None) -> dict[str, np.ndarray]:
    """Compute the vectors of a profile by name (see the module): float32 each, not rounded; as `compute_profile`."""
    width, height = size or picture.size
    picture = apply_steps(picture, (SHRINK_LARGE,))
    planes = extract_native_planes(picture)
    luma, *tints = np.split(compute_excess(np.concatenate([compute_mean_spectra(plane) for plane in planes])), 3)
    luma_rows, *tint_rows = planes[:, ::FACT_ROWS]
    contrast, chroma = luma_rows.std(), sum(np.abs(rows).mean() for rows in tint_rows)
    return {
        **compute_squeezed(picture),
        "harmonics": select_harmonics(luma),
        "tints": select_harmonics(np.concatenate(tints)),
        "comb": np.concatenate([compute_comb(excess) for excess in luma]),
        "facts": np.array([height, width, contrast, chroma], np.float32),
    }


def extract_native_planes(picture: Image.Image) -> np.ndarray:
    """Return Y, B - Y and R - Y of the middle region: float32 (3, H, W), grey levels, at most `REGION` px a side."""
    picture = apply_steps(picture, (SHRINK_LARGE,))
    width, height = (min(side, REGION) for side in picture.size)
    left, top = (picture.width - width) // 2 // GRID * GRID, (picture.height - height) // 2 // GRID * GRID
    bands = [np.asarray(band) for band in picture.crop((left, top, left + width, top + height)).split()]
    planes = np.empty((3, height, width), np.float32)
    for start in range(0, height, _ROWS):
        rows = slice(start, start + _ROWS)
        red, green, blue = (band[rows].astype(np.float32) for band in bands)
        luma = np.multiply(red, _LUMA[0], out=planes[0, rows])
        luma += np.multiply(green, _LUMA[1], out=green)
        luma += _LUMA[2] * blue
        np.subtract(blue, luma, out=planes[1, rows])
        np.subtract(red, luma, out=planes[2, rows])
    return planes


def compute_excess(spectra: np.ndarray, clip: float = 0.25, rounds: int = 3) -> np.ndarray:
    """Subtract the background from log spectra, float32 (..., 65, 65).

    The background is a Gaussian mean with a deviation of `SIGMA` bins, after peaks are clipped to +-`clip` around it.
    """
    clipped = spectra
    for _ in range(rounds):
        background = _SMOOTHING @ clipped @ _SMOOTHING.T
        clipped = np.clip(spectra, background - clip, background + clip)
    return spectra - _SMOOTHING @ clipped @ _SMOOTHING.T


def select_harmonics(excess: np.ndarray) -> np.ndarray:
    """Select the bins at multiples of 1/16 cycle a pixel from one or more spectra, float32 (81 each,)."""
    return excess[..., ::HARMONIC_STEP, ::HARMONIC_STEP].ravel()


def compute_comb(excess: np.ndarray, periods: np.ndarray = PERIODS, cap: float | None = JPEG_CAP) -> np.ndarray:
    """Average the excess at all (k1, k2) / period except (0, 0): float32, one number for each period.

    Parameters
    ----------
    excess : float32 (65, 65)
    periods : in px
    cap : largest excess that counts within a bin of the rows and columns of JPEG's 1/8 cycle; None for no cap
    """
    if cap is not None:
        excess = excess.copy()
        for centre in range(0, HALF + 1, HALF // 4):
            near = slice(max(0, centre - 1), centre + 2)
            excess[near] = np.minimum(excess[near], cap)
            excess[:, near] = np.minimum(excess[:, near], cap)
    teeth = _TEETH if periods is PERIODS else _make_teeth(periods)
    sums = ((teeth @ excess) * teeth).sum(1) - excess[0, 0]
    return (sums / (teeth.sum(1) ** 2 - 1)).astype(np.float32)


def _make_teeth(periods: np.ndarray) -> np.ndarray:
    """Return which bins are multiples of 1 / period, 1 or 0: float32 (periods, 65)."""
    teeth = np.zeros((len(periods), HALF + 1), np.float32)
    for row, period in zip(teeth, periods, strict=True):
        # A bin is 1 / 128 cycle a pixel; 1e-6 keeps the harmonic at exactly half a cycle.
        bins = np.rint(np.arange(int(period / 2 + 1e-6) + 1) * PATCH / period).astype(int)
        row[bins[bins <= HALF]] = 1
    return teeth


_TEETH = _make_teeth(PERIODS)
_SMOOTHING = gaussian_filter1d(np.eye(HALF + 1, dtype=np.float32), SIGMA, axis=0, mode="reflect")


def compute_squeezed(picture: Image.Image) -> dict[str, np.ndarray]:
    """Compute `light` (9,) and `colour` (36,) of the whole picture, squeezed to squares of 128 and of 64 px."""
    filter = Image.Resampling.BOX if min(picture.size) >= SQUEEZED else Image.Resampling.BICUBIC
    small = np.asarray(picture.resize((SQUEEZED, SQUEEZED), filter)).astype(np.float32)
    luma = small @ _LUMA
    # 40: about the contrast of grey levels
    planes = np.stack([0.564 * (small[..., 2] - luma), 0.713 * (small[..., 0] - luma), 40 * np.log(luma + 8)])
    *colour, light = compute_rings(planes, _RING_FLOORS)
    halved = sum(planes[:2, top::2, left::2] for top in (0, 1) for left in (0, 1)) / 4
    return {"light": light, "colour": np.stack([compute_rings(halved, _RING_FLOORS[:2]), colour], 1).ravel()}


def _make_rings(patch: int, rings: int) -> np.ndarray:
    """Make the matrix that averages a half spectrum by rings, float32 (bins, rings); the last has all above."""
    radius = np.hypot((np.fft.fftfreq(patch) * patch)[:, None], np.arange(patch // 2 + 1))
    ring = np.minimum((radius + 0.5).astype(int), rings).ravel()
    return np.stack([(ring == number) / (ring == number).sum() for number in range(1, rings + 1)], 1).astype(np.float32)


_RING_MATRIX = _make_rings(SMALL_PATCH, RINGS)
_SMALL_WINDOW = make_hann(SMALL_PATCH, SMALL_PATCH).ravel()
_SMALL_MEAN = np.full((SMALL_PATCH**2, 1), SMALL_PATCH**-2, np.float32)


_RING_FLOORS = np.array([0.1, 0.1, 20.0], np.float32)  # of the power of Cb, Cr and log luma


def compute_rings(planes: np.ndarray, floors: np.ndarray) -> np.ndarray:
    """Compute the mean log amplitude by ring of frequency over patches of 16 px, less its mean.

    Parameters
    ----------
    planes : float32 (n, side, side)
    floors : float32 (n,), of the power

    Returns
    -------
    float32 (n, 9)
    """
    size, step = (SMALL_PATCH, SMALL_PATCH), SMALL_PATCH // 2
    patches = np.lib.stride_tricks.sliding_window_view(planes, size, axis=(1, 2))[:, ::step, ::step]
    pixels = patches.reshape(-1, SMALL_PATCH**2)
    pixels = (pixels - pixels @ _SMALL_MEAN) * _SMALL_WINDOW
    power = np.abs(fft.rfft2(pixels.reshape(-1, *size), workers=1)).reshape(len(planes), -1, len(_RING_MATRIX))
    power = np.square(power, out=power)
    power += floors[:, None, None]
    rings = 0.5 * np.log(power, out=power).mean(1) @ _RING_MATRIX
    return rings - rings.mean(1, keepdims=True)
