"""One-line error messages for failures in mid-run: a loss that is not finite, and too little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from data_cards.core.errors import UserError
from pipeline.store.reader import FeatureStore
from train.settings import SINGLE_LAYER, TrainSettings

_MOST_NAMED = 32  # pictures in a message
_USUAL_DECAY = 1.0  # above it may be what makes a loss grow


def nonfinite_loss_error(
    folder: Path,
    settings: TrainSettings,
    precision: torch.dtype,
    value: float,
    where: str,
    store: FeatureStore,
    rows: np.ndarray,
) -> UserError:
    """Return the error for a loss that is not finite.

    Parameters
    ----------
    folder : of the run
    precision : of the run's computations
    value : the loss
    where : epoch and step, such as "epoch 2, step 7"
    rows : ndarray of int, shape (n,); the batch, or the validation rows whose scores are not finite
    """
    names = [f"row {row} ({store.columns['image'][row]})" for row in rows[:_MOST_NAMED]]
    more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
    samples = f" on {', '.join(names)}{more}" if names else ""
    lower = [f"--lr (it was {settings.lr:g})"]
    if settings.weight_decay > _USUAL_DECAY:
        lower.append(f"--weight-decay (it was {settings.weight_decay:g})")
    other = "" if precision == torch.float32 else " or with --precision float32"
    return UserError(
        f"{folder}: the loss became {value} in {where}{samples}; train again with a lower {' or '.join(lower)}{other}"
    )


@contextmanager
def translating_out_of_memory(
    place: str | Path, settings: TrainSettings, device: torch.device, precision: torch.dtype
) -> Iterator[None]:
    """Raise running out of memory as a `UserError` that names `place` and says which options to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # PyTorch's own class is a RuntimeError, and only CUDA raises it
        if not _is_out_of_memory(error):
            raise
        convolves = settings.network not in SINGLE_LAYER
        what = [f"a lower --batch-size (it was {settings.batch_size})"]
        if precision == torch.float32 and device.type == "cuda" and convolves:
            what.append("--precision bf16")
        if len(settings.kinds) > 1:
            what.append(f"fewer planes with --channels (it was {settings.channels})")
        if settings.network != "small" and convolves:
            what.append(f"a smaller --network (it was {settings.network})")
        raise UserError(f"{place}: out of memory on {device}; start a new run with {', or '.join(what)}") from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # cuBLAS and cuDNN have messages of their own.
    return any(text in str(error) for text in ("out of memory", "DefaultCPUAllocator", "STATUS_ALLOC_FAILED"))
