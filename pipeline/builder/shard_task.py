"""One shard's samples: the task that a worker runs. It may run twice and gives the same bytes."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass

from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import read_unchanged
from pipeline.builder.plan import Plan
from pipeline.features.extract import compute_features
from pipeline.features.versions import get_feature_versions
from pipeline.store.filesystem import Storage
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_sample, encode_shard
from pipeline.store.writer import ShardRecord, commit_shard, write_shard


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to make one shard.

    Attributes
    ----------
    url : the store's place while it is built
    shard, rows : number of the shard, and the rows of a whole one
    key : of the shard's content, for its record
    pictures : for each picture with rows in the shard its path, its sha256 and which of its
        variants (first, behind last) the shard holds
    settings : of the build
    versions : of the libraries that the plan was made with
    """

    url: str
    shard: int
    rows: int
    key: str
    pictures: tuple[tuple[str, bytes, int, int], ...]
    settings: BuildSettings
    versions: dict[str, str]


def make_task(plan: Plan, storage: Storage, shard: int) -> ShardTask:
    """The task of one shard."""
    pictures = tuple(
        (str(picture.file.path), picture.facts.sha256, first, last)
        for picture, first, last in plan.shard_pictures(shard)
    )
    return ShardTask(
        storage.url, shard, plan.shard_rows, plan.shard_key(shard), pictures, plan.settings, plan.identity["versions"]
    )


def make_shard(task: ShardTask) -> ShardRecord:
    """Make the features of a shard's samples and write them; the shard's record, which is not written yet.

    Raises
    ------
    UserError : a picture cannot be read, or has changed since the scan; this worker has other libraries
    """
    _check_versions(task)
    parts = encode_shard(_make_chunks(task), task.rows * len(task.settings.features.kinds))
    return write_shard(Storage(task.url), task.shard, task.key, parts)


def finish_shard(task: ShardTask, record: ShardRecord) -> ShardRecord:
    """Wait for the disk and write a shard's record: what is left to do when the processor's work is done."""
    commit_shard(Storage(task.url), record)
    return record


def _make_chunks(task: ShardTask) -> Iterator[bytes]:
    """The encoded chunks of all samples, in the order of their place."""
    settings = task.settings
    for path, sha256, first, last in task.pictures:
        try:
            picture = read_unchanged(path, sha256)
            variants = settings.draw_variants(sha256)[first:last]
            for (levels,) in compute_features(picture, settings.features, variants, max_pixels=settings.max_pixels):
                yield from encode_sample(levels, settings.packing)
        except PictureError as error:
            raise UserError(f"{path}: {error}") from error


def _check_versions(task: ShardTask) -> None:
    """Refuse to mix features that may differ in the last place; a worker of a cluster may have other libraries."""
    here = get_feature_versions()
    differing = [f"{name} {here[name]}, not {wanted}" for name, wanted in task.versions.items() if here[name] != wanted]
    if differing:
        raise UserError(
            f"worker on {platform.node()} has {', '.join(differing)}; install the same versions there (constraints.txt)"
        )
