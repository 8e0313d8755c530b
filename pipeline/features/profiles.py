"""Profile of a picture: the numbers that the experts read, traces of generators in its spectra.

| vector | length | what it holds |
|---|---|---|
| light | 9 | rings of the log luma of the whole picture, squeezed to 128 px, less their mean |
| colour | 36 | rings of Cb and of Cr, squeezed to 64 and to 128 px, each nine less their mean |
| harmonics | 162 | luma at native pixels: excess at multiples of 1/16 cycle a pixel, 9 x 9 bins of two spectra |
| tints | 324 | the same of B - Y and of R - Y |
| comb | 220 | luma: mean excess on combs of 110 periods, of two spectra |
| facts | 4 | height and width in px, deviation of luma and mean chroma in grey levels |

An excess is a log amplitude (natural logarithm) above its local background. A profile is the vectors one after the
other, in this order.
"""

import numpy as np
from PIL import Image
from scipy import fft
from scipy.ndimage import gaussian_filter

from pipeline.features.degradations import limit_size
from pipeline.features.profile_vectors import LARGE, LARGE_TO, PERIODS, PROFILE_VECTORS

REGION = 1024  # px, of the middle: more pixels cost time and change the means little
GRID = 16  # px: the region starts on a multiple of JPEG's and of most decoders' grids
PATCH, HOP = 128, 64  # px, of native pixels
POWER_FLOOR = 2.0  # grey levels squared: below lies the noise of rounding and of JPEG
RELATIVE_FLOOR = 1e-4  # of a patch's mean power
HARMONIC_STEP = 8  # bins of 1 / 128: multiples of 1/16 cycle a pixel
JPEG_CAP = 0.1  # largest excess that counts on the harmonics of JPEG's own blocks of 8 px
SMALL_PATCH, RINGS = 16, 9  # px, and rings of frequency, of the squeezed picture
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B (ITU-R BT.601)

# Profiles are rounded to multiples of this: far below what they vary by, and processors that differ in a sum's last
# bit then agree.
PROFILE_STEP = 2.0**-12


def compute_profile(picture: Image.Image) -> np.ndarray:
    """Compute the profile of an RGB picture.

    Returns
    -------
    ndarray of float32, shape (755,)
        Multiples of `PROFILE_STEP`, finite for every picture; its vectors are told apart by
        `pipeline.features.profile_vectors.split_profiles`.
    """
    vectors = compute_vectors(picture)
    profile = np.concatenate([vectors[name] for name in PROFILE_VECTORS])
    return (np.rint(profile / PROFILE_STEP) * PROFILE_STEP).astype(np.float32)


def compute_vectors(picture: Image.Image) -> dict[str, np.ndarray]:
    """Compute the vectors of an RGB picture: float32 each, not rounded, see the module."""
    rgb = np.asarray(picture)
    luma, blue, red = extract_native_planes(picture)
    of_luma = [compute_excess(spectrum) for spectrum in compute_mean_spectra(luma)]
    of_tints = [compute_excess(spectrum) for plane in (blue, red) for spectrum in compute_mean_spectra(plane)]
    facts = [*rgb.shape[:2], luma.std(), np.abs(blue).mean() + np.abs(red).mean()]
    return {
        **compute_squeezed(picture),
        "harmonics": np.concatenate([select_harmonics(excess) for excess in of_luma]),
        "tints": np.concatenate([select_harmonics(excess) for excess in of_tints]),
        "comb": np.concatenate([compute_comb(excess) for excess in of_luma]),
        "facts": np.array(facts, np.float32),
    }


def extract_native_planes(picture: Image.Image) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Y, B - Y and R - Y of the middle region: float32, grey levels, at most `REGION` px a side."""
    rgb = np.asarray(limit_size(picture, LARGE_TO, "lanczos", above=LARGE))
    sides = [min(side, REGION) for side in rgb.shape[:2]]
    top, left = ((whole - side) // 2 // GRID * GRID for whole, side in zip(rgb.shape[:2], sides, strict=True))
    region = rgb[top : top + sides[0], left : left + sides[1]].astype(np.float32)
    luma = region @ _LUMA
    return luma, region[..., 2] - luma, region[..., 0] - luma


def compute_mean_spectra(plane: np.ndarray) -> np.ndarray:
    """Compute two mean log amplitude spectra over Hann patches, quadrants folded.

    The first has an absolute floor; the second takes each patch's power relative to its own mean, so that contrast
    does not count. A picture smaller than a patch is padded by 0 after the window.

    Parameters
    ----------
    plane : float32 (H, W), grey levels

    Returns
    -------
    float32 (2, 65, 65), bins of 1 / 128 cycle a pixel
    """
    power_logs = np.zeros((2, PATCH, PATCH // 2 + 1), np.float32)
    patches = 0
    for power in iterate_powers(plane):
        mean_power = power.mean((1, 2), keepdims=True) + 0.05  # a flat patch has none
        power_logs[0] += np.log(power + POWER_FLOOR).sum(0)
        power_logs[1] += np.log(power / mean_power + RELATIVE_FLOOR).sum(0)
        patches += len(power)
    return np.stack([fold_quadrants(one) for one in 0.5 * power_logs / patches])


def iterate_powers(plane: np.ndarray):
    """Yield power spectra of Hann patches, a row of patches at a time: float32 (patches, 128, 65)."""
    height, width = (min(PATCH, side) for side in plane.shape)
    window = make_hann(height, width)
    tops, lefts = _place_patches(plane.shape[0], height), _place_patches(plane.shape[1], width)
    for top in tops:
        patches = np.stack([plane[top : top + height, left : left + width] for left in lefts])
        spectrum = fft.rfft2((patches - patches.mean((1, 2), keepdims=True)) * window, s=(PATCH, PATCH))
        yield spectrum.real**2 + spectrum.imag**2


def _place_patches(side: int, patch: int) -> np.ndarray:
    return np.unique(np.linspace(0, side - patch, max(1, (side - patch) // HOP + 1)).astype(int))


def make_hann(height: int, width: int) -> np.ndarray:
    """Make a Hann window of unit energy, float32 (height, width)."""
    window = np.outer(np.hanning(height + 1)[:-1], np.hanning(width + 1)[:-1]).astype(np.float32)
    return window / np.sqrt(max((window**2).sum(), np.float32(1e-12)))  # of one pixel it is 0


def fold_quadrants(spectrum: np.ndarray) -> np.ndarray:
    """Average a half spectrum (N, N / 2 + 1) over the sign of its rows' frequency: (N / 2 + 1, N / 2 + 1)."""
    half = len(spectrum) // 2
    folded = spectrum[: half + 1].copy()
    folded[1:half] = (folded[1:half] + spectrum[:half:-1]) / 2
    return folded


