"""Bytes, build and reading of a store with coarse levels beside one with fine levels.

    python benchmarks/levels_speed.py --src photos --samples 64

Pictures are spread over the set. Rounds alternate between the two; medians with the least and the most. The build is
the shards' tasks in this process: processor time for each sample. Reading is the trainer's reader, all samples in
seeded order, from the file cache and (cold) after the system was asked to forget the files, in five times as many
rounds; both wall and processor time for each sample.
"""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file
from stream import drop_cache

from data_cards.core.console import Command
from data_cards.dataset.scan import scan_sources
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import ShardTask, build_shard
from pipeline.features.settings import COARSE, FINE, MAX_PIXELS, FeatureSettings
from pipeline.store.reader import FeatureStore, open_store
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import ShardRecord
from train.data.loader import BatchLoader
from train.data.sampling import sample_epoch

BATCH = 16


@click.command(cls=Command, help=__doc__)
@click.option("--src", required=True)
@click.option("--size", default=1024, show_default=True)
@click.option("--samples", default=64, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(src: str, size: int, samples: int, rounds: int, threads: int) -> None:
    figures: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        _link_pictures(src, pictures, samples)
        for number in range(rounds):
            for levels in (FINE, COARSE):
                path = Path(folder) / f"{number}-{levels}.zarr"
                seconds, store = _build(pictures, path, size, levels)
                figures["build, CPU ms"][levels].append(1000 * seconds / len(store))
                if not number:
                    stored = sum(file.stat().st_size for file in (path / "features").rglob("*") if file.is_file())
                    figures["bytes"][levels].append(stored / len(store))
        stores = {levels: open_store(Path(folder) / f"0-{levels}.zarr") for levels in (FINE, COARSE)}
        for cold in (False, True):
            for number in range(5 * rounds + 1):
                for levels, store in stores.items():
                    if cold:
                        drop_cache(Path(store.path))
                    with _measured() as spent:
                        _read(store, threads)
                    if number:  # the first round warms up
                        for kind, seconds in spent.items():
                            name = f"read{', cold' if cold else ''}, {kind} ms"
                            figures[name][levels].append(1000 * seconds / len(store))
    table = [
        [name, *(_format(by_levels[levels]) for levels in (FINE, COARSE)), _compare(by_levels)]
        for name, by_levels in figures.items()
    ]
    click.echo(f"{size} px, {len(stores[FINE])} samples of {src}")
    click.echo(tabulate(table, headers=["a sample", FINE, COARSE, f"{COARSE} / {FINE}"], disable_numparse=True))


def _link_pictures(src: str, folder: Path, samples: int) -> None:
    """Link to about so many pictures of a set, evenly spaced, dealt to two classes."""
    files = [picture.file.path for picture in scan_sources([src], max_pixels=MAX_PIXELS).pictures]
    for number in np.unique(np.linspace(0, len(files) - 1, samples).astype(int)).tolist():
        place = folder / ("real", "fake")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}{Path(files[number]).suffix}").symlink_to(Path(files[number]).absolute())


def _build(pictures: Path, path: Path, size: int, levels: str) -> tuple[float, FeatureStore]:
    """Build a store; return the processor time of its shards' tasks, and the store."""
    seconds = []

    def run(task: ShardTask) -> ShardRecord:
        with _measured() as spent:
            record = build_shard(task)
        seconds.append(spent["CPU"])
        return record

    settings = BuildSettings(FeatureSettings(size=size, levels=levels), variants="clean")
    build_store([str(pictures)], str(path), settings, workers=0, allow_leakage=True, shard_function=run)
    return sum(seconds), open_store(path)


def _read(store: FeatureStore, threads: int) -> None:
    rows = np.arange(len(store))
    order = sample_epoch(rows, rows, 0, 1)
    with BatchLoader(store, threads=threads) as loader:
        for _ in loader.read([order[start : start + BATCH] for start in range(0, len(order), BATCH)]):
            pass


@contextmanager
def _measured() -> Iterator[dict[str, float]]:
    """Fill in the wall and the processor time of the block, in seconds."""
    spent: dict[str, float] = {}
    wall, processor = time.perf_counter(), time.process_time()
    yield spent
    spent |= {"wall": time.perf_counter() - wall, "CPU": time.process_time() - processor}


def _format(values: list[float]) -> str:
    middle = f"{np.median(values):,.4g}" if max(values) < 1e4 else f"{np.median(values):,.0f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.3g} to {max(values):,.3g})"


def _compare(by_levels: dict[str, list[float]]) -> str:
    return f"{np.median(np.divide(by_levels[COARSE], by_levels[FINE])):.2f}"


if __name__ == "__main__":
    main()
