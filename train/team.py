"""Several processes as one run: `torchrun --nproc-per-node N -m train run ...`.

Every process takes its part of each batch, and together they take the step that one process would
have taken of the whole batch: gradients are averaged (DistributedDataParallel), batch normalisation
uses the statistics of the whole batch, and dropout is drawn for it. One process is a team of one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, nn
from torch.nn import functional

from data_cards.errors import UsageError, UserError
from train.settings import TrainSettings

Value = TypeVar("Value")


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes
    ----------
    rank : number of this process, from 0; number 0 leads: it alone writes and prints
    size : how many there are
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def part(self, rows: np.ndarray) -> np.ndarray:
        """This process's part of a batch: parts differ in length by one at most, and none overlap."""
        return rows[self.place(len(rows))]

    def place(self, count: int) -> slice:
        """Where in a batch of `count` samples this process's part is."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def add(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def gather(self, value: Value) -> list[Value]:
        """What each process gives, by rank."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def agree(self, make: Callable[[], Value]) -> Value:
        """What `make` gives; a `UserError` on one process ends all of them, and is told once."""
        value = error = None
        try:
            value = make()
        except UserError as raised:
            error = raised
        first = next((one for one in self.gather(error) if one is not None), None)
        if first is not None:
            raise self.tell(first) from error
        return value

    def lead(self, make: Callable[[], Value]) -> Value:
        """What `make` gives on the leading process, to all."""
        return self.gather(self.agree(lambda: make() if self.leads else None))[0]

    def tell(self, error: Exception) -> BaseException:
        """To be raised for an error that all processes have: only the leading one's is seen."""
        return error if self.leads else SystemExit(error.exit_status)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network to call in a step; changes the given one so that it sees the whole batch."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        see_whole_batch(network, self, device)
        return nn.parallel.DistributedDataParallel(
            network, device_ids=[device.index] if device.type == "cuda" else None
        )


ALONE = Team()


def is_leading() -> bool:
    """Whether this process is the one that prints; true without torchrun."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def join_team(device: str = "auto") -> Iterator[Team]:
    """The team that torchrun started this process for; without torchrun a team of one.

    Parameters
    ----------
    device : the setting; processes on the CPU talk by gloo, on GPUs by NCCL

    Raises
    ------
    UsageError : more processes than GPUs, or a device that cannot be shared
    """
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    team = Team(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    if device == "mps":
        raise team.tell(UsageError("device mps: takes one process only; start it without torchrun"))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if on_gpu and gpus < here:
        raise team.tell(UsageError(f"{here} processes for {gpus} GPUs: give torchrun --nproc-per-node {max(gpus, 1)}"))
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        with open(os.devnull, "w") as nowhere:
            if team.leads:
                yield team
            else:
                with redirect_stderr(nowhere):  # the leading process shows the progress
                    yield team
    finally:
        distributed.destroy_process_group()


def check_settings(settings: TrainSettings, team: Team) -> None:
    """Raise `UsageError` for settings that several processes cannot have."""
    if team.size == 1:
        return
    if settings.batch_size < 2 * team.size:
        raise UsageError(
            f"batch size {settings.batch_size}: {team.size} processes share it; give at least {2 * team.size}"
        )
    if settings.on_bad_sample == "skip":
        raise UsageError("on bad sample skip: one process only; start it without torchrun, or give stop")


@contextmanager
def tell_of_lost_process(team: Team) -> Iterator[None]:
    """Within it, the failure to reach another process is one line: that process tells why it ended."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise nothing more exact
        texts = ("Connection closed", "Connection reset", "Broken pipe", "remote process exited", "NCCL")
        if team.size == 1 or not any(text in str(error) for text in texts):
            raise
        raise UserError("another process of this run has ended, so this one ends too") from error


class _Dropout(nn.Dropout):
    """Dropout that draws for the whole batch, and drops from this process's part of it."""

    def __init__(self, share: float, team: Team):
        super().__init__(share)
        self._team = team
        self.count = 0  # samples of the whole batch; set before each step

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * functional.dropout(x.new_ones(self.count, *x.shape[1:]), self.p)[self._team.place(self.count)]


class _Sum(torch.autograd.Function):
    """The sum over all processes, which gradients pass through."""

    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        distributed.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)
        return gradient


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' samples; PyTorch's own is for GPUs only.

    As there, what comes in bf16 is normalised in float32 and goes out in bf16.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        values = x.float()
        count = _Sum.apply(values.new_tensor([x.numel() / x.shape[1]]))
        mean = _Sum.apply(values.sum(dim=(0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def set_batch(network: nn.Module, count: int) -> None:
    """Tell a network of a team of how many samples the whole batch of the next step is."""
    for module in network.modules():
        if isinstance(module, _Dropout):
            module.count = count


def see_whole_batch(network: nn.Module, team: Team, device: torch.device) -> None:
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            kind = nn.SyncBatchNorm if device.type == "cuda" else _BatchNorm
            synced = kind(child.num_features, child.eps, child.momentum).to(device)
            # The very same parameters and buffers, which others hold already.
            synced._parameters, synced._buffers = child._parameters, child._buffers
            setattr(network, name, synced)
        elif isinstance(child, nn.Dropout):
            setattr(network, name, _Dropout(child.p, team))
        else:
            see_whole_batch(child, team, device)
