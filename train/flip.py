"""The planes of a picture mirrored left to right, from the picture's own planes.

With f'(x) = f(N - 1 - x), substituting y = N - 1 - x in the DFT's sum gives

    F'(k) = exp(2 pi i k / N) F(-k)

of the horizontal frequency k; the vertical one stays. So the magnitude is mirrored, and the phase is
mirrored and turned by k / N of a full circle: the mirrored picture stands one pixel further left
than the mirrored spectrum alone says. The DCT-II's terms of odd u change their sign, which the store does
not hold. The same is true of transforms across the colours. Where planes are averaged over patches,
"phase" is the coherency of two colours, in which the turns cancel; there the mirroring is not exact, as
the patches' window and places are not symmetrical to the last pixel.
"""

from collections.abc import Sequence

import torch

from pipeline.settings import kind_of_planes

_CIRCLE = 256  # levels


class Flip:
    """Levels, uint8 or float16 (B, 3 * kinds, N, N), to those of the mirrored pictures, within one level.

    Parameters
    ----------
    kinds : of the planes, three of each
    side : N
    estimator : that the store was built with
    device : of the levels
    """

    def __init__(self, kinds: Sequence[str], side: int, estimator: str, device: torch.device):
        middle = side // 2
        columns = torch.arange(side, device=device)
        self._kinds = tuple(map(kind_of_planes, kinds))
        self._mirrored = (2 * middle - columns) % side
        self._turn = None if estimator == "averaged" else (columns - middle) * (_CIRCLE / side)

    def __call__(self, levels: torch.Tensor) -> torch.Tensor:
        flipped = levels.clone()
        for number, kind in enumerate(self._kinds):
            if kind == "dct":
                continue
            planes = slice(3 * number, 3 * number + 3)
            part = levels[:, planes].index_select(3, self._mirrored)
            if kind == "phase" and self._turn is not None:
                part = _turn(part, self._turn)
            flipped[:, planes] = part
        return flipped


def _turn(levels: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Phase levels plus `turn`, on their circle: 0 to 255 as uint8, -128 to 128 as float16."""
    angles = levels.float() + turn
    if levels.dtype == torch.uint8:
        return (angles.round() % _CIRCLE).to(torch.uint8)
    return (angles - _CIRCLE * (angles / _CIRCLE).round()).to(levels.dtype)
