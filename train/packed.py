"""Batches that cross to the device as they are packed: half the bytes, mirrored there.

A mirrored chunk's independent half is all that a store packed by `pipeline.packing` holds of it.
Which value goes where is asked of `pipeline.packing.unpack` itself, once, so there is one definition
of the layout. What comes out is what plain reading gives, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from pipeline.packing import ODD, pack, unpack


@dataclass
class PackedBatch:
    """Rows as they are packed, on the CPU; a buffer that is used again.

    Attributes
    ----------
    values : of each kind, (B, n) of the store's data type: the independent halves, or whole planes of a kind that
        is not mirrored
    odd : bool (B, kinds), where the mirror images are negated
    whole : by (place, kind), chunks of a mirrored kind that are not mirrored for once
    shape : of a chunk, (3, H, W)
    """

    values: list[torch.Tensor]
    odd: torch.Tensor
    shape: tuple[int, int, int]
    whole: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.odd)

    def put(self, place: int, kind: int, packed: np.ndarray) -> None:
        """Take up a chunk, uint8 (bytes,) as `pack` made it."""
        target = self.values[kind][place].numpy()
        values = packed[1:].view(target.dtype)
        self.whole.pop((place, kind), None)
        if len(values) == len(target):
            target[...] = values
            self.odd[place, kind] = bool(packed[0] == ODD)
        else:  # checked by `unpack`
            chunk = np.empty(self.shape, dtype=target.dtype)
            self.whole[place, kind] = unpack(packed, self.shape, target.dtype, out=chunk)

    def first(self, count: int) -> "PackedBatch":
        """The first rows of it."""
        whole = {key: chunk for key, chunk in self.whole.items() if key[0] < count}
        return PackedBatch([values[:count] for values in self.values], self.odd[:count], self.shape, whole)

    def to(self, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        """The levels on the device, (B, 3 * kinds, H, W): the halves are copied, and mirrored there."""
        count, kinds = self.odd.shape
        planes = torch.empty((count, kinds, *self.shape), dtype=self.values[0].dtype, device=device)
        odd = self.odd.to(device)
        for kind, values in enumerate(self.values):
            moved = values.to(device, non_blocking=non_blocking)
            if values.shape[1] < np.prod(self.shape):
                index, mirrored = _find_places(self.shape, torch.device(device))
                moved = moved[:, index]
                moved = torch.where(mirrored & odd[:, kind, None], -moved, moved)
            planes[:, kind] = moved.reshape(count, *self.shape)
        for (place, kind), chunk in self.whole.items():
            planes[place, kind] = torch.from_numpy(chunk).to(device)
        return planes.flatten(1, 2)


def make_packed_batch(
    count: int, shape: tuple[int, int, int], dtype: torch.dtype, mirrored: Sequence[bool], pinned: bool
) -> PackedBatch:
    """A buffer for so many rows; `mirrored` says of which kinds the halves are enough."""
    half, whole = _half_length(shape), int(np.prod(shape))
    values = [make_buffer((count, half if one else whole), dtype, pinned) for one in mirrored]
    return PackedBatch(values, torch.zeros((count, len(values)), dtype=torch.bool), shape)


def make_buffer(shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> torch.Tensor:
    """Room on the CPU that is filled again and again; `pinned` where a GPU copies from it."""
    if pinned:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    # NumPy asks Linux for large pages: filled for the first time, a buffer of PyTorch's own takes twice as long.
    return torch.from_numpy(np.empty(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))


def _half_length(shape: tuple[int, int, int]) -> int:
    """Values in the independent half of a mirrored chunk."""
    return len(pack(np.zeros(shape, dtype=np.uint8))) - 1


@lru_cache(maxsize=8)
def _find_places(shape: tuple[int, int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each value of a chunk its place in the independent half, and whether it is a mirror image: int64, bool."""
    numbers = np.arange(1, _half_length(shape) + 1, dtype=np.int32)
    odd = np.concatenate([np.array([ODD], dtype=np.uint8), numbers.view(np.uint8)])
    places = torch.from_numpy(unpack(odd, shape, np.dtype(np.int32)).astype(np.int64)).flatten().to(device)
    return places.abs() - 1, places < 0
