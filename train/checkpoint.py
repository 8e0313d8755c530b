"""The detector's weights in a run's folder: `best.safetensors` and `last.safetensors`.

With the weights are the normaliser's statistics and the calibration, so that a run needs no store
to judge a picture.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from data_cards.errors import UserError
from train.detector import Detector
from train.files import whole_file

LAST, BEST = "last", "best"  # of the last epoch, and of that with the lowest validation loss


def weights_file(folder: Path, which: str) -> Path:
    """Where the "best" or "last" weights of a run are."""
    return folder / f"{which}.safetensors"


def save_weights(detector: Detector, folder: Path, which: str) -> None:
    """Write the detector's weights, statistics and calibration."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    with whole_file(weights_file(folder, which)) as temporary:
        temporary.write_bytes(save(tensors))


def load_weights(detector: Detector, folder: Path, which: str) -> None:
    """Take them up again.

    Raises
    ------
    UserError : the file is missing, damaged, or of another network
    """
    tensors = read_weights(folder, which)
    try:
        detector.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise UserError(_describe_damage(weights_file(folder, which))) from error


def read_weights(folder: Path, which: str) -> dict[str, torch.Tensor]:
    """What `save_weights` wrote, on the CPU; raises `UserError` where the file is missing or damaged."""
    file = weights_file(folder, which)
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; the run is incomplete, train it again") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(_describe_damage(file)) from error


def _describe_damage(file: Path) -> str:
    return f"{file}: not the weights of this run, or damaged; train it again"
