"""Speed of a training step as a share of its limit, and the gain of a store over features computed in the loop.

    python benchmarks/train.py --src PICTURES
    python benchmarks/train.py --src PICTURES --sizes 64 --pictures 48 --network small
    python benchmarks/train.py --src PICTURES --sizes 32 --pictures 400 --samples 128 --network small --batch-size 32
    python benchmarks/train.py --src PICTURES --pictures 1024 --samples 2048 --batch-size 64   (on a GPU)

A store is built of a drawn subset of the pictures, and the build is timed. Then the same network takes the same
steps, in alternating rounds, so that other load affects all of them, on

- one batch in the device's memory: the ceiling
- batches read from the store, in the trainer's own loop, which also measures how long it waits for data
- the same, with rows that are held in memory, as `train run` does if they fit
- features that worker processes of PyTorch's DataLoader compute from the picture files: decode, make the variant, fit,
  FFT and DCT by this project's functions, one core a process
- on a CUDA device, pixels that the workers decode, change and fit, with FFT and DCT on the device

It prints medians, minima and maxima of the rounds; shares are of the same round's ceiling. The build's seconds include
scanning, starting workers and statistics. An epoch is one variant of each training picture.

Run it on an idle machine.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is this file

import click
import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset

from data_cards.archives.place import read_file
from data_cards.core.console import Command, progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.errors import UsageError
from data_cards.core.memory import measure_free_memory
from data_cards.dataset.scan import scan_sources
from data_cards.image.decode import decode_picture
from data_cards.selection.subset import Selection
from pipeline.builder.build import build_store
from pipeline.datasets.subset import write_subset
from pipeline.features.degradations import apply_steps
from pipeline.features.extract import compute_features
from pipeline.features.fit import enlarge_to_fit, fit_picture, to_array
from pipeline.features.periodogram import LEVELS, compute_dct_bound, compute_magnitude_bound
from pipeline.features.settings import MAX_PIXELS, FeatureSettings
from pipeline.features.variants import Variant
from pipeline.store.reader import FeatureStore, open_store
from pipeline.store.settings import BuildSettings
from train import settings as allowed
from train.data.loader import move_batches
from train.data.store_watch import ChangeDetector
from train.loop.context import TrainContext
from train.loop.resume_state import Position
from train.loop.signals import StopSignals
from train.loop.step import sample_batches, train_epoch, train_step
from train.loop.trainer import prepare
from train.model.device import selected_algorithms
from train.model.distributed import SINGLE_PROCESS
from train.model.inference import open_loader
from train.resolve import resolve_settings
from train.settings import TrainSettings

STREAMED, HELD = "from the store", "held in memory"  # the trainer's two ways


@click.command(cls=Command, help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--src", "sources", multiple=True, required=True, help="Picture folder, as for `pipeline build`.")
@click.option("--sizes", default="256,512,1024", show_default=True, help="Sides of the planes, in pixels.")
@click.option("--pictures", default=96, show_default=True, help="Approximate number of pictures in the store.")
@click.option("--samples", default=64, show_default=True, help="Samples of a round at 1024 px; more at smaller sizes.")
@click.option("--rounds", default=3, show_default=True, help="Number of rounds after a warm-up; medians are printed.")
@click.option("--batch-size", default=8, show_default=True, help="Samples a step.")
@click.option("--network", default="resnet18", show_default=True, type=click.Choice(allowed.NETWORKS))
@click.option("--device", default="auto", show_default=True, type=click.Choice(allowed.DEVICES))
@click.option("--threads", default=TrainSettings.threads, show_default=True, help="Threads that read the store.")
@click.option("--workers", default=count_cores(), show_default=True, help="Processes that compute features.")
def main(sources: tuple[str, ...], sizes: str, pictures: int, samples: int, rounds: int, workers: int, **settings):
    """Measure the training step."""
    speeds, payback = [], []
    for size in (int(text) for text in sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            drawn = _sample_pictures(sources, pictures, f"{folder}/pictures")
            built = build_store([drawn], f"{folder}/features.zarr", BuildSettings(FeatureSettings(size=size)))
            store = open_store(built.path)
            given = resolve_settings(
                TrainSettings(store=built.path, save_minutes=1e6, **settings), store.settings.features
            )
            context = prepare(given, store, ChangeDetector(given.store), StopSignals(), SINGLE_PROCESS)
            count = samples * max(1, 1024 // size)
            with selected_algorithms(context.device):
                seconds, waited = _measure(context, _sample_steps(context, count), rounds, workers)
            context.loader.close()
        count = sum(map(len, _sample_steps(context, count)))
        speeds += _compute_speed_rows(context, count, seconds, waited)
        payback.append(_compute_payback_row(context, count, seconds, built.seconds))
    device = torch.cuda.get_device_name() if context.device.type == "cuda" else f"CPU, {count_cores()} cores"
    precision = str(context.precision).removeprefix("torch.")
    print(f"{given.network} on {device} in {precision}, batches of {given.batch_size}, {workers} workers\n")
    headers = ["size", "way", "samples/s", "least", "most", "share of the ceiling", "waited for data"]
    print(tabulate(speeds, headers, floatfmt=(".0f", "", ".3g", ".3g", ".3g", ".3f", ".2%"), missingval=""), "\n")
    headers = ["size", "pictures", "build, s", "epoch, s", "in the loop, s", "ratio", "build pays after epochs"]
    print(tabulate(payback, headers, floatfmt=("", "", ".1f", ".1f", ".1f", ".2f", ".1f")))


def _sample_pictures(sources: Iterable[str], count: int, folder: str) -> str:
    """Link about `count` training pictures, equally many of each source of each class, into a folder."""
    found = scan_sources(list(sources), max_pixels=MAX_PIXELS).pictures
    parts = {(one.file.label, one.file.source) for one in found if one.file.split == "train"}
    selection = Selection(where=("split=train",), max_per_source=max(count // max(len(parts), 1), 2))
    return str(write_subset(list(sources), folder, selection, links=True).path)


def _sample_steps(context: TrainContext, samples: int) -> list[np.ndarray]:
    """Return the rows of steps for about `samples` samples, all full, from as many epochs as needed."""
    order = []
    context.position = Position()
    while sum(map(len, order)) < samples:
        order += sample_batches(context)
        context.position.epoch += 1
    size = context.settings.batch_size
    order = np.concatenate(order)[: max(samples // size, 2) * size]
    return [order[start : start + size] for start in range(0, len(order) // size * size, size)]


def _measure(
    context: TrainContext, steps: list[np.ndarray], rounds: int, workers: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return the seconds of each way in each round, and the share that each of the trainer's ways waited for data."""
    store, device = context.store, context.device
    loaders = {name: open_loader(context.detector, store, context.settings.threads) for name in (STREAMED, HELD)}
    if not loaders[HELD].hold(np.unique(np.concatenate(steps)), measure_free_memory() / 2):
        raise UsageError("the rows do not fit in half of the free memory; expected fewer --samples or --pictures")
    first = next(move_batches(context.loader.read(steps[:1]), device)).clone()
    load = partial(_load, context, steps, workers)
    ways: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
        "one batch in memory": lambda: iter([first] * len(steps)),
        "in the loop": load(_PictureDataset(store)),
    }
    if device.type == "cuda":
        pixels = load(_PictureDataset(store, pixels=True))
        ways["pixels, FFT on the GPU"] = lambda: map(transform_pixels, pixels())
    seconds: dict[str, list[float]] = {name: [] for name in ("one batch in memory", *loaders, *ways)}
    waited: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name in seconds:
            begun = time.perf_counter()
            if name in loaders:
                context.position, context.loader = Position(), loaders[name]
                with progress_bar(what=name, unit="samples", total=sum(map(len, steps))) as bar:
                    train_epoch(context, list(steps), bar)
            else:
                for step, (rows, levels) in enumerate(zip(steps, ways[name](), strict=True)):
                    rows = steps[0] if levels is first else rows
                    train_step(context, levels, rows, step)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begun)
                if name in loaders:
                    waited[name].append(context.position.waited / seconds[name][-1])
    return seconds, waited


