"""The task of one shard, which a worker runs. A task that runs twice writes the same bytes."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_cards.archives.place import read_unchanged
from data_cards.core.errors import PictureError, UserError
from data_cards.image.decode import decode_picture
from pipeline.builder.plan import Plan
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
    """All that a worker needs to make one shard.

    Attributes
    ----------
    url : str, of the store under its partial name
    shard : int, number of the shard
    rows : int, rows of a whole shard
    key : str, of the shard's content, for its record
    pictures : tuple; for each picture with rows in the shard its path, its sha256, and the range of its variants
        in the shard (first, behind last)
    settings : BuildSettings
    arrays : tuple of str, the arrays whose files make the shard
    versions : dict, versions of the libraries that the plan was made with
    """

    url: str
    shard: int
    rows: int
    key: str
    pictures: tuple[tuple[str, bytes, int, int], ...]
    settings: BuildSettings
    arrays: tuple[str, ...]
    versions: dict[str, str]


def create_task(plan: Plan, storage: Storage, shard: int) -> ShardTask:
    """Return the task of one shard of a plan."""
    pictures = tuple(
        (str(picture.file.path), picture.facts.sha256, first, last)
        for picture, first, last in plan.shard_pictures(shard)
    )
    return ShardTask(
        storage.url,
        shard,
        plan.shard_rows,
        plan.shard_key(shard),
        pictures,
        plan.settings,
        plan.shard_arrays,
        plan.identity[Attribute.VERSIONS],
    )


def build_shard(task: ShardTask) -> ShardRecord:
    """Compute the features of a shard's samples, write the shard's files, and return its record, not yet written.

    Raises
    ------
    UserError : a picture cannot be read, or has changed since the scan; this worker has other libraries
    """
    _check_versions(task)
    profiles = np.zeros((task.rows, PROFILE_LENGTH), np.float32)
    samples = _compute_samples(task, profiles)
    chunks = (chunk for levels in samples for chunk in encode_sample(levels, task.settings.packing))
    parts = {
        FEATURES: encode_shard(chunks, task.rows * len(task.settings.features.kinds)),
        PROFILES: _encode_profiles(samples, profiles),
    }
    # Written in this order: the profiles are whole once the samples are computed.
    return write_shard(Storage(task.url), task.shard, task.key, {name: parts[name] for name in task.arrays})


def finish_shard(task: ShardTask, record: ShardRecord) -> ShardRecord:
    """Wait until a shard's files are on the disk, then write its record; needs next to no processor time."""
    commit_shard(Storage(task.url), record, task.arrays)
    return record


def _compute_samples(task: ShardTask, profiles: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the levels of all samples, in their order in the shard; fill in their profiles."""
    settings, rows = task.settings, iter(profiles)
    with_profile = PROFILES in task.arrays
    for path, sha256, first, last in task.pictures:
        try:
            # The scan has searched these very bytes for damage.
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
    """Yield the file of the profiles, once the samples that are left are computed."""
    for _ in samples:
        pass
    yield encode_profiles(profiles)


def _check_versions(task: ShardTask) -> None:
    """Raise `UserError` where this worker's libraries differ from the plan's.

    A cluster's worker may have other versions, whose features may differ in the last digit.
    """
    here = get_feature_versions()
    differing = [f"{name} {here[name]}, not {wanted}" for name, wanted in task.versions.items() if here[name] != wanted]
    if differing:
        raise UserError(
            f"worker on {platform.node()} has {', '.join(differing)}; install the same versions there (constraints.txt)"
        )
