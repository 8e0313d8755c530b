"""The plan of a build: the samples' rows, and the rows of each shard.

The plan is a pure function of the pictures and the settings. New pictures are ordered by split, then by a seeded hash,
so that sequential reading mixes classes and sources.
"""

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

import numpy as np

from data_cards.core.errors import PictureError, UserError
from data_cards.core.labels import CLASS_NAMES, TEST
from data_cards.core.text import format_count
from data_cards.dataset.scan import PictureSet, SetAside
from data_cards.dataset.table import Picture, PictureTable
from data_cards.image.facts import PictureFacts
from pipeline.builder.growth import Growth, list_kept_roots, merge_pictures
from pipeline.features.degradations import CODEC_SIDES, oversize_error
from pipeline.features.fit import compute_resampling_factor, misfit_error
from pipeline.features.variants import TEST_RECIPES, count_variants
from pipeline.features.versions import get_feature_versions
from pipeline.store.fingerprint import compute_fingerprint, encode_identity
from pipeline.store.schema import FORMAT_VERSION, PROFILES, SAMPLE_COLUMNS, Attribute, list_shard_arrays
from pipeline.store.settings import BuildSettings

SHARD_BYTES = 64 * 2**20  # of levels before compression
# Limits shards of small planes, so that a small picture set still occupies several workers. A plan reads it when it is
# created, so that tests can set it to get several shards from a few pictures.
MAX_SHARD_ROWS = 256


