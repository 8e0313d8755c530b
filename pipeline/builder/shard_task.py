"""The task that builds one shard on a worker. It writes the same bytes each time it runs."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from data_cards.archives.place import read_unchanged
from data_cards.core.errors import PictureError, UserError
from data_cards.image.decode import decode_picture
from pipeline.builder.plan import Plan
from pipeline.execution.workers import UnsuitableWorkerError
from pipeline.features.extract import compute_features
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.versions import get_feature_versions
from pipeline.store.filesystem import Storage
from pipeline.store.schema import FEATURES, PROFILES, Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_profiles, encode_sample, encode_shard
from pipeline.store.writer import ShardRecord, commit_shard, write_shard


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Everything that a worker needs to build one shard.

    Attributes
    ----------
    url : str, of the store under its partial name; absolute
    shard : int, number of the shard
    rows : int, number of rows of a whole shard
    key : str, key of the shard's content, for its record
    pictures : tuple of (path, sha256, first, last), a picture with rows in the shard and the range of its variants
        there; `last` is not included
    settings : BuildSettings
    arrays : tuple of str, names of the arrays in shards
    """

    url: str
    shard: int
    rows: int
    key: str
    pictures: tuple[tuple[str, bytes, int, int], ...]
    settings: BuildSettings
    arrays: tuple[str, ...]


def create_task(plan: Plan, storage: Storage, shard: int) -> ShardTask:
    """Return the task of one shard of a plan."""
    pictures = tuple(
        (str(picture.file.path), picture.facts.sha256, first, last)
        for picture, first, last in plan.shard_pictures(shard)
    )
    return ShardTask(
        storage.absolute_url,
        shard,
        plan.shard_rows,
        plan.shard_key(shard),
        pictures,
        plan.settings,
        plan.shard_arrays,
    )


def create_check(plan: Plan, storage: Storage, shards: Iterable[int]) -> Callable[[], None]:
    """Return a function that raises `UnsuitableWorkerError` on a worker that cannot build these shards of a plan.

    A worker with other library versions may compute features that differ in the last digit.
    """
    roots = {picture.file.root for shard in shards for picture, *_ in plan.shard_pictures(shard)}
    return partial(
        _check_worker, plan.identity[Attribute.VERSIONS], storage.absolute_url, sorted(filter(os.path.exists, roots))
    )


def _check_worker(versions: dict[str, str], url: str, roots: list[str]) -> None:
    here = get_feature_versions()
    if differing := [
        f"{name} {here[name]}, expected {versions[name]}" for name in versions if here[name] != versions[name]
    ]:
        raise UnsuitableWorkerError(f"it has {'; '.join(differing)}; install the same versions there (constraints.txt)")
    missing = [root for root in roots if not os.path.exists(root)]
    try:
        missing += [] if Storage(url).exists() else [url]
    except UserError as error:  # of object storage
        raise UnsuitableWorkerError(f"it does not reach the store ({error})") from error
    if missing:
        raise UnsuitableWorkerError(f"it does not reach {missing[0]}; make it available there at the same path")


def build_shard(task: ShardTask) -> ShardRecord:
    """Compute the features of a shard's samples, write the shard's files, and return the record to be written.

    Raises
    ------
    UserError : a picture cannot be read or has changed since the scan
    """
    profiles = np.zeros((task.rows, PROFILE_LENGTH), np.float32)
    samples = _compute_samples(task, profiles)
    chunks = (chunk for levels in samples for chunk in encode_sample(levels, task.settings.packing))
    parts = {
        FEATURES: encode_shard(chunks, task.rows * len(task.settings.features.kinds)),
        PROFILES: _encode_profiles(samples, profiles),
    }
    # Features are written first: the profiles are complete once all samples are computed.
    return write_shard(Storage(task.url), task.shard, task.key, {name: parts[name] for name in task.arrays})


def finish_shard(task: ShardTask, record: ShardRecord) -> ShardRecord:
    """Wait until a shard's files are on the disk, then write its record; needs almost no processor time."""
    commit_shard(Storage(task.url), record, task.arrays)
    return record


def _compute_samples(task: ShardTask, profiles: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the levels of all samples in the shard's order, and fill in their profiles."""
    settings, rows = task.settings, iter(profiles)
    with_profile = PROFILES in task.arrays
    for path, sha256, first, last in task.pictures:
        try:
            # No check, because the scan has checked these bytes for damage.
            picture = decode_picture(read_unchanged(path, sha256), settings.max_pixels, check=False)
            variants = settings.draw_variants(sha256)[first:last]
            found = compute_features(picture, settings.features, variants, with_profile=with_profile)
            for (levels,), profile in found:
                if with_profile:
                    next(rows)[:] = profile
                yield levels
        except PictureError as error:
            raise UserError(f"{path}: {error}") from error


def _encode_profiles(samples: Iterator[np.ndarray], profiles: np.ndarray) -> Iterator[bytes]:
    """Compute the remaining samples, then yield the file of the profiles."""
    for _ in samples:
        pass
    yield encode_profiles(profiles)
