"""Nine spectral planes of a picture: DFT magnitude, DFT phase and DCT of each colour.

For one colour channel f of H x W values 0..255, with F its unnormalised 2-D DFT and D its
orthonormal 2-D DCT-II:

    magnitude  log1p(|F|)   0 .. log1p(255 H W)
    phase      angle(F)     -pi .. pi
    dct        log1p(|D|)   0 .. log1p(255 sqrt(H W))

with zero frequency in the middle of the DFT planes (row H // 2, column W // 2). The ranges are
bounds that no picture can exceed, so that a level means the same in every picture.

A real picture's DFT has F(-k) = conj(F(k)). Only the half with non-negative horizontal frequency
is computed; the other is its mirror image to the last bit. The columns of frequency 0 and W / 2
are their own mirror images, where rounding could differ, so their lower half is mirrored too.
"""

import numpy as np
from scipy import fft

LEVELS = 256


def spectral_planes(rgb: np.ndarray) -> np.ndarray:
    """Planes of a picture in natural units.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)

    Returns
    -------
    float32 (9, H, W): magnitude R, G, B; phase R, G, B; DCT R, G, B
    """
    magnitude, phase, dct = _transform(rgb)
    height, width = rgb.shape[:2]
    planes = np.empty((9, height, width), dtype=np.float32)
    _mirror(magnitude, planes[0:3])
    _mirror(phase, planes[3:6], odd=True)
    # pi and -pi are the same angle; mirroring may have turned one into the other.
    planes[3:6][planes[3:6] == -np.float32(np.pi)] = np.pi
    planes[6:9] = dct
    return planes


def quantised_planes(rgb: np.ndarray) -> np.ndarray:
    """Planes of a picture on their fixed scales, as the store holds them.

    Magnitude and DCT: level 0..255 is linear from 0 to the plane's bound. Phase: level k is the
    angle 2 pi k / 256, so that 128 is pi and mirroring negates modulo 256.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)

    Returns
    -------
    uint8 (9, H, W), channels as `spectral_planes`
    """
    height, width = rgb.shape[:2]
    magnitude, phase, dct = _transform(rgb)
    planes = np.empty((9, height, width), dtype=np.uint8)
    _mirror(_to_levels(magnitude, magnitude_bound(height, width)), planes[0:3])
    _mirror(_to_circle(phase), planes[3:6], odd=True)
    planes[6:9] = _to_levels(dct, dct_bound(height, width))
    return planes


def magnitude_bound(height: int, width: int) -> float:
    """The largest possible log magnitude, that of a white picture's mean."""
    return float(np.log1p(255.0 * height * width))


def dct_bound(height: int, width: int) -> float:
    """The largest possible log DCT coefficient, that of a white picture's mean."""
    return float(np.log1p(255.0 * np.sqrt(height * width)))


def _transform(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log magnitude and phase of the right half (3, H, W // 2 + 1), log DCT (3, H, W), all float32."""
    channels = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32)
    half = fft.rfft2(channels)
    height, width = rgb.shape[:2]
    # Bins that are their own mirror image are real; rounding must not give them another phase.
    for row in {0, height // 2} if height % 2 == 0 else {0}:
        for column in {0, width // 2} if width % 2 == 0 else {0}:
            half.imag[:, row, column] = 0
    phase = np.arctan2(half.imag, half.real)
    magnitude = np.log1p(np.sqrt(np.square(half.real) + np.square(half.imag)))
    dct = fft.dctn(channels, axes=(1, 2), norm="ortho", overwrite_x=True)
    return magnitude, phase, np.log1p(np.abs(dct))


def _to_levels(values: np.ndarray, bound: float) -> np.ndarray:
    scaled = values * np.float32((LEVELS - 1) / bound)
    return np.minimum(np.rint(scaled), LEVELS - 1).astype(np.uint8)


def _to_circle(angle: np.ndarray) -> np.ndarray:
    # rint is odd, so a mirrored bin's level is the negative modulo 256, as the packing expects.
    return np.rint(angle * np.float32(LEVELS / (2 * np.pi))).astype(np.int16).astype(np.uint8)


def _mirror(half: np.ndarray, out: np.ndarray, odd: bool = False) -> None:
    """Fill whole planes (C, H, W), zero frequency in the middle, from their right half.

    `odd`: the mirror image is the negative (modulo 256 for uint8), else it is the same.
    """
    height, width = out.shape[1:]
    middle_row, middle_column = height // 2, width // 2
    half = fft.fftshift(half, axes=1)
    self_mirrored = (0, middle_column) if width % 2 == 0 else (0,)
    for column in self_mirrored:
        below = half[:, middle_row + 1 :, column]
        count = below.shape[1]
        half[:, middle_row - count : middle_row, column] = _turned(below[:, ::-1], odd)
    out[:, :, middle_column:] = half[:, :, : width - middle_column]
    left = half[:, :, middle_column:0:-1]  # frequencies W // 2 down to 1, in the order of columns 0..
    if height % 2:
        out[:, :, :middle_column] = _turned(left[:, ::-1], odd)
    else:
        # Row 0 is frequency -H / 2, its own mirror image.
        out[:, 0, :middle_column] = _turned(left[:, 0], odd)
        out[:, 1:, :middle_column] = _turned(left[:, :0:-1], odd)


def _turned(values: np.ndarray, odd: bool) -> np.ndarray:
    return np.negative(values) if odd else values
