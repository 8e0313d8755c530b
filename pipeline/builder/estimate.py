"""Estimates of disk use and duration of a build, measured on a few of its pictures."""

import errno
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from data_cards.core.cores import count_cores, list_cores
from data_cards.core.errors import PictureError, UserError
from data_cards.core.text import format_bytes, format_count, format_duration
from data_cards.dataset.table import Picture
from pipeline.builder.plan import Plan
from pipeline.features.extract import compute_features
from pipeline.store.filesystem import Storage
from pipeline.store.schema import PROFILES
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_profiles, encode_sample

_SECONDS = 1.0  # after which no more pictures are measured
_LEAST_PICTURES = 3  # always measured; fewer do not show how much pictures differ
_QUANTILES = (9, 3, 13, 6, 15, 1, 11)  # sixteenths of the pictures by size, in the order in which they are measured
_MOST_SIZES = 2000  # pictures whose size is read
_START_SECONDS = 1.5  # of one core, to start a worker process and load its libraries
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
    seconds : float, to start the workers and make the samples on this machine, as busy as it is now; without the scan
        and the audit, which precede the estimate, and without reading pictures over a network
    free : int, bytes free on the disk; None if unknown, as in object storage
    workers : int, number of worker processes that the build starts
    """

    samples: int
    bytes: int
    tables: int
    seconds: float
    free: int | None
    workers: int = 0

    @property
    def fits(self) -> bool:
        return self.free is None or self.bytes <= self.free

    def bytes_for(self, missing: int) -> int:
        """Estimate the bytes still to be written when `missing` of the samples are missing."""
        return self.tables + round((self.bytes - self.tables) * missing / max(self.samples, 1))


def format_estimate(estimate: Estimate) -> str:
    """Format an estimate as one line; the scan and the audit are done when it is printed."""
    disk = f" ({format_bytes(estimate.free)} are free)" if estimate.free is not None else ""
    workers = f" with {format_count(estimate.workers, 'worker')}" if estimate.workers else ""
    return (
        f"{estimate.samples} samples to make: about {format_bytes(estimate.bytes)} of disk{disk}, "
        f"about {format_duration(estimate.seconds)}{workers}"
    )


def estimate_build(
    plan: Plan, storage: Storage, todo: list[int], workers: int, scheduler: str | None = None
) -> Estimate:
    """Measure a few pictures of small to large size, and extrapolate to the pictures of the missing shards (`todo`).

    `workers` and `scheduler` are as for `pipeline.execution.tasks.run_tasks`. A scheduler's workers are not measured.
    """
    shards = _count_samples(plan, todo)
    rows, free = sum(shards), _free_bytes(storage)
    tables = _compute_metadata_bytes(plan)
    if rows == 0:
        return Estimate(0, tables, tables, 0.0, free)
    pictures = sorted(_list_some_pictures(plan, todo), key=_count_pixels)
    chosen = dict.fromkeys(len(pictures) * part // 16 for part in _QUANTILES)
    places = [(pictures[number].file.path, pictures[number].facts.sha256) for number in chosen]
    measured = measure_samples(places, plan.settings, PROFILES in plan.shard_arrays)
    sizes = measured.sizes
    size = sum(sizes) if len(sizes) < 2 else np.mean(sizes) + 2 * np.std(sizes, ddof=1) / np.sqrt(len(sizes))
    pixels = np.array([_count_pixels(picture) for picture in pictures])
    known = pixels[list(chosen)][measured.numbers]
    starting = 0 if scheduler else min(workers, len(todo))
    seconds = longest_share(shards, workers, count_cores()) * extrapolate(known, measured.seconds, pixels).mean()
    seconds = (seconds + _START_SECONDS * bool(starting)) * measured.slowdown(max(starting, 1))
    return Estimate(rows, round(rows * size) + tables, tables, seconds, free, starting)


def _list_some_pictures(plan: Plan, todo: list[int]) -> list[Picture]:
    """Return evenly spaced pictures of the missing shards, at most `_MOST_SIZES`."""
    ranges = [plan.shard_range(shard) for shard in todo]
    numbers = np.unique(np.concatenate([np.arange(*one) // plan.variants for one in ranges]))
    few = np.linspace(0, len(numbers) - 1, min(len(numbers), _MOST_SIZES)).astype(int)
    return [plan.pictures[number] for number in numbers[few].tolist()]


def _count_pixels(picture: Picture) -> int:
    return picture.facts.width * picture.facts.height


def extrapolate(known: np.ndarray, seconds: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Extrapolate durations to pictures of other sizes.

    Between two measured sizes, the logarithms are interpolated. Above the largest, the duration grows with the square
    root of the pixels, because large pictures are shrunk. Below the smallest, it is proportional to the pixels.

    Parameters
    ----------
    known : ndarray of int, shape (m,), pixels of the measured pictures
    seconds : ndarray of float, shape (m,), their durations, above 0; without any, the result is 0
    pixels : ndarray of int, shape (n,), pixels of the pictures

    Returns
    -------
    ndarray of float, shape (n,), the durations in seconds
    """
    if len(known) == 0:
        return np.zeros(len(pixels))
    sizes, member = np.unique(np.log(known), return_inverse=True)
    means = np.log(np.bincount(member, seconds) / np.bincount(member))
    asked = np.log(pixels)
    beyond = np.maximum(asked - sizes[-1], 0) / 2 + np.minimum(asked - sizes[0], 0)
    return np.exp(np.interp(asked, sizes, means) + beyond)


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
            "free some space, choose another --out (in Python: out), or build less: --variants clean, fewer pictures, "
            "smaller planes (--size), or no planes (--estimator none)"
        )


