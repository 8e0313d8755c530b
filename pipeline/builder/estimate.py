"""Estimates of disk use and duration of a build, measured on a few of its pictures."""

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
from pipeline.store.schema import PROFILES
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_profiles, encode_sample

_SECONDS = 2.0  # after which no more pictures are measured
_PICTURES = 8
_LEAST_PICTURES = 3  # always measured; fewer do not show how much pictures differ
_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_PICTURE_BYTES, _ROW_BYTES = 600, 60  # maximum compressed size of a picture's provenance and of a sample's columns


@dataclass(frozen=True)
class Estimate:
    """The estimated cost of a build's missing shards.

    Attributes
    ----------
    samples : int, number of missing samples
    bytes : int, of disk; an upper estimate, the mean of the measured samples plus two standard errors
    tables : int, the part of `bytes` that is not samples: statistics, columns, provenance; a resumed build needs it too
    seconds : float, to make the samples on the cores of this machine, after the scan, the audit and the start of
        worker processes; without reading pictures over a network
    free : int, bytes free on the disk; None if unknown, as in object storage
    starting : int, number of worker processes that the build starts before it makes samples
    """

    samples: int
    bytes: int
    tables: int
    seconds: float
    free: int | None
    starting: int = 0

    @property
    def fits(self) -> bool:
        return self.free is None or self.bytes <= self.free

    def bytes_for(self, missing: int) -> int:
        """Estimate the bytes still to be written when `missing` of the samples are missing."""
        return self.tables + round((self.bytes - self.tables) * missing / max(self.samples, 1))


def format_estimate(estimate: Estimate) -> str:
    """Format an estimate as one line; the scan and the audit are done when it is printed."""
    disk = f" ({format_bytes(estimate.free)} are free)" if estimate.free is not None else ""
    time = f"about {format_duration(estimate.seconds)}"
    if estimate.starting:
        workers = "1 worker starts" if estimate.starting == 1 else f"{estimate.starting} workers start"
        time += f" and the seconds in which {workers}"
    return f"{estimate.samples} samples to make: about {format_bytes(estimate.bytes)} of disk{disk}, {time}"


def estimate_build(
    plan: Plan, storage: Storage, todo: list[int], workers: int, scheduler: str | None = None
) -> Estimate:
    """Measure a few pictures, evenly spaced in the plan, and extrapolate to the missing shards (`todo`).

    `workers` and `scheduler` are as for `pipeline.execution.tasks.run_tasks`. A scheduler's workers are not measured.
    """
    shards = _count_samples(plan, todo)
    rows, free = sum(shards), _free_bytes(storage)
    tables = _compute_metadata_bytes(plan)
    if rows == 0:
        return Estimate(0, tables, tables, 0.0, free)
    numbers = np.unique(np.linspace(0, len(plan.pictures) - 1, _PICTURES).astype(int))
    pictures = [plan.pictures[number] for number in numbers]
    places = [(one.file.path, one.facts.sha256) for one in pictures]
    sizes, seconds = measure_samples(places, plan.settings, PROFILES in plan.shard_arrays)
    size = sum(sizes) if len(sizes) < 2 else np.mean(sizes) + 2 * np.std(sizes, ddof=1) / np.sqrt(len(sizes))
    seconds *= longest_share(shards, workers, count_cores())
    starting = 0 if scheduler else min(workers, len(todo))
    return Estimate(rows, round(rows * size) + tables, tables, seconds, free, starting)


def _compute_metadata_bytes(plan: Plan) -> int:
    features = plan.settings.features
    statistics = 2 * features.planes * features.side**2 * np.dtype(np.float32).itemsize
    return statistics + _PICTURE_BYTES * len(plan.pictures) + _ROW_BYTES * plan.rows


def longest_share(shards: Sequence[int], workers: int, cores: int) -> float:
    """Return the number of samples of the worker that finishes last, at the speed of one core a worker.

    Parameters
    ----------
    shards : sequence of int, samples of each missing shard; a shard runs on one worker
    workers : int, number of processes; 0 is this process only
    cores : int, number of cores, which the workers share
    """
    count = max(min(workers, len(shards)), 1)
    return max(max(sum(shards[worker::count]) for worker in range(count)), sum(shards) / cores)


def check_free_space(estimate: Estimate, path: str) -> None:
    """Raise `UserError` if the disk is too small for the build."""
    if not estimate.fits:
        raise UserError(
            f"{path}: the build needs about {format_bytes(estimate.bytes)}, {format_bytes(estimate.free)} are free; "
            "free some space, choose another --out, or build less: --variants clean, a subset of the pictures, "
            "smaller planes (--size), or no planes (--estimator none)"
        )


@contextmanager
def translating_full_disk(
    path: str, plan: Plan, estimate: Estimate, list_missing: Callable[[], list[int]]
) -> Iterator[None]:
    """Turn the error of a full disk into a `UserError` that names the bytes which the build still needs.

    Parameters
    ----------
    path : str, path of the store
    plan : Plan
    estimate : Estimate, computed before the build began
    list_missing : callable that returns the missing shards; called when the disk is full
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        needed = estimate.bytes_for(sum(_count_samples(plan, list_missing())))
        free = _free_bytes(Storage(path))
        raise UserError(
            f"{path}: {_FULL[error.errno]}; about {format_bytes(needed)} more are needed"
            + (f", {format_bytes(free)} are free" if free is not None else "")
            + ". Finished shards are kept: free some space and run the same command again"
        ) from error


def measure_samples(
    pictures: Sequence[tuple[Path, bytes]], settings: BuildSettings, with_profiles: bool = True
) -> tuple[list[float], float]:
    """Compute and encode the samples of a few pictures for about two seconds.

    Parameters
    ----------
    pictures : sequence of (path, sha256)
    settings : BuildSettings
    with_profiles : bool, whether the store has profiles

    Returns
    -------
    sizes : list of float, mean bytes of a sample of each measured picture
    seconds : float, median duration of a sample on one core
    """
    sizes, spent, began = [], [], None
    for path, sha256 in [*pictures[:1], *pictures]:
        start = time.monotonic()
        variants = settings.draw_variants(sha256)
        size = 0
        try:
            profiles = []
            found = compute_features(
                path, settings.features, variants, with_profile=with_profiles, max_pixels=settings.max_pixels
            )
            for (levels,), profile in found:
                size += sum(map(len, encode_sample(levels, settings.packing)))
                profiles.append(profile)
            size += len(encode_profiles(np.stack(profiles))) if with_profiles else 0
        except PictureError:
            continue  # the build itself will report the picture
        if began is None:
            # The first picture's time includes the loading of libraries, so it is measured twice.
            began = time.monotonic()
            continue
        spent.append((time.monotonic() - start) / len(variants))
        sizes.append(size / len(variants))
        if time.monotonic() - began > _SECONDS and len(spent) >= _LEAST_PICTURES:
            break
    return sizes, float(np.median(spent or [0]))


def _count_samples(plan: Plan, shards: list[int]) -> list[int]:
    return [stop - start for start, stop in map(plan.shard_range, shards)]


def _free_bytes(storage: Storage) -> int | None:
    return shutil.disk_usage(_existing_parent(storage)).free if storage.is_local else None


def _existing_parent(storage: Storage) -> Path:
    path = Path(storage.path()).absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())
