"""What a build will cost, measured on a few of its pictures before the work starts."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import format_bytes, format_duration
from pipeline.builder.plan import Plan
from pipeline.features.extract import compute_features
from pipeline.store.filesystem import Storage
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_sample

_SECONDS = 2.0  # spent on measuring, about
_PICTURES = 8
_LEAST_PICTURES = 3  # measured however long it takes: of fewer it is not known how much they differ
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_PICTURE_BYTES, _ROW_BYTES = 600, 60  # of a picture's provenance and of a sample's columns, packed, at most


@dataclass(frozen=True)
class Estimate:
    """What the shards that are to be made will take.

    Attributes
    ----------
    samples : number of samples to make
    bytes : of disk, about; rather more than less, by two standard errors of what was measured
    tables : bytes of those that are no samples: statistics, columns, provenance; a build that goes on needs them too
    seconds : on so many workers of this machine, about; without reading pictures over a network and the like
    free : bytes free on the disk; None where that cannot be known
    """

    samples: int
    bytes: int
    tables: int
    seconds: float
    free: int | None

    @property
    def fits(self) -> bool:
        return self.free is None or self.bytes <= self.free

    def bytes_for(self, missing: int) -> int:
        """Bytes of disk, about, for what is left to write when so many of the samples are missing."""
        return self.tables + round((self.bytes - self.tables) * missing / max(self.samples, 1))


def format_estimate(estimate: Estimate) -> str:
    """The estimate in a line."""
    disk = f" ({format_bytes(estimate.free)} are free)" if estimate.free is not None else ""
    time = format_duration(estimate.seconds)
    return f"{estimate.samples} samples to make: about {format_bytes(estimate.bytes)} of disk{disk}, about {time}"


def estimate_build(plan: Plan, storage: Storage, todo: list[int], workers: int) -> Estimate:
    """Measure a few of the pictures, spread over the plan, and scale up to the shards to be made."""
    shards = _count_samples(plan, todo)
    rows, free = sum(shards), _measure_free(storage)
    tables = _measure_tables(plan)
    if rows == 0:
        return Estimate(0, tables, tables, 0.0, free)
    numbers = np.unique(np.linspace(0, len(plan.pictures) - 1, _PICTURES).astype(int))
    pictures = [plan.pictures[number] for number in numbers]
    sizes, seconds = measure_samples([(one.file.path, one.facts.sha256) for one in pictures], plan.settings)
    size = sum(sizes) if len(sizes) < 2 else np.mean(sizes) + 2 * np.std(sizes, ddof=1) / np.sqrt(len(sizes))
    seconds *= longest_share(shards, workers, count_cores())
    return Estimate(rows, round(rows * size) + tables, tables, seconds, free)


def _measure_tables(plan: Plan) -> int:
    features = plan.settings.features
    statistics = 2 * features.planes * features.side**2 * np.dtype(np.float32).itemsize
    return statistics + _PICTURE_BYTES * len(plan.pictures) + _ROW_BYTES * plan.rows


def longest_share(shards: Sequence[int], workers: int, cores: int) -> float:
    """Samples that the last worker to end makes one after the other, at the speed of a core of its own.

    Parameters
    ----------
    shards : samples of each shard to be made; one shard keeps one worker busy
    workers : processes; 0 is this one alone
    cores : more workers than these share them
    """
    crew = max(min(workers, len(shards)), 1)
    return max(max(sum(shards[worker::crew]) for worker in range(crew)), sum(shards) / cores)


def refuse_if_too_large(estimate: Estimate, path: str) -> None:
    """Raise `UserError` with advice when the disk cannot hold the build."""
    if not estimate.fits:
        raise UserError(
            f"{path}: the build needs about {format_bytes(estimate.bytes)}, {format_bytes(estimate.free)} are free. "
            "Free some space, choose another --out, or make less: a smaller --size, --variants clean, or a subset "
            "of the pictures"
        )


@contextmanager
def explaining_full_disk(
    path: str, plan: Plan, estimate: Estimate, list_missing: Callable[[], list[int]]
) -> Iterator[None]:
    """Say of a disk that fills up during a build what that build still needs: a `UserError` for the system's error.

    Parameters
    ----------
    path : of the store
    estimate : of the build, before it began
    list_missing : called then; the shards that are still to be made
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        needed = estimate.bytes_for(sum(_count_samples(plan, list_missing())))
        free = _measure_free(Storage(path))
        raise UserError(
            f"{path}: {_FULL[error.errno]}; about {format_bytes(needed)} more are needed"
            + (f", {format_bytes(free)} are free" if free is not None else "")
            + ". What was finished is kept: free some space and run the same command again"
        ) from error


def measure_samples(pictures: Sequence[tuple[Path, bytes]], settings: BuildSettings) -> tuple[list[float], float]:
    """Mean bytes of a sample of each picture, and median seconds of a sample on one core, in about two seconds.

    Parameters
    ----------
    pictures : path and sha256 of each
    """
    sizes, spent, began = [], [], None
    for path, sha256 in [*pictures[:1], *pictures]:
        start = time.monotonic()
        variants = settings.draw_variants(sha256)
        size = 0
        try:
            for (levels,) in compute_features(path, settings.features, variants, max_pixels=settings.max_pixels):
                size += sum(map(len, encode_sample(levels, settings.packing)))
        except PictureError:
            continue  # the build itself will name it
        if began is None:
            # The first picture pays for loading libraries, so its time does not count.
            began = time.monotonic()
            continue
        spent.append((time.monotonic() - start) / len(variants))
        sizes.append(size / len(variants))
        if time.monotonic() - began > _SECONDS and len(spent) >= _LEAST_PICTURES:
            break
    return sizes, float(np.median(spent or [0]))


def _count_samples(plan: Plan, shards: list[int]) -> list[int]:
    return [stop - start for start, stop in map(plan.shard_range, shards)]


def _measure_free(storage: Storage) -> int | None:
    return shutil.disk_usage(_existing_parent(storage)).free if storage.is_local else None


def _existing_parent(storage: Storage) -> Path:
    path = Path(storage.path()).absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())