@dataclass(frozen=True)
class Plan:
    """The pictures and settings of a build, with the resulting rows and shards.

    Attributes
    ----------
    pictures : PictureTable, the usable pictures in the order of their rows
    set_aside : list of SetAside, the unusable picture files, with reasons
    settings : BuildSettings
    growth : Growth, the difference to the existing store; None for the plan of a finished build
    format_version : int, of the store; a store of an earlier version keeps its version
    """

    pictures: PictureTable
    set_aside: list[SetAside]
    settings: BuildSettings
    growth: Growth | None = None
    format_version: int = FORMAT_VERSION

    @cached_property
    def variants(self) -> int:
        """Number of rows of each picture."""
        return count_variants(self.settings.variants)

    @property
    def rows(self) -> int:
        return len(self.pictures) * self.variants

    @cached_property
    def shard_rows(self) -> int:
        """Number of rows of a shard: at most 64 MiB of levels, whole pictures where they fit."""
        features = self.settings.features
        levels = max(features.planes * features.side**2, 1)
        rows = min(max(SHARD_BYTES // levels, 1), MAX_SHARD_ROWS)
        return rows - rows % self.variants if rows >= self.variants else rows

    @property
    def shard_arrays(self) -> tuple[str, ...]:
        """Names of the arrays in shards."""
        return list_shard_arrays(self.settings.features.kinds, self.format_version)

    @property
    def shard_chunks(self) -> int:
        """Number of chunks of features in a whole shard: one for each row and kind of plane."""
        return self.shard_rows * len(self.settings.features.kinds)

    @property
    def shards(self) -> int:
        return -(-self.rows // self.shard_rows)

    @cached_property
    def roots(self) -> list[str]:
        """Source folders, to which the column `image` is relative."""
        return sorted({picture.file.root for picture in self.pictures})

    @cached_property
    def identity(self) -> dict:
        """See `compute_identity`."""
        return compute_identity(self.settings, self.format_version)

    @cached_property
    def fingerprint(self) -> str:
        """See `compute_fingerprint`."""
        return compute_fingerprint(self.identity, self.pictures)

    @cached_property
    def _identity_bytes(self) -> bytes:
        return encode_identity(self.identity)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """Return the first row of a shard and the row after its last."""
        start = shard * self.shard_rows
        return start, min(start + self.shard_rows, self.rows)

    def shard_pictures(self, shard: int) -> list[tuple[Picture, int, int]]:
        """Return the pictures with rows in a shard, each with the range of its variants (first, after last)."""
        start, stop = self.shard_range(shard)
        return [
            (self.pictures[number], max(start - first, 0), min(stop - first, self.variants))
            for number in range(start // self.variants, -(-stop // self.variants))
            for first in (number * self.variants,)
        ]

    def shard_key(self, shard: int) -> str:
        """Return the hexadecimal sha256 of all inputs of a shard: shards with equal keys have equal bytes."""
        digest = hashlib.sha256(self._identity_bytes)
        for picture, first, last in self.shard_pictures(shard):
            digest.update(picture.facts.sha256 + bytes([first, last]))
        return digest.hexdigest()

    def columns(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Return the per-sample columns of the rows of pictures `first` to `last` - 1."""
        root_number = {root: number for number, root in enumerate(self.roots)}
        values: dict[str, list] = {name: [] for name in SAMPLE_COLUMNS}
        for number in range(first, last):
            file, facts = self.pictures[number].file, self.pictures[number].facts
            of_picture = {
                "label": CLASS_NAMES.index(file.label),
                "split": file.split,
                "source": file.source,
                "root": root_number[file.root],
                "image": file.image,
                "sha256": facts.sha256.hex(),
                "picture": number,
                "group": self.pictures[number].group,
                "format": facts.format,
                "width": facts.width,
                "height": facts.height,
                "bytes": facts.bytes,
                "file_quality": facts.quality,
                "scale": compute_resampling_factor(facts.width, facts.height, self.settings.features),
            }
            for variant in self.settings.draw_variants(facts.sha256):
                of_sample = {
                    "variant": variant.name,
                    "parameters": variant.format_parameters(),
                    "jpeg_quality": variant.jpeg_quality,
                }
                for name, value in (of_picture | of_sample).items():
                    values[name].append(value)
        return {
            name: np.array(values[name], dtype=object if kind == "string" else kind)
            for name, (kind, _) in SAMPLE_COLUMNS.items()
        }

    def count_upsampled(self) -> int:
        """Count the pictures that the fit enlarges."""
        features = self.settings.features
        return sum(
            compute_resampling_factor(picture.facts.width, picture.facts.height, features) > 1
            for picture in self.pictures
        )


def compute_identity(settings: BuildSettings, format_version: int) -> dict:
    """Return format version, settings and library versions: builds that share them have interchangeable shards."""
    return {
        Attribute.FORMAT_VERSION: format_version,
        Attribute.SETTINGS: settings.to_dict(),
        Attribute.VERSIONS: get_feature_versions(profiles=PROFILES in list_shard_arrays((), format_version)),
    }


def _find_error(facts: PictureFacts, settings: BuildSettings) -> PictureError | None:
    """Return the error of a picture that is too small to be fitted or too long for a codec; None for others."""
    width, height = facts.width, facts.height
    error = misfit_error(width, height, settings.features)
    if error is None and max(width, height) > min(CODEC_SIDES.values()):
        variants = settings.draw_variants(facts.sha256)
        error = next(filter(None, (oversize_error(width, height, one.steps) for one in variants)), None)
    return error


def _list_kept_aside(before: Sequence[SetAside], kept: Collection[str], scanned: Collection[str]) -> list[SetAside]:
    """List the files set aside earlier below folders of which the store keeps the pictures without another scan."""
    real = list(map(os.path.realpath, scanned))
    return [
        one
        for one in before
        if any(PurePath(one.path).is_relative_to(root) for root in kept)
        and not any(PurePath(os.path.realpath(one.path)).is_relative_to(root) for root in real)
    ]


def plan_build(
    found: PictureSet,
    settings: BuildSettings,
    base: PictureTable | None = None,
    format_version: int = FORMAT_VERSION,
    set_aside_before: Sequence[SetAside] = (),
) -> Plan:
    """Plan a build of the scanned pictures.

    Parameters
    ----------
    found : PictureSet of a scan
    settings : BuildSettings
    base : PictureTable of the store to which the pictures are added; None for a new store
    format_version : int, of the store
    set_aside_before : of SetAside, files that the builds of that store set aside

    Raises
    ------
    UserError : a class has no picture that fits the settings, or the store takes test pictures and there is none
    """
    base = base or PictureTable()
    fitting, set_aside, of_test = [], list(found.set_aside), []
    for number, picture in enumerate(found.pictures):
        error = _find_error(picture.facts, settings)
        if error:
            set_aside.append(SetAside(str(picture.file.path), str(error)))
            continue
        fitting.append(number)
        if picture.file.split == TEST:
            of_test.append(number)
    if settings.variants in TEST_RECIPES:
        kept = list_kept_roots(base, found.roots)
        if not of_test and any(one.file.split == TEST and one.file.root in kept for one in base):
            raise UserError(
                f"variants {settings.variants}: the store has test pictures alone, and no test picture was found; add "
                "pictures under test/ (--src test/real=FOLDER --src test/fake=FOLDER), or build another store"
            )
        fitting = of_test or fitting
    growth = merge_pictures(base, found.pictures, fitting, found.roots, settings)
    kept = list_kept_roots(growth.pictures, found.roots)
    set_aside += _list_kept_aside(set_aside_before, kept, found.roots)
    missing = set(CLASS_NAMES) - {picture.file.label for picture in growth.pictures}
    if missing:
        have = "".join(f", {len(growth.pictures):,} of class {one}" for one in CLASS_NAMES if one not in missing)
        aside = ""
        if set_aside:
            last = set_aside[-1]
            aside = f"; {format_count(len(set_aside), 'file')} set aside, the last: {last.path}: {last.reason}"
        raise UserError(
            f"no picture of class {' and '.join(sorted(missing))}{have}{aside}; "
            f"expected pictures of both classes; add some with --src {min(missing)}=FOLDER"
        )
    set_aside.sort(key=lambda one: one.path)
    return Plan(growth.pictures, set_aside, settings, growth, format_version)
