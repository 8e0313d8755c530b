"""File of a run's experts, `experts.safetensors`: their arrays, with a digest in the file's metadata."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from data_cards.core.contained import read_contained
from data_cards.core.errors import UserError
from data_cards.core.files import whole_file
from train.model.experts import Experts

EXPERTS_FILE = "experts.safetensors"
_DIGEST = "sha256"  # key in the file's metadata
_MOST_BYTES = 2**20  # seven times the usual size


def save_experts(experts: Experts, folder: Path) -> None:
    """Write the experts into a run's folder."""
    arrays = experts.to_arrays()
    with whole_file(folder / EXPERTS_FILE) as temporary:
        temporary.write_bytes(save(arrays, {_DIGEST: _compute_digest(arrays)}))


def load_experts(folder: Path) -> Experts:
    """Read the experts of a run.

    Raises
    ------
    UserError : the file is missing or damaged
    """
    file = folder / EXPERTS_FILE
    try:
        read_contained(folder, EXPERTS_FILE, _MOST_BYTES)  # refuses special and oversized files
        with safe_open(file, "numpy") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
            wanted = (opened.metadata() or {}).get(_DIGEST)
        if wanted != _compute_digest(arrays):
            raise ValueError("its digest does not match")
        return Experts.from_arrays(arrays)
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file; the run is incomplete, train it again") from error
    except (SafetensorError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not the experts of a run, or damaged ({error}); train it again") from error


def _compute_digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
