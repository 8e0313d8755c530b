"""The kernels of a build, called alone: the floor of `benchmarks/build.py`.

They are a module of their own, because worker processes do not import the script that starts them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_cards.archives.place import read_file
from data_cards.image.decode import decode_picture
from pipeline.builder.shard_task import ShardTask
from pipeline.features.extract import compute_features
from pipeline.store.shard_format import encode_profiles, encode_sample


def run_kernels(tasks: Sequence[ShardTask]) -> None:
    """Compute and encode the samples of shards, and write nothing."""
    for task in tasks:
        settings, profiles = task.settings, []
        for path, sha256, first, last in task.pictures:
            picture = decode_picture(read_file(Path(path)), settings.max_pixels, check=False)
            variants = settings.draw_variants(sha256)[first:last]
            for (levels,), profile in compute_features(picture, settings.features, variants):
                profiles.append(profile)
                for _ in encode_sample(levels, settings.packing):
                    pass
        encode_profiles(np.stack(profiles))
