"""Speed of writing a shard: `pipeline.store.shard_format` against Zarr's own writer.

    python benchmarks/shard_writer.py

For each size both write a shard of noise, which zstd cannot compress: chunks of three planes, nine planes a sample.
They write into the same folder, alternately; the table shows medians. This program uses one thread, Zarr its default
number. Run it on an idle machine.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import zarr
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from data_cards.core.console import Command
from pipeline.features.settings import FeatureSettings
from pipeline.store.filesystem import Storage
from pipeline.store.schema import FEATURES
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import encode_sample, encode_shard
from pipeline.store.writer import create_arrays, create_record_folder, write_shard


@click.command(cls=Command, context_settings={"show_default": True})
@click.option("--size", "sizes", multiple=True, type=int, default=(32, 256, 512, 1024), help="Sides of the planes.")
@click.option("--megabytes", default=64, help="Size of a shard before compression.")
@click.option("--rounds", default=5, help="Number of rounds; medians are printed.")
def main(sizes: tuple[int, ...], megabytes: int, rounds: int) -> None:
    """Measure both writers at some sizes."""
    rows = []
    for size in sizes:
        ours, zarrs = measure(size, megabytes * 2**20, rounds)
        rows.append([size, f"{1e3 * ours:.0f} ms", f"{1e3 * zarrs:.0f} ms", f"{zarrs / ours:.1f}"])
    click.echo(tabulate(rows, ["side", "this program", f"Zarr {zarr.__version__}", "times as long"]))


def measure(size: int, length: int, rounds: int) -> tuple[float, float]:
    """Return the median seconds of writing a shard of `length` bytes, by this program and by Zarr."""
    settings = BuildSettings(FeatureSettings(size=size, estimator="periodogram"), packing="none")
    shape = (settings.features.planes, size, size)
    samples = max(length // math.prod(shape), 1)
    levels = np.random.default_rng(0).integers(0, 256, (samples, *shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        create_record_folder(storage)
        create_arrays(storage, samples, samples, settings)
        array = zarr.open_array(f"{folder}/{FEATURES}", mode="r+")

        def write_ours() -> None:
            chunks = (chunk for sample in levels for chunk in encode_sample(sample, settings.packing))
            write_shard(storage, 0, "", {FEATURES: encode_shard(chunks, len(settings.features.kinds) * samples)})

        def write_zarrs() -> None:
            array[:] = levels

        spent = np.array([[_time(write) for write in (write_ours, write_zarrs)] for _ in range(rounds)])
        return tuple(np.median(spent, axis=0))


def _time(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
