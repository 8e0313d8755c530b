"""Optimiser and learning rate, the latter a pure function of the step."""

import math

import torch
from torch import nn

from train.settings import TrainSettings


def create_optimiser(network: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """Create AdamW with weight decay on kernels and matrices only, not on biases and batch norm."""
    parameters = list(network.parameters())
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.lr,
        fused=True,  # one pass over the weights, on every kind of device
    )


def learning_rate(step: int, steps_per_epoch: int, settings: TrainSettings, prolonged: int = 0) -> float:
    """Compute the learning rate of a step (from 0): a linear rise to the peak, then half a cosine down to 0.

    The rise lasts `settings.warmup` epochs, at most half of the run. A run that is prolonged follows the cosine of its
    new length, to which it rises again, because it had ended at 0.

    Parameters
    ----------
    prolonged : epochs that were done when a finished run was prolonged; 0 if it was not
    """
    total, start = settings.epochs * steps_per_epoch, prolonged * steps_per_epoch
    rise = _count_rise(total, steps_per_epoch, settings)
    if step < rise:
        return settings.lr * (step + 1) / rise
    rate = settings.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))
    second_rise = _count_rise(total - start, steps_per_epoch, settings)
    return rate * (step - start + 1) / second_rise if 0 < start <= step < start + second_rise else rate


def _count_rise(steps: int, steps_per_epoch: int, settings: TrainSettings) -> int:
    return round(min(settings.warmup * steps_per_epoch, steps // 2))


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimiser.param_groups:
        group["lr"] = value
