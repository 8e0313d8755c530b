"""A running average of a network's weights over the steps, steadier than the weights of any one step.

After step n (from 0) the average keeps min(decay, (1 + n) / (10 + n)) of itself: the rising start is that of
TensorFlow's ExponentialMovingAverage, and keeps the first, random weights out of short runs' averages.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def copy_for_average(network: Network) -> Network:
    """A copy to hold the average, as yet the same weights; it is never trained itself."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Take a step's weights into the average: parameters, and batch norm's running statistics alike."""
    kept = min(decay, (1 + step) / (10 + step))
    own, new = average.state_dict(), network.state_dict()
    floats = [name for name, value in own.items() if value.is_floating_point()]
    torch._foreach_lerp_([own[name] for name in floats], [new[name] for name in floats], 1 - kept)
    for name in own.keys() - set(floats):  # batch norm's counters
        own[name].copy_(new[name])
