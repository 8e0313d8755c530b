"""Batches of packed rows: halves of mirrored planes, copied to a device as such or unpacked many at a time.

A store packed by `pipeline.store.mirror_codec` holds only the independent half of a mirrored chunk. That module alone
defines the layout. The unpacked values equal those of plain reading, to the last bit.
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
    """Layout of a row's bytes: its chunks one behind the other, each as `pack` encodes it.

    Attributes
    ----------
    shape : of a chunk, (3, H, W)
    dtype : of its values
    mirrored : whether each kind is stored as its half
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    mirrored: tuple[bool, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Size in bytes of each kind's chunk."""
        whole, half = compute_packed_sizes(self.shape, self.dtype)
        return tuple(half if one else whole for one in self.mirrored)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Start of each kind's chunk, and the end of the last one."""
        return (0, *accumulate(self.sizes))


@dataclass
class PackedBatch:
    """Packed rows on the CPU, in a reusable buffer.

    Attributes
    ----------
    data : uint8 (B, bytes of a row)
    layout : of each row
    unusual : planes (3 * kinds, H, W) of rows with another layout, by place; their `data` is meaningless
    """

    data: torch.Tensor
    layout: PackedLayout
    unusual: dict[int, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.data)

    def check_headers(self, place: int) -> None:
        """Raise `ValueError` if the headers of a row's chunks disagree with their sizes."""
        headers = self.data[place].numpy()[list(self.layout.starts[:-1])].tolist()
        for header, mirrored in zip(headers, self.layout.mirrored, strict=True):
            if header not in ((EVEN, ODD) if mirrored else (WHOLE,)):
                raise ValueError(f"packed chunk of kind {header} and another kind's size: damaged")

    def first(self, count: int) -> "PackedBatch":
        """Return the first rows."""
        unusual = {place: planes for place, planes in self.unusual.items() if place < count}
        return PackedBatch(self.data[:count], self.layout, unusual)

    def unpack(self, levels: np.ndarray) -> None:
        """Fill levels (N, 3 * kinds, H, W), N <= B, from the first N rows, in few calls: calls block threads."""
        layout, count = self.layout, len(levels)
        data = self.data.numpy()[:count]
        for kind, mirrored in enumerate(layout.mirrored):
            start, stop = layout.starts[kind : kind + 2]
            chunks = levels[:, plane_slice(kind)]
            values, odd = data[:, start + 1 : stop].view(layout.dtype), data[:, start] == ODD
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
        """Return the levels on the device, (B, 3 * kinds, H, W): halves are copied, and mirrored there."""
        layout = self.layout
        dtype = torch.from_numpy(np.empty(0, dtype=layout.dtype)).dtype
        data = self.data.to(device, non_blocking=non_blocking)
        planes = torch.empty((len(data), len(layout.mirrored), *layout.shape), dtype=dtype, device=device)
        for kind, mirrored in enumerate(layout.mirrored):
            start, stop = layout.starts[kind : kind + 2]
            # Cloned, because a single row counts as contiguous where it is, and begins at an odd byte.
            values = data[:, start + 1 : stop].clone(memory_format=torch.contiguous_format).view(dtype)
            if mirrored:
                index, negated = _mirror_indices(layout.shape, torch.device(device))
                values = values[:, index]
                values = torch.where(negated & (data[:, start, None] == ODD), -values, values)
            planes[:, kind] = values.reshape(len(data), *layout.shape)
        planes = planes.flatten(1, 2)
        for place, unusual in self.unusual.items():
            planes[place] = torch.from_numpy(unusual).to(device)
        return planes


def compute_packed_sizes(shape: tuple[int, int, int], dtype: np.dtype) -> tuple[int, int]:
    """Return the size in bytes of a packed chunk, whole and mirrored."""
    return 1 + int(np.prod(shape)) * dtype.itemsize, 1 + count_independent(shape) * dtype.itemsize


def unpack_chunks(
    data: np.ndarray, sizes: Sequence[int], shape: tuple[int, int, int], dtype: np.dtype, levels: np.ndarray
) -> None:
    """Unpack a row's chunks, of any layout, into levels (3 * kinds, H, W); raises the `ValueError` of `unpack`."""
    start = 0
    for kind, size in enumerate(sizes):
        unpack(data[start : start + size], shape, dtype, out=levels[plane_slice(kind)])
        start += size


def allocate_packed_batch(count: int, layout: PackedLayout, pinned: bool) -> PackedBatch:
    """Allocate a buffer for `count` rows."""
    return PackedBatch(allocate_buffer((count, sum(layout.sizes)), torch.uint8, pinned), layout)


def allocate_buffer(shape: tuple[int, ...], dtype: torch.dtype, pinned: bool) -> torch.Tensor:
    """Allocate a reusable CPU buffer; `pinned` if a GPU copies from it."""
    if pinned:
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    # NumPy asks Linux for large pages: the first fill of PyTorch's own buffer is twice as slow.
    return torch.from_numpy(np.empty(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))


@lru_cache(maxsize=8)
def _mirror_indices(shape: tuple[int, int, int], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each value's place in the independent half, int64, and whether it is a mirror image, bool."""
    places = np.empty((1, *shape), dtype=np.int32)
    unpack_halves(np.arange(1, count_independent(shape) + 1, dtype=np.int32)[None], places, odd=True)
    found = torch.from_numpy(places.astype(np.int64)).flatten().to(device)
    return found.abs() - 1, found < 0
