"""Samples mixed at random while training (mixup), and the training loss.

What is drawn for a step is a pure function of (seed, step) and the same on every device: two numbers a
sample, drawn on the CPU. The planes are mixed where they are, as normalised values.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from data_cards.core.labels import CLASS_NAMES
from train.data.sampling import draw_seed
from train.model.distributed import SINGLE_PROCESS, ProcessGroup
from train.settings import TrainSettings


@dataclass(frozen=True)
class Draws:
    """How the samples of one step are mixed; both are None where they are not.

    Attributes
    ----------
    partners : int64 (B,), the sample that each is mixed with
    shares : float (B,), what is kept of each sample; the rest is its partner's
    """

    partners: np.ndarray | None = None
    shares: np.ndarray | None = None


class Augmenter:
    """Draws and makes the changes that the settings of a run ask for.

    Parameters
    ----------
    device : where the samples are
    """

    def __init__(self, settings: TrainSettings, device: torch.device):
        self._settings = settings
        self._device = device

    def draw(self, step: int, count: int, group: ProcessGroup = SINGLE_PROCESS) -> Draws:
        """What happens to the samples of this process's part of a step's batch, which has `count` in all.

        Shares are those of mixup (Zhang et al., 2018), one a sample.
        """
        settings = self._settings
        if not settings.mixup:
            return Draws()
        # The fourth generator: the others belonged to changes that are no more, and a seed keeps its meaning.
        rng = np.random.default_rng(draw_seed(settings.seed, step)).spawn(4)[3]
        shares, part = rng.beta(settings.mixup, settings.mixup, count), group.local_slice(count)
        # Partners are samples that this process has.
        partners = rng.spawn(group.size)[group.rank].permutation(part.stop - part.start)
        return Draws(partners, shares[part])

    def mix_values(self, values: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Normalised values (B, planes, H, W), mixed."""
        if draws.shares is None:
            return values
        shares = self._to_device(draws.shares)[:, None, None, None]
        values = torch.lerp(values[self._partners(draws)], values, shares)
        return values.contiguous(memory_format=torch.channels_last)  # indexing may have lost it

    def compute_losses(self, logits: torch.Tensor, labels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Cross-entropy (B,) with the settings' label smoothing; of mixed samples against both labels."""
        smoothing = self._settings.label_smoothing
        if draws.shares is None:
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        own = functional.one_hot(labels, len(CLASS_NAMES)).to(logits.dtype)
        targets = torch.lerp(own[self._partners(draws)], own, self._to_device(draws.shares)[:, None])
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")

    def _partners(self, draws: Draws) -> torch.Tensor:
        return torch.from_numpy(draws.partners).to(self._device)

    def _to_device(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)