def _load(context: TrainContext, steps: list[np.ndarray], workers: int, data: Dataset) -> Callable[[], Iterator]:
    """Return a function that yields the steps' batches on the device, from persistent worker processes."""
    loader = DataLoader(
        data,
        batch_sampler=[rows.tolist() for rows in steps],
        num_workers=workers,
        persistent_workers=True,
        pin_memory=context.device.type == "cuda",
    )
    return lambda: move_batches(iter(loader), context.device)


class _PictureDataset(Dataset):
    """The features of a store's rows, computed from the pictures; or with `pixels` the pixels before the transforms."""

    def __init__(self, store: FeatureStore, pixels: bool = False):
        columns = store.columns
        self._settings, self._pixels = store.settings, pixels
        self._paths = [store.picture_path(row) for row in range(len(store))]
        self._hashes, self._variants = columns["sha256"], columns["variant"]

    def __getitem__(self, row: int) -> torch.Tensor:
        """uint8 (9, side, side), or of pixels (side, side, 3)."""
        settings = self._settings
        picture = decode_picture(read_file(self._paths[row]), settings.max_pixels)
        variants = settings.draw_variants(bytes.fromhex(self._hashes[row]))
        variant = next(one for one in variants if one.name == self._variants[row])
        if self._pixels:
            return torch.from_numpy(np.array(to_array(fit_variant(picture, settings.features, variant))))
        found = compute_features(picture, settings.features, (variant,), with_profile=False)
        return torch.from_numpy(next(found).levels[0])


