"""Names of the files of a network's weights in a run folder."""

from pathlib import Path

LAST, BEST = "last", "best"  # of the last epoch, and of the epoch that is kept


def weights_file(folder: Path, which: str) -> Path:
    """Return the path of the "best" or "last" weights of a run."""
    return folder / f"{which}.safetensors"