@contextmanager
def translating_full_disk(
    path: str, plan: Plan, estimate: Estimate, list_missing: Callable[[], list[int]]
) -> Iterator[None]:
    """Turn the error of a full disk into a `UserError` that says how many bytes the build still needs.

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


@dataclass(frozen=True)
class Measured:
    """A measurement of a few pictures, while other programs ran on this machine.

    Attributes
    ----------
    numbers : list of int, positions of the measured pictures among the given ones; the others cannot be read
    sizes : list of float, mean bytes of a sample of each
    seconds : ndarray of float, mean seconds of one core for a sample of each
    waited : float, seconds that passed for each second on a core, at least 1
    idle : float, mean number of idle cores among those that this process may use
    """

    numbers: list[int]
    sizes: list[float]
    seconds: np.ndarray
    waited: float = 1.0
    idle: float = 0.0

    def slowdown(self, workers: int, cores: int | None = None) -> float:
        """Return the factor by which other programs slow down `workers` processes, at least 1."""
        cores = cores or count_cores()
        idle = min(self.idle, cores - 1)  # this process always used a core or waited for one
        used = min(workers, cores)
        others = max(cores * self.waited - 1, 0)  # programs that share the cores, if no core is idle
        fair = cores * workers / (others + workers)
        return used / min(max(fair, 1 / self.waited + idle), used)


def measure_samples(
    pictures: Sequence[tuple[Path, bytes]], settings: BuildSettings, with_profiles: bool = True
) -> Measured:
    """Compute and encode the samples of a few pictures for about one second.

    Parameters
    ----------
    pictures : sequence of (path, sha256)
    settings : BuildSettings
    with_profiles : bool, whether the store has profiles
    """
    numbers, sizes, seconds, began = [], [], [], None
    # The first picture's time includes the loading of libraries, so it is measured twice.
    for number, (path, sha256) in [*enumerate(pictures[:1]), *enumerate(pictures)]:
        start = time.process_time()
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
            began = time.monotonic(), time.process_time(), _read_idle_seconds()
            continue
        numbers.append(number)
        sizes.append(size / len(variants))
        seconds.append(max(time.process_time() - start, 1e-6) / len(variants))
        if time.monotonic() - began[0] > _SECONDS and len(numbers) >= _LEAST_PICTURES:
            break
    if not numbers:
        return Measured([], [], np.zeros(0))
    passed = max(time.monotonic() - began[0], 1e-6)
    waited = max(passed / max(time.process_time() - began[1], 1e-6), 1.0)
    return Measured(numbers, sizes, np.array(seconds), waited, (_read_idle_seconds() - began[2]) / passed)


def _read_idle_seconds() -> float:
    """Return the sum of the idle seconds of the cores that this process may use, since the machine started."""
    times = psutil.cpu_times(percpu=True)
    cores = list_cores()
    if max(cores) >= len(times):  # as in containers that number their own cores
        cores = range(len(times))
    return sum(times[core].idle for core in cores)


def _count_samples(plan: Plan, shards: list[int]) -> list[int]:
    return [stop - start for start, stop in map(plan.shard_range, shards)]


def _free_bytes(storage: Storage) -> int | None:
    return shutil.disk_usage(_existing_parent(storage)).free if storage.is_local else None


def _existing_parent(storage: Storage) -> Path:
    path = Path(storage.path()).absolute()
    return next(parent for parent in (path, *path.parents) if parent.exists())
