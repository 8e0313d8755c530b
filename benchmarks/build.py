"""Speed of a build, compared with its kernels alone and with a plain implementation.

    python benchmarks/build.py --src PICTURES [--src PICTURES ...]

It prints four tables. The first two show medians, minima and maxima of interleaved trials:

- Samples a second of the build, compared with its floor: the same kernels called alone, one after the other, in this
  process (decode, variants, profile, compress; with planes also fit, FFT, DCT, quantise, pack). The build runs in this
  process and on two Dask workers. Reading, hashing and writing count; starting processes and scanning do not. Two
  limits of the machine are measured too: two processes that run the kernels alone show what two cores share (memory,
  cache), and writing the same bytes alone shows what the disk needs.
- The planes' spectral step alone, compared with a plain implementation: complex FFT in double precision, full planes,
  each stretched to its own range.
- Bytes a sample, compared with arrays saved with NumPy and with the pixels that the planes are computed from.
- Processor time of one whole default build of some of the pictures: scan, audit, shards, and the rest (estimate, plan,
  columns, card).

Shards are smaller here than in a store, so that few samples fill many shards. A task has a fixed cost, so a real build
is not slower than shown.

Run it on an idle machine.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a figure a core

import click
import numpy as np
from build_kernels import run_kernels
from scipy import fft
from tabulate import tabulate

from data_cards.archives.place import read_file
from data_cards.audit.audit import audit_or_warn
from data_cards.core.console import Command
from data_cards.dataset.scan import PictureSet, scan_sources
from data_cards.image.decode import decode_picture
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.builder.plan import Plan, plan_build
from pipeline.builder.shard_task import ShardTask, build_shard, create_task, finish_shard
from pipeline.execution.cluster import local_cluster
from pipeline.execution.tasks import run_tasks
from pipeline.features.fit import fit_picture, to_array
from pipeline.features.periodogram import compute_periodogram_levels
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import MAX_PIXELS, FeatureSettings
from pipeline.store.filesystem import Storage
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import create_arrays, create_record_folder

_FEW_ROWS = {False: 24, True: 8}  # of a shard here, at most; without and with planes


@click.command(cls=Command)
@click.option("--src", "sources", multiple=True, required=True, help="Picture folder, as for `pipeline build`.")
@click.option("--sizes", default="0,256,512,1024", show_default=True, help="Sides of the planes, in pixels; 0: none.")
@click.option(
    "--samples",
    default=192,
    show_default=True,
    help="Samples of a trial, at least 32 shards; eight times as many without planes.",
)
@click.option("--trials", default=7, show_default=True, help="Number of trials; medians are printed.")
@click.option("--whole", default=240, show_default=True, help="Number of pictures of the whole build.")
def main(sources: tuple[str, ...], sizes: str, samples: int, trials: int, whole: int) -> None:
    """Measure the build."""
    found = scan_sources(sources, max_pixels=MAX_PIXELS)
    speeds, steps, bytes_ = [], [], []
    for size in (int(text) for text in sizes.split(",")):
        plan = plan_build(found, BuildSettings(FeatureSettings(size=size or None)))
        with tempfile.TemporaryDirectory() as folder, _small_shards(size > 0):
            wanted = samples if size else 8 * samples
            tasks = _choose_tasks(plan, Storage(f"{folder}/store"), wanted)
            speeds += _measure_build(plan, tasks, trials)
            files = [path for path in Path(folder).rglob("c/**/*") if path.is_file()]
            bytes_.append(_compare_bytes(plan, tasks, sum(path.stat().st_size for path in files) / _count_rows(tasks)))
        if size:
            steps.append(_measure_spectra(plan, tasks[0].pictures[0][0], trials))
    print(tabulate(speeds, ["size", "way", "samples/s", "least", "most", "share of the floor"], floatfmt=".3g"), "\n")
    print(tabulate(steps, ["size", "spectral step, ms", "the plain way, ms", "times as fast"], floatfmt=".3g"), "\n")
    headers = [
        "size",
        "bytes a sample",
        "float16 .npy",
        "float32 .npy",
        "float64 .npy",
        "float32 / stored",
        "pixels",
        "JPEG 90",
    ]
    print(tabulate(bytes_, headers, floatfmt=(*[".0f"] * 5, ".1f", ".0f", ".0f")), "\n")
    headers = ["whole build of pictures", "part", "processor time, s", "share"]
    print(tabulate(_measure_whole(found, whole), headers, floatfmt=(".0f", "", ".2f", ".1%")))


@contextmanager
def _small_shards(with_planes: bool) -> Iterator[None]:
    with patch.object(plan_module, "MAX_SHARD_ROWS", _FEW_ROWS[with_planes]):
        yield


def _choose_tasks(plan: Plan, storage: Storage, samples: int) -> list[ShardTask]:
    """Choose shards of about `samples` samples, spread over the set, and at least 32 shards.

    Of fewer, the one shard that a worker runs alone at the end would count for more than in a long build.
    """
    create_record_folder(storage)
    create_arrays(storage, plan.rows, plan.shard_rows, plan.settings, plan.shard_arrays)
    count = min(max(samples // plan.shard_rows, 32), plan.shards)
    return [create_task(plan, storage, number * plan.shards // count) for number in range(count)]


def _measure_build(plan: Plan, tasks: Sequence[ShardTask], trials: int) -> list[list]:
    rows = _count_rows(tasks)
    size = plan.settings.features.side
    with local_cluster(2) as cluster, ProcessPoolExecutor(2, get_context("spawn")) as pair:

        def run(**where: object) -> None:
            for _, result in run_tasks(build_shard, tasks, finish_shard, **where):
                if isinstance(result, Exception):
                    raise result

        seconds = _time(
            {
                "floor": lambda: run_kernels(tasks),
                "0 workers": lambda: run(workers=0),
                "floor in 2 processes": lambda: list(pair.map(run_kernels, ([task] for task in tasks))),
                "2 workers": lambda: run(workers=2, scheduler=cluster.scheduler_address),
                "only writing": lambda: _write_again(tasks),
            },
            trials,
        )
    table = []
    for way, times in seconds.items():
        # Each trial against the floor beside it: a noisy machine is noisy for both.
        cores = 2 if "2" in way else 1
        shares = [floor / spent / cores for floor, spent in zip(seconds["floor"], times, strict=True)]
        rates = [rows / spent for spent in times]
        table.append([size, way, np.median(rates), min(rates), max(rates), np.median(shares)])
    return table


def _write_again(tasks: Sequence[ShardTask]) -> None:
    for task in tasks:
        storage = Storage(task.url)
        for file in (shard_file(task.shard, array) for array in task.arrays):
            storage.write(file, storage.read(file))


def _count_rows(tasks: Sequence[ShardTask]) -> int:
    return sum(last - first for task in tasks for *_, first, last in task.pictures)


def _measure_whole(found: PictureSet, count: int) -> list[list]:
    """Measure the processor time of one default build of about `count` pictures, spread over the set, by part."""
    files = [picture.file for picture in found.pictures if picture.file.path.is_file()]
    files = files[:: max(len(files) // count, 1)]
    spent: dict[str, float] = {}

    def measure(part: str, function: Callable, *arguments: object, **options: object) -> object:
        began = time.process_time()
        result = function(*arguments, **options)
        spent[part] = spent.get(part, 0) + time.process_time() - began
        return result

    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            link = Path(folder, "set", file.split, file.label, file.source, f"{number}{file.path.suffix}")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.path.absolute())
        sources = [f"{folder}/set"]
        scanned = measure("scan", scan_sources, sources, max_pixels=MAX_PIXELS, cache=False)
        measure("audit", audit_or_warn, scanned.pictures)
        measure(
            "whole",
            build_store,
            sources,
            f"{folder}/store",
            workers=0,
            allow_leakage=True,
            cache=False,
            shard_function=lambda task: measure("shards: kernels and writing", build_shard, task),
        )
    whole = spent.pop("whole")
    spent["estimate, plan, columns, card"] = whole - sum(spent.values())
    return [[len(files), part, seconds, seconds / whole] for part, seconds in spent.items()]


def _measure_spectra(plan: Plan, path: str, trials: int) -> list:
    features = plan.settings.features
    rgb = to_array(fit_picture(decode_picture(read_file(Path(path)), MAX_PIXELS), features))
    times = _time({"ours": lambda: compute_periodogram_levels(rgb), "plain": lambda: compute_plain_planes(rgb)}, trials)
    ours, plain = (1000 * float(np.median(times[way])) for way in ("ours", "plain"))
    return [features.size, ours, plain, float(np.median(np.divide(times["plain"], times["ours"])))]


def compute_plain_planes(rgb: np.ndarray) -> np.ndarray:
    """Compute nine planes the plain way: uint8 (9, H, W), each stretched to its own minimum..maximum."""
    planes = []
    pictures = [rgb[..., colour].astype(np.float64) for colour in range(3)]
    spectra = [np.fft.fftshift(np.fft.fft2(picture)) for picture in pictures]
    planes += [np.log1p(np.abs(spectrum)) for spectrum in spectra]
    planes += [np.angle(spectrum) for spectrum in spectra]
    planes += [np.log1p(np.abs(_dct(picture))) for picture in pictures]
    return np.stack([((plane - plane.min()) / np.ptp(plane) * 255).astype(np.uint8) for plane in planes])


def _dct(picture: np.ndarray) -> np.ndarray:
    try:
        import cv2  # as the plain way does, where it is installed
    except ImportError:
        return fft.dctn(picture, norm="ortho")
    return cv2.dct(picture)


def _compare_bytes(plan: Plan, tasks: Sequence[ShardTask], stored: float) -> list:
    features = plan.settings.features
    values = features.planes * features.side**2 + PROFILE_LENGTH
    pixels = _measure_pixels(features, tasks) if features.planes else (None, None)
    return [features.side, stored, 2 * values, 4 * values, 8 * values, 4 * values / stored, *pixels]


def _measure_pixels(features: FeatureSettings, tasks: Sequence[ShardTask]) -> tuple[float, float]:
    """Return the bytes of a fitted picture as uint8 and, by the mean of up to 32, saved as JPEG 90."""
    saved = []
    for task in tasks[:32]:
        buffer = io.BytesIO()
        picture = decode_picture(read_file(task.pictures[0][0]), MAX_PIXELS)
        fit_picture(picture, features).save(buffer, "JPEG", quality=90)
        saved.append(buffer.tell())
    return 3 * features.size**2, float(np.mean(saved))


def _time(ways: dict[str, Callable[[], object]], trials: int) -> dict[str, list[float]]:
    """Return the seconds of every way in every trial, ways interleaved; the first trial warms up and is left out."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for trial in range(trials + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            if trial:
                seconds[way].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    main()
