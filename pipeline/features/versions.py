"""Versions of this program, and of all that decides the last bit of a feature."""

from importlib.metadata import PackageNotFoundError, version

import numpy
import PIL
import scipy
from PIL import features

# Raise it when `pipeline.features.profiles` computes other numbers, and be it in the last bit. Stores of profiles that
# name no version have 1.
PROFILE_VERSION = "2"


def get_feature_versions(*, profiles: bool = True) -> dict[str, str]:
    """Return the versions of what computes features; another version may differ in the last place.

    Libraries, and with `profiles` this program's computation of profiles.
    """
    versions = {
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version("libjpeg_turbo") or features.version("jpg")),
        # From the package's metadata: loading PyTorch takes seconds. What it was built for does not count.
        "torch": version("torch").partition("+")[0],
    }
    return versions | {"profiles": PROFILE_VERSION} if profiles else versions


def get_program_version() -> str:
    """Return this program's version; "unknown" if it is not installed."""
    try:
        return version("spectral-detector")
    except PackageNotFoundError:
        return "unknown"
