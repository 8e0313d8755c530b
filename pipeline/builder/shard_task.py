"""The task of one shard, which a worker runs. A task that runs twice writes the same bytes."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from data_cards.archives.place import read_unchanged
from data_cards.core.errors import PictureError, UserError
from pipeline.builder.plan import Plan
from pipeline.features.extract import compute_features
from pipeline.features.versions import get_feature_versions
from pipeline.store.filesystem import Storage
from pipeline.store.schema import Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_sample, encode_shard
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
    versions : dict, versions of the libraries that the plan was made with
    """

    url: str
    shard: int
    rows: int
    key: str
    pictures: tuple[tuple[str, bytes, int, int], ...]
    settings: BuildSettings
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
        plan.identity[Attribute.VERSIONS],
    )


def build_shard(task: ShardTask) -> ShardRecord:
    """Compute the features of a shard's samples, write the shard's file, and return its record, not yet written.

    Raises
    ------
    UserError : a picture cannot be read, or has changed since the scan; this worker has other libraries
    """
    _check_versions(task)
    parts = encode_shard(_encode_chunks(task), task.rows * len(task.settings.features.kinds))
    return write_shard(Storage(task.url), task.shard, task.key, parts)


def finish_shard(task: ShardTask, record: ShardRecord) -> ShardRecord:
    """Wait until a shard's file is on the disk, then write its record; needs next to no processor time."""
    commit_shard(Storage(task.url), record)
    return record


def _encode_chunks(task: ShardTask) -> Iterator[bytes]:
    """Yield the encoded chunks of all samples, in their order in the shard."""
    settings = task.settings
    for path, sha256, first, last in task.pictures:
        try:
            picture = read_unchanged(path, sha256)
            variants = settings.draw_variants(sha256)[first:last]
            found = compute_features(
                picture, settings.features, variants, with_profile=False, max_pixels=settings.max_pixels
            )
            for (levels,), _ in found:
                yield from encode_sample(levels, settings.packing)
        except PictureError as error:
            raise UserError(f"{path}: {error}") from error


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
