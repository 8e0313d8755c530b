"""Rows in packed form: mirrored planes as halves, copied to a device so, or unpacked many rows at a time.

A store packed by `pipeline.store.mirror_codec` holds only the independent half of a mirrored chunk. That module
defines the layout; this one asks it for every position. The results equal those of plain reading, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

import numpy as np
import torch

from pipeline.features.settings import plane_slice
from pipeline.store.mirror_codec import EVEN, ODD, WHOLE, count_independent, unpack, unpack_halves


@dataclass(frozen=True)
class PackedLayout:
    """The positions of the chunks in a row's bytes: contiguous, each as `pack` made it.

    Attributes
    ----------
    shape : of a chunk, (3, H, W)
    mirrored : for each kind of planes, whether only the halves are stored
    """

    shape: tuple[int, int, int]
    mirrored: tuple[bool, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of each kind's chunk."""
        whole, half = compute_packed_sizes(self.shape)
        return tuple(half if one else whole for one in self.mirrored)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Start of each kind's chunk, and the end of the last."""
        return (0, *accumulate(self.sizes))


@dataclass
class PackedBatch:
    """Packed rows on the CPU, in a reused buffer.

    Attributes
    ----------
    data : Tensor of uint8, shape (B, bytes of a row)
    layout : of each row
    unusual : by place, planes of uint8, shape (3 * kinds, H, W), of rows with another layout; `data` is undefined there
    """

    data: torch.Tensor
    layout: PackedLayout
    unusual: dict[int, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.data)

    def check_headers(self, place: int, count: int) -> None:
        """Raise `ValueError` if the header of a chunk of these rows contradicts the chunk's size."""
        headers = self.data.numpy()[place : place + count, list(self.layout.starts[:-1])]
        for kind, mirrored in enumerate(self.layout.mirrored):
            for header in set(headers[:, kind].tolist()):
                if header not in ((EVEN, ODD) if mirrored else (WHOLE,)):
                    raise ValueError(f"packed chunk of kind {header} and another kind's size: damaged")

    def part(self, start: int, stop: int) -> "PackedBatch":
        """Return some of the rows, without a copy."""
        unusual = {place - start: planes for place, planes in self.unusual.items() if start <= place < stop}
        return PackedBatch(self.data[start:stop], self.layout, unusual)

    def unpack(self, levels: np.ndarray) -> None:
        """Fill `levels`, uint8 (N, 3 * kinds, H, W), N <= B, from the first N rows.

        Few calls unpack all rows, because calls hold up other threads.
        """
        layout, count = self.layout, len(levels)
        data = self.data.numpy()[:count]
        for kind, mirrored in enumerate(layout.mirrored):
            start, stop = layout.starts[kind : kind + 2]
            chunks = levels[:, plane_slice(kind)]
            values, odd = data[:, start + 1 : stop], data[:, start] == ODD
            if not mirrored:
                chunks[...] = values.reshape(chunks.shape)
            elif odd.all() or not odd.any():
                unpack_halves(values, chunks, odd=bool(odd[0]))
            else:
                for place in range(count):
                    unpack_halves(values[place, None], chunks[place, None], odd=bool(odd[place]))
        for place, planes in self.unusual.items():
            if place < count:
                levels[place] = planes

    def to(self, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        """Return the levels on the device, uint8 (B, 3 * kinds, H, W): the halves are copied, and mirrored there."""
        layout = self.layout
        data = self.data.to(device, non_blocking=non_blocking)
        planes = torch.empty((len(data), len(layout.mirrored), *layout.shape), dtype=torch.uint8, device=device)
        for kind, mirrored in enumerate(layout.mirrored):
            start, stop = layout.starts[kind : kind + 2]
            values = data[:, start + 1 : stop]
            if mirrored:
                index, negated = _mirror_indices(layout.shape, torch.device(device))
                values = values[:, index]
                values = torch.where(negated & (data[:, start, None] == ODD), -values, values)
            planes[:, kind] = values.reshape(len(data), *layout.shape)
        planes = planes.flatten(1, 2)
        for place, unusual in self.unusual.items():
            planes[place] = torch.from_numpy(unusual).to(device)
        return planes


def compute_packed_sizes(shape: tuple[int, int, int]) -> tuple[int, int]:
    """Return the bytes of a chunk as `pack` makes it, whole and mirrored."""
    return 1 + int(np.prod(shape)), 1 + count_independent(shape)


def unpack_chunks(data: np.ndarray, sizes: Sequence[int], levels: np.ndarray) -> None:
    """Unpack a row's chunks of any layout into `levels`, uint8 (3 * kinds, H, W); raises `ValueError` as `unpack`."""
    start = 0
    for kind, size in enumerate(sizes):
        chunk = levels[plane_slice(kind)]
        unpack(data[start : start + size], chunk.shape, chunk.dtype, out=chunk)
        start += size


def allocate_packed_batch(count: int, layout: PackedLayout, pinned: bool) -> PackedBatch:
    """Allocate a buffer for `count` packed rows."""
    return PackedBatch(allocate_buffer((count, sum(layout.sizes)), pinned), layout)


def allocate_buffer(shape: tuple[int, ...], pinned: bool) -> torch.Tensor:
    """Allocate a uint8 tensor on the CPU that is filled repeatedly; `pinned` if a GPU copies from it."""
    if pinned:
        return torch.empty(shape, dtype=torch.uint8, pin_memory=True)
    # NumPy asks Linux for large pages: filled for the first time, a buffer of PyTorch's own takes twice as long.
    return torch.from_numpy(np.empty(shape, dtype=np.uint8))


@lru_cache(maxsize=8)
def _mirror_indices(shape: tuple[int, int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return for each value of a chunk its index in the independent half, and whether it is a mirror image.

    Returns
    -------
    Tensor of int64 and Tensor of bool, both of shape (values of a chunk,)
    """
    places = np.empty((1, *shape), dtype=np.int32)
    unpack_halves(np.arange(1, count_independent(shape) + 1, dtype=np.int32)[None], places, odd=True)
    found = torch.from_numpy(places.astype(np.int64)).flatten().to(device)
    return found.abs() - 1, found < 0
