"""Mixup of training samples, and the training loss.

The draws of a step are a pure function of (seed, step) and equal on every device: two numbers a sample, drawn on
the CPU. The planes are mixed on their device, as normalised values.
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
    """Mixing of one step's samples; both fields are None without mixup.

    Attributes
    ----------
    partners : int64 (B,), index of the sample that each is mixed with
    shares : float (B,), weight of each sample; its partner has the rest
    """

    partners: np.ndarray | None = None
    shares: np.ndarray | None = None


class Augmenter:
    """Mixup as a run's settings ask for.

    Parameters
    ----------
    device : of the samples
    """

    def __init__(self, settings: TrainSettings, device: torch.device):
        self._settings = settings
        self._device = device

    def draw(self, step: int, count: int, group: ProcessGroup = SINGLE_PROCESS) -> Draws:
        """Draw the mixing of this process's part of a step's batch, which has `count` samples in all.

        Shares are those of mixup (Zhang et al., 2018), one a sample.
        """
        settings = self._settings
        if not settings.mixup:
            return Draws()
        # The fourth generator: the others belonged to removed augmentations, and a seed keeps its meaning.
        rng = np.random.default_rng(draw_seed(settings.seed, step)).spawn(4)[3]
        shares, part = rng.beta(settings.mixup, settings.mixup, count), group.local_slice(count)
        # Partners are samples of this process's part.
        partners = rng.spawn(group.size)[group.rank].permutation(part.stop - part.start)
        return Draws(partners, shares[part])

    def mix_values(self, values: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Mix normalised values (B, planes, H, W)."""
        if draws.shares is None:
            return values
        shares = self._to_device(draws.shares)[:, None, None, None]
        values = torch.lerp(values[self._partners(draws)], values, shares)
        return values.contiguous(memory_format=torch.channels_last)  # indexing may have lost it

    def compute_losses(self, logits: torch.Tensor, labels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Compute the cross-entropy (B,) with label smoothing; of mixed samples against both labels."""
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
