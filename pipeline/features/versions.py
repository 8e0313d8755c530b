"""Versions of this program, and of everything that affects the last bit of a feature."""

from importlib.metadata import PackageNotFoundError, version

import numpy
import PIL
import scipy
from PIL import features

# Raise it when the numbers of `pipeline.features.profiles` change, even in the last bit. Stores with profiles but
# without this version have version 1.
PROFILE_VERSION = "3"


def get_feature_versions(*, profiles: bool = True) -> dict[str, str]:
    """Return the versions of the libraries that compute features; other versions may differ in the last bit.

    With `profiles`, the version of this program's computation of profiles is included.
    """
    versions = {
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version("libjpeg_turbo") or features.version("jpg")),
        # From the package's metadata: loading PyTorch takes seconds. The build variant is left out.
        "torch": version("torch").partition("+")[0],
    }
    return versions | {"profiles": PROFILE_VERSION} if profiles else versions


def get_program_version() -> str:
    """Return this program's version; "unknown" if it is not installed."""
    try:
        return version("spectral-detector")
    except PackageNotFoundError:
        return "unknown"
