"""Files of the detector's weights in a run folder: `best.safetensors` and `last.safetensors`.

They include the normaliser's statistics and the calibration, so that a run needs no store to score a
picture. The file's metadata has a digest of them: a flipped bit must not change a verdict.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from data_cards.core.errors import UserError
from data_cards.core.files import whole_file
from train.model.plane_detector import PlaneDetector
from train.run.weights_file import weights_file

_DIGEST = "sha256"  # key in the file's metadata


def save_weights(detector: PlaneDetector, folder: Path, which: str) -> None:
    """Write the detector's weights, statistics and calibration."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in detector.state_dict().items()}
    with whole_file(weights_file(folder, which)) as temporary:
        temporary.write_bytes(save(tensors, {_DIGEST: _digest(tensors)}))


def load_weights(detector: PlaneDetector, folder: Path, which: str) -> None:
    """Load the weights of `save_weights` into a detector.

    Raises
    ------
    UserError : the file is missing, damaged, or of another network
    """
    tensors = read_weights(folder, which)
    try:
        detector.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        raise _damage_error(weights_file(folder, which)) from error


def read_weights(folder: Path, which: str) -> dict[str, torch.Tensor]:
    """Read the tensors of `save_weights`, on the CPU; raises `UserError` for a missing or damaged file."""
    file = weights_file(folder, which)
    try:
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
            wanted = (opened.metadata() or {}).get(_DIGEST)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; the run is incomplete, train it again") from error
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise _damage_error(file) from error
    if wanted != _digest(tensors):
        raise _damage_error(file)
    return tensors


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Compute the SHA-256, hexadecimal, of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _damage_error(file: Path) -> UserError:
    return UserError(f"{file}: not the weights of this run, or damaged; train it again")