def fit_variant(picture: Image.Image, settings: FeatureSettings, variant: Variant) -> Image.Image:
    """Fit a variant of a picture to the square, as a build does."""
    if variant.before_fit:
        return fit_picture(enlarge_to_fit(apply_steps(picture, variant.steps), settings), settings)
    return apply_steps(fit_picture(picture, settings), variant.steps)


def transform_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Compute the features of fitted pictures, uint8 (B, H, W, 3), on their device.

    Returns
    -------
    Tensor of uint8, shape (B, 9, H, W), fine levels of periodograms; single ones are rounded to their neighbours
    """
    channels = pixels.permute(0, 3, 1, 2).float()
    height, width = channels.shape[2:]
    spectrum = torch.fft.fftshift(torch.fft.fft2(channels), dim=(2, 3))
    magnitude = spectrum.abs().log1p() * ((LEVELS - 1) / compute_magnitude_bound(height, width))
    phase = spectrum.angle() * (LEVELS / (2 * torch.pi))
    cosine = _dct(_dct(channels).transpose(2, 3)).transpose(2, 3)
    cosine = cosine.abs().log1p() * ((LEVELS - 1) / compute_dct_bound(height, width))
    # Through int16, because a negative float has no defined uint8.
    return torch.cat([magnitude, phase, cosine], dim=1).round().short().to(torch.uint8)


def _dct(values: torch.Tensor) -> torch.Tensor:
    """Orthonormal DCT-II along the last axis by a complex FFT of as many values (Makhoul, 1980)."""
    count = values.shape[-1]
    turns = torch.exp(-0.5j * torch.pi * torch.arange(count, device=values.device) / count) * (2 / count) ** 0.5
    turns[0] *= 0.5**0.5
    return (torch.fft.fft(torch.cat([values[..., ::2], values[..., 1::2].flip(-1)], dim=-1)) * turns).real


def _compute_speed_rows(
    context: TrainContext, count: int, seconds: dict[str, list[float]], waited: dict[str, list[float]]
) -> list[list]:
    table = []
    for name, times in seconds.items():
        rates = [count / spent for spent in times]
        share = np.median(np.divide(seconds["one batch in memory"], times))
        waited_share = f"{np.median(waited[name]):.2%}" if name in waited else None
        table.append(
            [context.store.settings.features.size, name, np.median(rates), min(rates), max(rates), share, waited_share]
        )
    return table


def _compute_payback_row(context: TrainContext, count: int, seconds: dict, build: float) -> list:
    pictures = len(np.unique(context.rows.train_pictures))
    ours, rival = (float(np.median(seconds[name])) * pictures / count for name in (STREAMED, "in the loop"))
    epochs = build / (rival - ours) if rival > ours else None
    return [context.store.settings.features.size, pictures, build, ours, rival, rival / ours, epochs]


if __name__ == "__main__":
    main()
