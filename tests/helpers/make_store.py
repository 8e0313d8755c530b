"""Small feature stores for tests: made-up features and pictures, written by the functions that a build writes with."""

import hashlib
from pathlib import Path

import numpy as np
import zarr

from data_cards.audit.audit import Audit, Limits, Obstacle
from data_cards.core.labels import CLASS_NAMES
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.table import PictureTable
from data_cards.image.facts import PictureFacts
from pipeline.builder.build import compute_attributes
from pipeline.builder.card import compute_build_card, write_card
from pipeline.builder.metadata import write_plan_coordinates
from pipeline.builder.plan import Plan
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import FeatureSettings
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_profiles, encode_sample, encode_shard
from pipeline.store.statistics import compute_statistics
from pipeline.store.writer import (
    create_arrays,
    write_attributes,
    write_checksums,
    write_columns,
    write_shard,
    write_statistics,
)

SMALL_BUILD = BuildSettings(FeatureSettings(size=16), variants="clean", val_fraction=0.25)


def make_store(
    path: Path,
    *,
    pictures: dict[str, tuple[int, int]] | None = None,
    size: int = 32,
    variants: tuple[str, ...] = ("clean",),
    shard: int = 8,
    seed: int = 0,
    signal: int = 60,
    complete: bool = True,
    fingerprint: str | None = None,
    first: int = 0,
    near: int | None = None,
    sources: int = 2,
) -> Path:
    """Write a store of noise in which fakes are brighter by `signal` levels in one corner of each plane.

    Every value of the profile of a fake is higher by `signal` / 60, where 1 is the noise's standard deviation.

    Parameters
    ----------
    pictures : numbers of real and of fake pictures, by split
    variants : rows of every picture
    shard : rows a shard
    fingerprint : in place of one that only the seed decides
    first : number that the pictures' hashes are counted from
    near : number of another store's picture, of which the first picture is a near-duplicate
    sources : sources of each class; both classes have the same names
    """
    pictures = pictures or {"train": (12, 12), "val": (6, 6), "test": (6, 6)}
    settings = BuildSettings(FeatureSettings(size=size), variants="clean", packing="none")
    plan = Plan(_make_pictures(Path(path).parent / "pictures", pictures, first, near, sources), [], settings)
    labels = np.repeat([CLASS_NAMES.index(one.file.label) for one in plan.pictures], len(variants))
    samples = np.random.default_rng(seed).integers(60, 120, (len(labels), 9, size, size), dtype=np.uint8)
    samples[labels == 1, :, : size // 4, : size // 4] += np.uint8(signal)

    profiles = np.random.default_rng((seed, 1)).standard_normal((len(labels), PROFILE_LENGTH), np.float32)
    profiles[labels == 1] += np.float32(signal / 60)
    profiles[:, -4:] = 640, 480, 50, 20  # facts of an ordinary picture

    storage = Storage(path)
    attributes = {**compute_attributes(plan), "fingerprint": fingerprint or f"{seed:064x}", "complete": complete}
    write_attributes(storage, attributes)
    create_arrays(storage, len(samples), shard, settings)
    checksums = [
        _write_shard(storage, number, samples[start : start + shard], profiles[start : start + shard], shard)
        for number, start in enumerate(range(0, len(samples), shard))
    ]
    write_columns(storage, len(samples), [_make_columns(plan, variants)])
    write_checksums(storage, checksums)
    write_plan_coordinates(plan, storage)
    group = zarr.open_group(storage.url, mode="r+")
    is_training = np.repeat([one.file.split == "train" for one in plan.pictures], len(variants))
    write_statistics(storage, *compute_statistics(group["features"], np.flatnonzero(is_training)))
    write_manifest(group, encode_manifest(plan.pictures))
    counts = np.sum(list(pictures.values()), axis=0).tolist()
    audit = Audit((), tuple(counts), Limits(), Obstacle.TOO_FEW)
    write_card(group, compute_build_card(plan, False, audit))
    write_attributes(storage, add_digests(storage, attributes) if complete else attributes)
    return path


def _make_pictures(
    root: Path, numbers: dict[str, tuple[int, int]], first: int, near: int | None, sources: int
) -> PictureTable:
    """Make up pictures, none of them near-duplicates."""
    table = PictureTable()
    for split, counts in numbers.items():
        for label, count in zip(CLASS_NAMES, counts, strict=True):
            for number in range(count):
                source = f"source-{number % sources}"
                sha256 = (first + len(table)).to_bytes(32, "big")
                hashed = sha256 if near is None or len(table) else near.to_bytes(32, "big")
                phash = hashlib.sha256(hashed).digest()
                facts = PictureFacts(sha256, 1, "JPEG", 1, 1, 90, phash, "RGB", "0" * 8, "4:2:0", False, False)
                file = PictureFile(str(root), f"{split}/{label}/{source}/{number:03}.jpg", split, label, source)
                table.add(file, facts)
    table.set_groups(np.arange(len(table)))
    return table


def _make_columns(plan: Plan, variants: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The columns of the plan's pictures, each of which has rows of the named variants."""
    count = len(plan.pictures)
    columns = {name: values.repeat(len(variants)) for name, values in plan.columns(0, count).items()}
    columns["variant"] = np.array(variants * count, dtype=object)
    columns["jpeg_quality"] = np.where(columns["variant"] == "clean", -1, 75).astype(np.int16)
    return columns


def _write_shard(storage: Storage, number: int, samples: np.ndarray, profiles: np.ndarray, rows: int) -> str:
    """Write a shard of so many rows; returns the checksum of its files."""
    chunks = [chunk for sample in samples for chunk in encode_sample(sample, "none")]
    padded = np.pad(profiles, ((0, rows - len(profiles)), (0, 0)))
    parts = {"features": encode_shard(chunks, rows * 3), "profiles": [encode_profiles(padded)]}
    return write_shard(storage, number, "", parts).checksum
