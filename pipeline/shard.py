"""One shard's samples: the task that a worker runs. It may run twice and gives the same bytes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from data_cards.decode import decode_picture
from data_cards.errors import PictureError, UserError
from data_cards.facts import read_file
from pipeline.features import features_of_picture
from pipeline.fit import fit_picture
from pipeline.plan import Plan
from pipeline.settings import BuildSettings
from pipeline.store import PLANES
from pipeline.variants import draw_variants
from pipeline.writer import ShardRecord, write_shard


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to make one shard.

    `pictures` holds, for each picture with rows in the shard, its path, its sha256 and which of
    its variants (first, behind last) the shard holds.
    """

    folder: str
    shard: int
    start: int
    stop: int
    pictures: tuple[tuple[str, bytes, int, int], ...]
    settings: BuildSettings


def make_task(plan: Plan, folder: Path, shard: int) -> ShardTask:
    """The task of one shard."""
    start, stop = plan.shard_range(shard)
    pictures = []
    for number in range(start // plan.variants, -(-stop // plan.variants)):
        picture, first = plan.pictures[number], number * plan.variants
        pictures.append((
            str(picture.file.path),
            picture.facts.sha256,
            max(start - first, 0),
            min(stop - first, plan.variants),
        ))  # fmt: skip
    return ShardTask(str(folder), shard, start, stop, tuple(pictures), plan.settings)


def make_shard(task: ShardTask) -> ShardRecord:
    """Make the features of a shard's samples and write them.

    Raises
    ------
    UserError : a picture cannot be read, or has changed since the scan
    """
    size = task.settings.features.size
    samples = np.empty((task.stop - task.start, len(PLANES), size, size), dtype=np.uint8)
    row = 0
    for path, sha256, first, last in task.pictures:
        try:
            data = read_file(Path(path))
            if hashlib.sha256(data).digest() != sha256:
                raise PictureError("has changed since the scan; run the build again")
            fitted = fit_picture(decode_picture(data, task.settings.max_pixels), task.settings.features)
        except PictureError as error:
            raise UserError(f"{path}: {error}") from error
        for variant in draw_variants(task.settings.variants, task.settings.seed, sha256)[first:last]:
            samples[row] = features_of_picture(fitted, variant)
            row += 1
    # A worker is one process of many; Zarr's own threads would only fight over the cores.
    with zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1}):
        return write_shard(Path(task.folder), task.shard, task.start, samples)
