"""Process group of a run: `torchrun --nproc-per-node N -m train run ...`.

Every process computes the gradients of its part of each batch. All step by the mean gradient
(DistributedDataParallel), so their weights stay equal. Batch normalisation uses the statistics of
the whole batch on GPUs (SyncBatchNorm), and of each process's part on the CPU. A single process is a group of one.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from socket import gethostname
from typing import TypeVar

import numpy as np
import torch
from torch import distributed, nn

from data_cards.core.errors import UsageError, UserError
from train.settings import TrainSettings

Value = TypeVar("Value")


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run.

    Attributes
    ----------
    rank : int, number of this process, from 0; rank 0 alone writes and prints
    size : int, number of processes
    local_size : int, number of those on this machine
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def local_part(self, rows: np.ndarray) -> np.ndarray:
        """Return this process's part of a batch: parts do not overlap and differ in length by at most one."""
        return rows[self.local_slice(len(rows))]

    def local_slice(self, count: int) -> slice:
        """Return the slice of this process's part in a batch of `count` samples."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def all_reduce(self, values: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes."""
        if self.size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def all_gather(self, value: Value) -> list[Value]:
        """Gather the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values: list = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def all_or_raise(self, compute: Callable[[], Value]) -> Value:
        """Return the result of `compute`; a `UserError` on one process ends all of them and is reported once."""
        value = error = None
        try:
            value = compute()
        except UserError as raised:
            # Of several machines, the one with the error may not be the one that reports it.
            error = raised if self.local_size == self.size else type(raised)(f"on {gethostname()}: {raised}")
        first = next((one for one in self.all_gather(error) if one is not None), None)
        if first is not None:
            raise self.for_rank(first) from error
        return value

    def on_rank0(self, compute: Callable[[], Value]) -> Value:
        """Return the result of `compute` on rank 0 to all processes."""
        return self.all_gather(self.all_or_raise(lambda: compute() if self.is_rank0 else None))[0]

    def for_rank(self, error: Exception) -> BaseException:
        """Return the exception to raise for an error that all processes share: only rank 0 reports it."""
        return error if self.is_rank0 else SystemExit(error.exit_status)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wrap a network for a step; on GPUs its batch normalisation is replaced in place."""
        if self.size == 1:
            return network
        device = next(network.parameters()).device
        if device.type != "cuda":
            return nn.parallel.DistributedDataParallel(network)
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place; PyTorch has it for GPUs only
        return nn.parallel.DistributedDataParallel(network, device_ids=[device.index])

    def broadcast_buffers(self, network: nn.Module) -> None:
        """Copy the buffers of rank 0 to all processes: each one's running statistics cover only its part of batches."""
        for buffer in network.buffers() if self.size > 1 else ():
            distributed.broadcast(buffer, 0)


SINGLE_PROCESS = ProcessGroup()


def is_rank0() -> bool:
    """Return whether this process prints; true without torchrun."""
    return not distributed.is_torchelastic_launched() or os.environ["RANK"] == "0"


@contextmanager
def joined_process_group(device: str = "auto") -> Iterator[ProcessGroup]:
    """Join the process group that torchrun started this process for; without torchrun a group of one.

    Parameters
    ----------
    device : str, the setting; processes on the CPU communicate by gloo, on GPUs by NCCL

    Raises
    ------
    UsageError : more processes than GPUs, or a device that cannot be shared
    """
    if not distributed.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield SINGLE_PROCESS
        return
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    group = ProcessGroup(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), here)
    if device == "mps":
        raise group.for_rank(UsageError("device mps: expected one process; start it without torchrun"))
    on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    gpus = torch.cuda.device_count()
    if on_gpu and gpus < here:
        raise group.for_rank(
            UsageError(f"{here} processes for {gpus} GPUs: give torchrun --nproc-per-node {max(gpus, 1)}")
        )
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        with open(os.devnull, "w") as nowhere, translating_lost_process(group):
            if group.is_rank0:
                yield group
            else:
                with redirect_stderr(nowhere):  # rank 0 shows the progress
                    yield group
    finally:
        distributed.destroy_process_group()


def check_settings(settings: TrainSettings, group: ProcessGroup, device: torch.device, samples: int) -> None:
    """Raise `UsageError` for settings, or an epoch of so few samples, that several processes do not support."""
    if group.size == 1:
        return
    # Batches may be half as large as asked for, and batch normalisation needs two samples: on the CPU of each part.
    least = (2 if device.type == "cuda" else 4) * group.size
    if settings.batch_size < least:
        raise UsageError(f"batch size {settings.batch_size}: {group.size} processes share it; give at least {least}")
    if samples < least:
        raise UsageError(
            f"{group.size} processes: expected at least {least} training samples an epoch, got {samples}; "
            "start fewer processes"
        )
    if settings.on_bad_sample == "skip":
        raise UsageError("on bad sample skip: one process only; start it without torchrun, or give stop")


@contextmanager
def translating_lost_process(group: ProcessGroup) -> Iterator[None]:
    """Translate the failure to reach another process into one line: that process reports why it ended."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise nothing more exact
        texts = ("Connection closed", "Connection reset", "Broken pipe", "remote process exited", "NCCL")
        if group.size == 1 or not any(text in str(error) for text in texts):
            raise
        raise UserError("another process of this run has ended, so this one ends too") from error
