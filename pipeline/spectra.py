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

from pipeline.mirror import fill_mirror_images

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
    planes = _assemble(magnitude.numpy(), phase.numpy(), dct.numpy())
    # pi and -pi are the same angle; mirroring may have turned one into the other.
    planes[3:6][planes[3:6] == -np.float32(np.pi)] = np.pi
    return planes


def quantised_planes(rgb: np.ndarray, dtype: str = "uint8") -> np.ndarray:
    """Planes of a picture on their fixed scales, as the store holds them.

    Magnitude and DCT: level 0..255 is linear from 0 to the plane's bound. Phase: level k is the
    angle 2 pi k / 256; as uint8 it is taken modulo 256, so that 128 is pi and mirroring negates
    modulo 256; as float16 it goes from -128 to 128.

    Parameters
    ----------
    rgb : uint8 (H, W, 3)
    dtype : "uint8", levels rounded to whole ones, or "float16"

    Returns
    -------
    (9, H, W) of that type, channels as `spectral_planes`
    """
    height, width = rgb.shape[:2]
    magnitude, phase, dct = _transform(rgb)
    magnitude.mul_((LEVELS - 1) / magnitude_bound(height, width))
    dct.mul_((LEVELS - 1) / dct_bound(height, width))
    phase.mul_(LEVELS / (2 * np.pi))
    if dtype == "float16":
        return _assemble(magnitude.half().numpy(), phase.half().numpy(), dct.half().numpy())
    # Through int16, because a negative float has no defined uint8. Rounding is odd, so a mirrored
    # bin's level is the negative modulo 256.
    steps = phase.round_().short().byte()
    return _assemble(magnitude.round_().byte().numpy(), steps.numpy(), dct.round_().byte().numpy())


def magnitude_bound(height: int, width: int) -> float:
    """The largest possible log magnitude, that of a white picture's mean."""
    return float(np.log1p(255.0 * height * width))


def dct_bound(height: int, width: int) -> float:
    """The largest possible log DCT coefficient, that of a white picture's mean."""
    return float(np.log1p(255.0 * np.sqrt(height * width)))


def _transform(rgb: np.ndarray) -> tuple:
    """Log magnitude and phase of the right half (3, H, W // 2 + 1), log DCT (3, H, W), all float32 tensors."""
    # Loading torch takes a second that commands without spectra need not pay. Its logarithm and
    # arctangent are vectorised: these two took most of the time with NumPy's.
    import torch

    channels = np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32)
    half = fft.rfft2(channels)
    height, width = rgb.shape[:2]
    # Bins that are their own mirror image are real; rounding must not give them another phase.
    for row in {0, height // 2} if height % 2 == 0 else {0}:
        for column in {0, width // 2} if width % 2 == 0 else {0}:
            half.imag[:, row, column] = 0
    real = torch.from_numpy(np.ascontiguousarray(half.real))
    imaginary = torch.from_numpy(np.ascontiguousarray(half.imag))
    phase = torch.atan2(imaginary, real)
    magnitude = real.square_().addcmul_(imaginary, imaginary).sqrt_().log1p_()
    dct = torch.from_numpy(fft.dctn(channels, axes=(1, 2), norm="ortho", overwrite_x=True)).abs_().log1p_()
    return magnitude, phase, dct


def _assemble(magnitude: np.ndarray, phase: np.ndarray, dct: np.ndarray) -> np.ndarray:
    """Whole centred planes (9, H, W) of one data type from the parts that `_transform` gives."""
    width = dct.shape[2]
    planes = np.empty((9, *dct.shape[1:]), dtype=dct.dtype)
    for half, whole, odd in ((magnitude, planes[0:3], False), (phase, planes[3:6], True)):
        half = fft.fftshift(half, axes=1)
        whole[:, :, width // 2 :] = half[:, :, : width - width // 2]
        whole[:, :, 0] = half[:, :, -1]  # frequency -W / 2 where the width is even; else overwritten
        fill_mirror_images(whole, odd)
    planes[6:9] = dct
    return planes