def compute_excess(spectrum: np.ndarray, sigma: float = 2.0, clip: float = 0.25, rounds: int = 3) -> np.ndarray:
    """Subtract the background from a log spectrum: a Gaussian of `sigma` bins, peaks clipped to +-`clip` around it."""
    clipped = spectrum
    for _ in range(rounds):
        background = gaussian_filter(clipped, sigma, mode="reflect")
        clipped = np.clip(spectrum, background - clip, background + clip)
    return (spectrum - gaussian_filter(clipped, sigma, mode="reflect")).astype(np.float32)


def select_harmonics(excess: np.ndarray) -> np.ndarray:
    """Select the bins at multiples of 1/16 cycle a pixel, float32 (81,)."""
    return excess[::HARMONIC_STEP, ::HARMONIC_STEP].ravel()


def compute_comb(excess: np.ndarray, periods: np.ndarray = PERIODS, cap: float | None = JPEG_CAP) -> np.ndarray:
    """Average the excess at all (k1, k2) / period but (0, 0), float32, one number a period.

    Parameters
    ----------
    excess : float32 (65, 65)
    periods : in px
    cap : largest excess that counts within a bin of the rows and columns of JPEG's 1/8 cycle; None for no cap
    """
    half = len(excess) - 1
    if cap is not None:
        excess = excess.copy()
        for centre in range(0, half + 1, half // 4):
            near = slice(max(0, centre - 1), centre + 2)
            excess[near] = np.minimum(excess[near], cap)
            excess[:, near] = np.minimum(excess[:, near], cap)
    means = []
    for period in periods:
        # A bin is 1 / (2 * half) cycle a pixel; 1e-6 keeps the harmonic at exactly half a cycle.
        bins = np.rint(np.arange(int(period / 2 + 1e-6) + 1) * 2 * half / period).astype(int)
        bins = bins[bins <= half]
        means.append(excess[bins[:, None], bins[None]].ravel()[1:].mean())
    return np.array(means, np.float32)


def compute_squeezed(picture: Image.Image) -> dict[str, np.ndarray]:
    """Compute `light` (9,) and `colour` (36,) of the whole picture, squeezed to a square."""
    light, colour = None, {}
    for side in (64, 128):
        filter = Image.Resampling.BOX if min(picture.size) >= side else Image.Resampling.BICUBIC
        small = np.asarray(picture.resize((side, side), filter)).astype(np.float32)
        luma = small @ _LUMA
        colour["cb", side] = compute_rings(0.564 * (small[..., 2] - luma))
        colour["cr", side] = compute_rings(0.713 * (small[..., 0] - luma))
        light = compute_rings(40 * np.log(luma + 8), floor=20.0)  # 40: about the contrast of grey levels
    return {"light": light, "colour": np.concatenate([colour[key] for key in sorted(colour)])}


def _make_rings(patch: int, rings: int) -> np.ndarray:
    """Make the matrix that averages a half spectrum by rings, float32 (bins, rings); the last takes all above."""
    radius = np.hypot((np.fft.fftfreq(patch) * patch)[:, None], np.arange(patch // 2 + 1))
    ring = np.minimum((radius + 0.5).astype(int), rings).ravel()
    return np.stack([(ring == number) / (ring == number).sum() for number in range(1, rings + 1)], 1).astype(np.float32)


_RING_MATRIX = _make_rings(SMALL_PATCH, RINGS)
_SMALL_WINDOW = make_hann(SMALL_PATCH, SMALL_PATCH)


def compute_rings(plane: np.ndarray, floor: float = 0.1) -> np.ndarray:
    """Compute the mean log amplitude by ring of frequency over patches of 16 px, less its mean: float32 (9,)."""
    size = (SMALL_PATCH, SMALL_PATCH)
    step = SMALL_PATCH // 2
    patches = np.lib.stride_tricks.sliding_window_view(plane, size)[::step, ::step].reshape(-1, *size)
    spectrum = fft.rfft2((patches - patches.mean((1, 2), keepdims=True)) * _SMALL_WINDOW)
    log_amplitude = 0.5 * np.log(spectrum.real**2 + spectrum.imag**2 + floor)
    rings = log_amplitude.reshape(len(spectrum), -1).mean(0) @ _RING_MATRIX
    return (rings - rings.mean()).astype(np.float32)
