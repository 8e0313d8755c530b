"""The simulated sample set: pictures from four cameras and four generators, in Kaggle's layout.

The classes differ by traces alone. Scenes are from one distribution; size, JPEG quality and
subsampling are drawn from (seed, split, number) without the class, so that they are the same
for every source. Every picture is a pure function of (seed, split, class, source, number):
its bytes depend neither on the order nor on which other pictures are made.

The set is marked as a simulation by the file `SIMULATION_MARKER` in its folder, for programs and people.
"""

import io
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from data_cards.core.cores import count_cores
from data_cards.core.errors import UsageError
from data_cards.core.files import check_new_folder, whole_folder
from data_cards.core.labels import CLASS_NAMES, TEST, TRAIN
from data_cards.core.seeding import draw_key
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.simulated import SIMULATION_MARKER
from pipeline.features.variants import SUBSAMPLINGS
from pipeline.simulate.makers import MAKERS
from pipeline.simulate.scenes import draw_scene

# Defaults: pictures of each source for training and for testing, and the smallest short side in pixels.
TRAIN_PER_SOURCE, TEST_PER_SOURCE, SIZE = 38, 12, 128
JPEG_QUALITIES = range(80, 99)
# Height and width in units of the short side.
_ASPECTS = ((1, 1), (1, 1.25), (1.25, 1), (1, 1.5), (1.125, 1.125), (1.25, 1.25))

_NOTE = (
    "These pictures are a simulation. A program drew the scenes; the folders named real hold "
    "simulated camera pictures, those named fake simulated generator pictures. A score measured on "
    "them says that the program works, and nothing about photographs or any generator."
)
_DESCRIPTIONS = dict(zip(CLASS_NAMES, ("camera", "generator"), strict=True))


@dataclass(frozen=True)
class SampleSummary:
    """The result of `write_sample`.

    Attributes
    ----------
    path : the set's folder
    pictures : number of pictures by (split, class, source)
    bytes : size of all picture files
    """

    path: Path
    pictures: dict[tuple[str, str, str], int]
    bytes: int

    @property
    def total(self) -> int:
        """Number of all pictures."""
        return sum(self.pictures.values())


@converts_arguments
def write_sample(
    out: Path | str,
    *,
    train_per_source: int = TRAIN_PER_SOURCE,
    test_per_source: int = TEST_PER_SOURCE,
    size: int = SIZE,
    seed: int = 0,
    wrap: Callable[[Iterable, int], Iterable] = lambda items, total: items,
) -> SampleSummary:
    """Write a sample set to a new folder `out`.

    Parameters
    ----------
    out : a folder that does not exist yet or is empty
    train_per_source, test_per_source : int, pictures of each of the eight sources, at least 1
    size : int, the smallest short side in pixels, a multiple of 8 from 32 to 2048; other sides are up to 1.5 times
        as long
    seed : int, of all draws
    wrap : callable(items, total) -> items, wraps the iteration in a progress bar

    Raises
    ------
    UsageError : a count or the size is out of range
    UserError : `out` is not empty
    """
    counts = {TRAIN: train_per_source, TEST: test_per_source}
    _check_arguments(counts, size)
    out = Path(out).resolve()
    check_new_folder(out)
    with whole_folder(out) as folder:
        return _write_set(folder, out, counts, size, seed, wrap)


def draw_picture(
    seed: int, split: str, label: str, source: str, number: int, *, size: int = SIZE
) -> tuple[np.ndarray, int, str]:
    """Draw one picture: uint8 (H, W, 3), and the JPEG quality and subsampling to save it with."""
    height, width, quality, subsampling = _draw_file_facts(seed, split, number, size)
    identity = f"{split}/{label}/{source}/{number}".encode()
    rng = np.random.default_rng(draw_key(seed, identity, "sample picture"))
    scene = draw_scene(rng, 2 * height, 2 * width)
    return MAKERS[label][source](rng, scene), quality, subsampling


def _draw_file_facts(seed: int, split: str, number: int, size: int) -> tuple[int, int, int, str]:
    """Draw height, width, JPEG quality and subsampling, independently of the class."""
    rng = np.random.default_rng(draw_key(seed, f"{split}/{number}".encode(), "sample file facts"))
    aspect = _ASPECTS[rng.integers(len(_ASPECTS))]
    height, width = (8 * round(size * side / 8) for side in aspect)
    return height, width, int(rng.choice(JPEG_QUALITIES)), SUBSAMPLINGS[rng.integers(len(SUBSAMPLINGS))]


def _write_set(folder: Path, out: Path, counts: dict[str, int], size: int, seed: int, wrap: Callable) -> SampleSummary:
    sources = [(split, label, source) for split in counts for label in MAKERS for source in MAKERS[label]]
    for split, label, source in sources:
        source_folder = folder / split / label / source
        source_folder.mkdir(parents=True)
        (source_folder / "source.toml").write_text(_format_source(label, source), encoding="utf-8")
    jobs = [(*source, number) for source in sources for number in range(counts[source[0]])]

    def write(job: tuple[str, str, str, int]) -> int:
        data = _encode(*draw_picture(seed, *job, size=size))
        split, label, source, number = job
        return (folder / split / label / source / f"{number:05d}.jpg").write_bytes(data)

    # Threads suffice, because NumPy and SciPy do most of the work and release Python's lock.
    with ThreadPoolExecutor(count_cores()) as pool:
        written = sum(wrap(pool.map(write, jobs), len(jobs)))
    marker = {
        "simulated": True,
        "made_by": "pipeline sample",
        "seed": seed,
        "size": size,
        "train_per_source": counts[TRAIN],
        "test_per_source": counts[TEST],
        "note": _NOTE,
    }
    text = json.dumps(marker, indent=2) + "\n"
    (folder / SIMULATION_MARKER).write_text(text, encoding="utf-8")
    return SampleSummary(out, {source: counts[source[0]] for source in sources}, written)


def _encode(picture: np.ndarray, quality: int, subsampling: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _format_source(label: str, source: str) -> str:
    facts = {"name": source, _DESCRIPTIONS[label]: f"simulated {source}", "note": "simulation"}
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())


def _check_arguments(counts: dict[str, int], size: int) -> None:
    for split, count in counts.items():
        if count < 1:
            raise UsageError(f"{split} pictures per source {count}: expected at least 1")
    if not (32 <= size <= 2048 and size % 8 == 0):
        raise UsageError(f"--size {size}: expected a multiple of 8 from 32 to 2048")
