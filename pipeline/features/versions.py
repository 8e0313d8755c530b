"""Versions of this program and of the libraries that decide the last bit of a feature."""

from importlib.metadata import PackageNotFoundError, version

import numpy
import PIL
import scipy
from PIL import features


def get_feature_versions() -> dict[str, str]:
    """Return the versions of the libraries that compute features; another version may differ in the last place."""
    return {
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "pillow": PIL.__version__,
        "libjpeg": str(features.version("libjpeg_turbo") or features.version("jpg")),
        # From the package's metadata: loading PyTorch takes seconds. What it was built for does not count.
        "torch": version("torch").partition("+")[0],
    }


def get_program_version() -> str:
    """Return this program's version; "unknown" if it is not installed."""
    try:
        return version("spectral-detector")
    except PackageNotFoundError:
        return "unknown"
