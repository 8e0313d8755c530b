"""Test for pictures without colours of their own: grey or partly grey, sepia, one tint, a colour for each brightness.

The detector reads colours, and its training pictures have them.
"""

import numpy as np
from PIL import Image

SIDE = 96  # px, of the small copy that is read
GROUPS = 64  # of pixels of about the same brightness
# In 78 pictures of many sources the rest was at least 3.7 grey levels and the share at least 0.12. In sepia versions of
# these pictures the rest was at most 2.7; in strong duotones the median share was 0.05.
LEAST_REST = 3.0  # grey levels
LEAST_SHARE = 0.1
# Of 1,404 pictures, 9 that are not grey otherwise have less. Of versions in two or three tints, 99% have less.
LEAST_OF_CHROMA = 0.08
# In 578 such pictures at most 0.17 of the area was neutral. In versions that were grey outside the middle ninth, 19 of
# 20 had at least 0.46.
MOST_NEUTRAL = 0.25  # share of the area
_NEUTRAL = 1.0  # grey levels, |B - Y| + |R - Y|
_MIDDLE = (24, 232)  # grey levels of brightness between which a camera's picture is seldom exactly neutral
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G, B (ITU-R BT.601)


def has_own_colours(picture: Image.Image) -> bool:
    """Return whether the colours of an RGB picture vary where its brightness does not.

    In a toned picture, the colour is a function of the brightness, so B - Y and R - Y hardly differ from their medians
    over pixels of the same brightness. Their mean difference from these, the rest, is small in grey levels, or small
    in comparison with the mean difference from the medians over all pixels (the share), or with the mean of B - Y and
    R - Y themselves. In a picture that is partly grey, a large area of middle brightness is neutral.
    """
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
    luma = small @ _LUMA
    tints = small[..., [2, 0]] - luma[..., None]
    neutral = (np.abs(tints).sum(axis=-1) < _NEUTRAL) & (luma > _MIDDLE[0]) & (luma < _MIDDLE[1])
    if neutral.mean() > MOST_NEUTRAL:
        return False
    tints = tints.reshape(-1, 2)[np.argsort(luma, axis=None, kind="stable")]
    groups = np.array_split(tints, GROUPS)
    rest = np.abs(np.concatenate([group - np.median(group, axis=0) for group in groups])).mean(0).sum()
    whole = np.abs(tints - np.median(tints, axis=0)).mean(0).sum()
    chroma = np.abs(tints).mean(0).sum()
    return bool(rest >= max(LEAST_REST, LEAST_SHARE * whole, LEAST_OF_CHROMA * chroma))
