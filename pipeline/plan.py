"""The plan of a build: which sample stands in which row, and which rows make a shard.

A pure function of the pictures and the settings. Pictures are ordered by split and then by a
seeded hash, so that reading shards one after the other already mixes classes and sources.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_cards.errors import UserError
from data_cards.scan import Picture, PictureSet, SetAside
from data_cards.splits import draw_key
from pipeline.fit import explain_misfit, resampling_factor
from pipeline.settings import BuildSettings
from pipeline.store import CLASS_NAMES, COLUMNS, FORMAT_VERSION, PLANES, SPLITS
from pipeline.variants import count_variants, draw_variants
from pipeline.versions import feature_versions

SHARD_BYTES = 64 * 2**20  # of features before compression
# Small planes make small shards, so that a small set still keeps several workers busy.
MAX_SHARD_ROWS = 256


@dataclass(frozen=True)
class Plan:
    """What a build makes.

    Attributes
    ----------
    pictures : usable pictures, in the order of their rows
    set_aside : picture files that cannot be used, with reasons
    settings : of the build
    """

    pictures: list[Picture]
    set_aside: list[SetAside]
    settings: BuildSettings

    @cached_property
    def variants(self) -> int:
        """Rows a picture."""
        return count_variants(self.settings.variants)

    @property
    def rows(self) -> int:
        return len(self.pictures) * self.variants

    @cached_property
    def shard_rows(self) -> int:
        """Rows a shard: at most about 64 MiB of features, whole pictures where they fit."""
        rows = SHARD_BYTES // (len(PLANES) * self.settings.features.size**2)
        rows = min(max(rows, 1), MAX_SHARD_ROWS)
        return rows - rows % self.variants if rows >= self.variants else rows

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    @cached_property
    def roots(self) -> list[str]:
        """Absolute paths of the source folders that `image` is relative to."""
        return sorted({os.path.abspath(picture.file.root) for picture in self.pictures})

    @cached_property
    def fingerprint(self) -> str:
        """sha256, hexadecimal, over format, settings, versions, and every picture's hash, label and split."""
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode())
        for picture in self.pictures:
            file = picture.file
            digest.update(picture.facts.sha256)
            digest.update(f"{file.label}/{file.split}/{file.source}/{file.image}\n".encode())
        return digest.hexdigest()

    @property
    def identity(self) -> dict:
        """What must be equal for two builds' shards to be interchangeable, besides the pictures."""
        return {
            "format_version": FORMAT_VERSION,
            "settings": self.settings.as_json(),
            "versions": feature_versions(),
        }

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First row of a shard and the row behind its last."""
        start = shard * self.shard_rows
        return start, min(start + self.shard_rows, self.rows)

    def columns(self) -> dict[str, np.ndarray]:
        """The per-sample columns of the store, each of length `rows`."""
        root_number = {root: number for number, root in enumerate(self.roots)}
        features = self.settings.features
        # A group is numbered by its place in the plan, which no thread or file system decides.
        group_number: dict[int, int] = {}
        values: dict[str, list] = {name: [] for name in COLUMNS}
        for number, picture in enumerate(self.pictures):
            file, facts = picture.file, picture.facts
            of_picture = {
                "label": CLASS_NAMES.index(file.label),
                "split": file.split,
                "source": file.source,
                "root": root_number[os.path.abspath(file.root)],
                "image": file.image,
                "sha256": facts.sha256.hex(),
                "picture": number,
                "group": group_number.setdefault(picture.group, len(group_number)),
                "format": facts.format,
                "width": facts.width,
                "height": facts.height,
                "bytes": facts.bytes,
                "file_quality": facts.quality,
                "scale": resampling_factor(facts.width, facts.height, features),
            }
            for variant in draw_variants(self.settings.variants, self.settings.seed, facts.sha256):
                of_sample = {
                    "variant": variant.name,
                    "parameters": variant.parameters_as_json(),
                    "jpeg_quality": variant.jpeg_quality,
                }
                for name, value in (of_picture | of_sample).items():
                    values[name].append(value)
        return {
            name: np.array(values[name], dtype=object if kind == "string" else kind)
            for name, (kind, _) in COLUMNS.items()
        }


def plan_build(found: PictureSet, settings: BuildSettings) -> Plan:
    """Plan a build of the scanned pictures.

    Raises
    ------
    UserError : no picture of a class is left that fits the settings
    """
    fitting, set_aside = [], list(found.set_aside)
    for picture in found.pictures:
        reason = explain_misfit(picture.facts.width, picture.facts.height, settings.features)
        if reason:
            set_aside.append(SetAside(str(picture.file.path), reason))
        else:
            fitting.append(picture)
    missing = set(CLASS_NAMES) - {picture.file.label for picture in fitting}
    if missing:
        raise UserError(
            f"no {' and no '.join(sorted(missing))} picture fits the settings ({len(set_aside)} set aside); "
            f"the last: {set_aside[-1].path}: {set_aside[-1].reason}"
        )

    def place(picture: Picture) -> tuple:
        key = draw_key(settings.seed, picture.facts.sha256, "order")
        return SPLITS.index(picture.file.split), key, picture.file.root, picture.file.image

    set_aside.sort(key=lambda one: one.path)
    return Plan(sorted(fitting, key=place), set_aside, settings)
