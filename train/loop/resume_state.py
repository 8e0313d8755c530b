"""The state from which a run resumes, written after each epoch and, at intervals, within one.

The file has PyTorch's format, read with `weights_only=True`: tensors and plain values, never code. The format has no
checksum, so the file ends with the SHA-256 of the bytes before it, and a damaged state is refused. Order and dropout
are pure functions of (seed, epoch, step), so no random generator's state is stored. The normaliser's statistics are in
the store.
"""

import hashlib
import io
import pickle
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from data_cards.core.contained import read_contained
from data_cards.core.errors import DAMAGE, UserError
from data_cards.core.files import whole_file
from data_cards.core.value_types import check_types
from train.run.folder import STATE

_DIGEST = hashlib.sha256().digest_size
_COPIES = 4  # of the weights: themselves and the optimiser's two moments
_STATE_BYTES = 2**28  # besides them: the history, and rows that were skipped


@dataclass
class Position:
    """The progress of a run.

    Attributes
    ----------
    epoch : int, the epoch in training, from 1
    batch : int, batches of this epoch that are done
    loss_sum, correct, seen : sum of losses in nats, correct predictions and samples in those batches
    seconds, waited : seconds spent in this epoch, and the part of them that steps waited for data
    history : one dict a finished epoch
    best_epoch : epoch whose weights are kept so far; 0 before the end of the first
    skipped : rows that could not be read so far, ascending
    ended : "" while the run continues, else the reason of its end
    prolonged : int, epochs that were done when the finished run was prolonged, as in its settings; 0 if it was not
    """

    epoch: int = 1
    batch: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    history: list[dict] = field(default_factory=list)
    best_epoch: int = 0
    skipped: list[int] = field(default_factory=list)
    ended: str = ""
    prolonged: int = 0

    def begin_next_epoch(self) -> None:
        """Move to the start of the next epoch, with its sums at zero."""
        self.epoch += 1
        self.batch, self.loss_sum, self.correct, self.seen, self.seconds, self.waited = 0, 0.0, 0, 0, 0.0, 0.0


def save_state(folder: Path, position: Position, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write the state of a run, completely or not at all."""
    # In memory first: PyTorch's own writer hides that a disk is full.
    buffer = io.BytesIO()
    torch.save(
        {
            "position": asdict(position),
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
        },
        buffer,
    )
    with whole_file(folder / STATE) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())
        file.write(hashlib.sha256(buffer.getbuffer()).digest())


def load_state(folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> Position:
    """Load a run's state into network and optimiser; a run without a saved state begins at its first step.

    Raises
    ------
    UserError : the state is damaged
    """
    path = folder / STATE
    if not path.exists():
        return Position()
    try:
        held = sum(value.nbytes for value in network.state_dict().values())
        data = memoryview(read_contained(folder, STATE, _STATE_BYTES + _COPIES * held))
        if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
            raise ValueError("its checksum differs")
        file = io.BytesIO(data[:-_DIGEST])
        if any(one.compress_type != zipfile.ZIP_STORED for one in zipfile.ZipFile(file).infolist()):
            raise ValueError("a part is compressed")  # PyTorch stores all as it is
        file.seek(0)
        state = torch.load(file, map_location="cpu", weights_only=True)
        check_types(Position, state["position"])
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return Position(**state["position"])
    except (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, *DAMAGE) as error:
        raise UserError(f"{path}: the saved state is damaged; train again into another --run") from error
