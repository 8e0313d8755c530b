"""Small feature stores for tests, written through plain Zarr: the format as `pipeline.store` tells it."""

import hashlib
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.facts import PictureFacts
from data_cards.labels import CLASS_NAMES
from data_cards.layout import PictureFile
from data_cards.pictures import Picture
from pipeline.provenance import pack_pictures, write_provenance
from pipeline.settings import BuildSettings, FeatureSettings
from pipeline.store import COLUMNS, FORMAT_VERSION

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
) -> Path:
    """Write a store of noise in which fakes are brighter by `signal` levels in one corner of each plane.

    Parameters
    ----------
    pictures : numbers of real and of fake pictures, by split
    variants : rows of every picture
    shard : rows a shard
    first : number that the pictures' hashes are counted from
    """
    pictures = pictures or {"train": (12, 12), "val": (6, 6), "test": (6, 6)}
    rng = np.random.default_rng(seed)
    rows = [
        (split, label, f"{split}/{CLASS_NAMES[label]}/source-{number % 2}/{number:03}.jpg", variant)
        for split, counts in pictures.items()
        for label, count in enumerate(counts)
        for number in range(count)
        for variant in variants
    ]
    samples = rng.integers(60, 120, (len(rows), 9, size, size), dtype=np.uint8)
    images = list(dict.fromkeys(image for _, _, image, _ in rows))
    for sample, (_, label, _, _) in zip(samples, rows, strict=True):
        sample[:, : size // 4, : size // 4] += np.uint8(signal * label)
    columns = {
        "label": [label for _, label, _, _ in rows],
        "split": [split for split, _, _, _ in rows],
        "source": [image.split("/")[2] for _, _, image, _ in rows],
        "root": [0] * len(rows),
        "image": [image for _, _, image, _ in rows],
        "sha256": [f"{first + images.index(image):064x}" for _, _, image, _ in rows],
        "picture": [images.index(image) for _, _, image, _ in rows],
        "group": [images.index(image) for _, _, image, _ in rows],
        "variant": [variant for _, _, _, variant in rows],
        "parameters": ["{}"] * len(rows),
        "jpeg_quality": [-1 if variant == "clean" else 75 for _, _, _, variant in rows],
        "format": ["JPEG"] * len(rows),
        "file_quality": [90] * len(rows),
    }
    with zarr.config.set({"array.write_empty_chunks": True}):
        group = zarr.create_group(path)
        features = group.create_array(
            "features",
            shape=samples.shape,
            dtype="uint8",
            chunks=(1, 3, size, size),
            shards=(shard, 9, size, size),
            compressors=ZstdCodec(level=1),
        )
        for start in range(0, len(samples), shard):
            features[start : start + shard] = samples[start : start + shard]
        for name, (kind, _) in COLUMNS.items():
            values = columns.get(name, [1] * len(rows))
            if kind == "string":
                array = group.create_array(name, shape=(len(rows),), dtype=str)
                array[:] = np.array(values, dtype=object)
            else:
                group.create_array(name, data=np.array(values, dtype=kind))
        training = samples[[split == "train" for split, _, _, _ in rows]].astype(np.float64)
        write_provenance(group, pack_pictures(_make_pictures(path, rows, columns)))
        statistics = group.create_group("statistics")
        empty = np.zeros(samples.shape[1:])
        for name, values in (
            ("mean", training.mean(axis=0) if len(training) else empty),
            ("std", training.std(axis=0) if len(training) else empty),
        ):
            statistics.create_array(name, data=values.astype(np.float32))
        group.attrs.update(
            {
                "format_version": FORMAT_VERSION,
                "complete": complete,
                "settings": BuildSettings(features=FeatureSettings(size=size)).as_json(),
                "fingerprint": fingerprint or f"{seed:064x}",
                "class_names": list(CLASS_NAMES),
                "roots": [str(Path(path).parent / "pictures")],
                "simulated": False,
            }
        )
    return path


def _make_pictures(path: Path, rows: list[tuple], columns: dict[str, list]) -> list[Picture]:
    """The pictures of the rows, each once, none a near-duplicate of another."""
    pictures = {}
    for (split, label, image, _), sha256 in zip(rows, columns["sha256"], strict=True):
        file = PictureFile(str(Path(path).parent / "pictures"), image, split, CLASS_NAMES[label], image.split("/")[2])
        sha256 = bytes.fromhex(sha256)
        facts = PictureFacts(
            sha256, 1, "JPEG", 1, 1, 90, hashlib.sha256(sha256).digest(), "RGB", "0" * 8, "4:2:0", False, False
        )
        pictures.setdefault(image, Picture(file, facts, len(pictures)))
    return list(pictures.values())
