"""Files of the detector's weights in a run folder: `best.safetensors` and `last.safetensors`.

They include the normaliser's statistics and the calibration, so that a run needs no store to score a
picture. The file's metadata has a digest of them: a flipped bit must not change a verdict.
"""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from data_cards.core.bounded_json import parse_json
from data_cards.core.contained import open_contained_file
from data_cards.core.errors import DAMAGE, UserError
from data_cards.core.files import whole_file
from train.model.plane_detector import PlaneDetector
from train.run.weights_file import weights_file

LEVELS = 256  # of a plane's values: means and deviations are within them

_DIGEST = "sha256"  # key in the file's metadata
_MOST_HEADER = 2**20  # bytes
_TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


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
    tensors = read_weights(detector, folder, which)
    try:
        detector.load_state_dict(tensors, assign=True)
        detector.to(memory_format=torch.channels_last)
    except (RuntimeError, ValueError) as error:
        raise _damage_error(weights_file(folder, which)) from error


def read_weights(detector: PlaneDetector, folder: Path, which: str) -> dict[str, torch.Tensor]:
    """Read the tensors of `save_weights` that a detector needs, on the CPU.

    Names, types and shapes are compared with the detector's before memory is taken for any tensor.

    Raises
    ------
    UserError : the file is missing, damaged, or of another network, or holds impossible values
    """
    file = weights_file(folder, which)
    try:
        _check_header(detector, folder, file.name)
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
            wanted = (opened.metadata() or {}).get(_DIGEST)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; the run is incomplete, train it again") from error
    except (SafetensorError, RuntimeError, *DAMAGE) as error:
        raise _damage_error(file) from error
    if wanted != _digest(tensors) or not _are_possible(tensors):
        raise _damage_error(file)
    return tensors


def _check_header(detector: PlaneDetector, folder: Path, name: str) -> None:
    """Raise `ValueError` if the header of a safetensors file does not list the detector's tensors."""
    with open_contained_file(folder, name) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"a header of {length:,} bytes, expected at most {_MOST_HEADER:,}")
        listed = parse_json(file.read(length))
    listed.pop("__metadata__", None)
    found = {tensor: (one["dtype"], tuple(one["shape"])) for tensor, one in listed.items()}
    wanted = {tensor: (_TYPES[one.dtype], tuple(one.shape)) for tensor, one in detector.state_dict().items()}
    if found != wanted:
        different = sorted(set(found.items()) ^ set(wanted.items()))[0][0]
        raise ValueError(f"{different} is {found.get(different)}, expected {wanted.get(different)}")


def _are_possible(tensors: dict[str, torch.Tensor]) -> bool:
    """Return whether a training can produce these values: a forged network could call every picture real."""
    mean, std = (tensors[f"normalise.{name}"] for name in ("mean", "std"))
    statistics = [mean.amin() >= 0, mean.amax() <= LEVELS, std.amin() >= 0, 0 < std.amax() <= LEVELS]
    variances = [value.amin() >= 0 for name, value in tensors.items() if name.endswith("running_var")]
    return all(map(bool, [*statistics, *variances, *(torch.isfinite(value).all() for value in tensors.values())]))


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    """Compute the SHA-256, hexadecimal, of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _damage_error(file: Path) -> UserError:
    return UserError(f"{file}: not the weights of this run, or damaged; train it again")
