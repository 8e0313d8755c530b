"""The state that a run goes on from: written after each epoch and, at intervals, within one.

PyTorch's file format, read with `weights_only=True`: tensors and plain values, never code. It has no checksum of
its tensors, so their file ends with the sha256 of what stands before: a run must not go on from a flipped bit. Order
and dropout are pure functions of (seed, epoch, step), so no random generator's state is in it.
The normaliser's statistics are not in it either: they are the store's.
"""

import hashlib
import io
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from data_cards.core.errors import UserError
from data_cards.core.files import whole_file
from train.run.folder import STATE

_DIGEST = hashlib.sha256().digest_size


@dataclass
class Position:
    """How far a run has come.

    Attributes
    ----------
    epoch : the epoch that is being trained, from 1
    batch : batches of it that are done
    loss_sum, correct, seen : over the samples of those batches
    seconds, waited : spent in this epoch, and of these waiting for data
    history : one dict a finished epoch
    best_epoch : whose weights are kept so far; 0 before the first epoch's end
    skipped : rows that could not be read so far, ascending
    ended : "" while the run goes on, else why it ended
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

    def begin_next_epoch(self) -> None:
        """Count on to the next epoch, with its sums at zero."""
        self.epoch += 1
        self.batch, self.loss_sum, self.correct, self.seen, self.seconds, self.waited = 0, 0.0, 0, 0, 0.0, 0.0


def save_state(folder: Path, position: Position, network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Write the state of a run, whole or not at all."""
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
    """Take up a run's state; a run that has none yet begins at its first step.

    Raises
    ------
    UserError : the state is damaged
    """
    path = folder / STATE
    if not path.exists():
        return Position()
    try:
        data = memoryview(path.read_bytes())
        if hashlib.sha256(data[:-_DIGEST]).digest() != data[-_DIGEST:]:
            raise ValueError("its checksum differs")
        state = torch.load(io.BytesIO(data[:-_DIGEST]), map_location="cpu", weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return Position(**state["position"])
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: the saved state is damaged; train anew into another --run") from error
