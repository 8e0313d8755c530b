"""Speed and memory of a scan and of the search for near-duplicates.

    python benchmarks/scan.py --src PICTURES [--pictures 10000]

Files of the set are copied under new names until there are `--pictures` of them. Three scans follow, each in its own
process: with one thread, on all cores, and on all cores with the results that the first scan remembered. A scan reads,
hashes, decodes and measures every file. The search for near-duplicates is then measured alone, for several numbers of
pictures, on hashes that are mixed from those of the set.

Run it on an idle machine.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import click
import numpy as np
from tabulate import tabulate

from data_cards.core.console import Command
from data_cards.core.cores import count_cores
from data_cards.dataset.find import find_pictures
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.scan_cache import ENVIRONMENT
from data_cards.image.perceptual_hash import BITS, group_near_duplicates
from pipeline.features.settings import MAX_PIXELS


def spread(src: str, folder: Path, count: int) -> None:
    """Copy the files of a set under new names, in turn, until there are `count`, with times an hour ago."""
    files = find_pictures(src)
    an_hour_ago = time.time() - 3600
    for number in range(count):
        file = files[number % len(files)]
        place = folder / file.split / file.label / file.source / f"{number:06}{Path(file.image).suffix}"
        place.parent.mkdir(parents=True, exist_ok=True)
        # A few bytes behind the picture's end make every file another: no hash is known before.
        place.write_bytes(file.path.read_bytes() + f"{number:06}".encode())
        os.utime(place, (an_hour_ago, an_hour_ago))


def measure(folder: Path, threads: int, cache: Path | None) -> dict:
    """Run a scan in a process of its own; return seconds, pictures, and peak memory in MB."""
    command = [sys.executable, __file__, "--measure", f"{folder}", "--threads", f"{threads}"]
    environment = {**os.environ, **({ENVIRONMENT: str(cache)} if cache else {})}
    done = subprocess.run(
        [*command, *([] if cache else ["--no-cache"])], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout)


def measure_here(folder: str, threads: int, cache: bool) -> None:
    began = time.perf_counter()
    found = scan_sources([folder], max_pixels=MAX_PIXELS, threads=threads, cache=cache)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"pictures": len(found.pictures), "seconds": seconds, "peak": peak}))


def time_search(hashes: np.ndarray, count: int) -> list:
    """Time the search on hashes whose bits each come from one of two pictures of the set."""
    rng = np.random.default_rng(0)
    bits = np.unpackbits(hashes, axis=1)
    one, other = rng.integers(len(bits), size=(2, count))
    mixed = np.packbits(np.where(rng.random((count, BITS)) < 0.35, bits[other], bits[one]), axis=1)
    began = time.perf_counter()
    groups = group_near_duplicates(mixed)
    return [f"{count:,}", f"{time.perf_counter() - began:.2f}", f"{len(np.unique(groups)):,}"]


@click.command(cls=Command)
@click.option("--src", help="Picture folder.")
@click.option("--pictures", default=10_000, show_default=True, help="Files to scan.")
@click.option("--measure", "measured", hidden=True)
@click.option("--threads", default=0, hidden=True)
@click.option("--cache/--no-cache", default=True, hidden=True)
def main(src, pictures, measured, threads, cache) -> None:
    """Time scans and the search for near-duplicates."""
    if measured:
        measure_here(measured, threads, cache)
        return
    if not src:
        raise click.UsageError("name a set of pictures with --src")
    with tempfile.TemporaryDirectory() as temporary:
        folder, remembered = Path(temporary, "set"), Path(temporary, "cache")
        spread(src, folder, pictures)
        runs = [
            ("one thread", measure(folder, 1, None)),
            (f"{count_cores()} cores", measure(folder, 0, None)),
            (f"{count_cores()} cores, every file new, remembering", measure(folder, 0, remembered)),
            (f"{count_cores()} cores, every file remembered", measure(folder, 0, remembered)),
        ]
        rows = [
            [
                name,
                f"{run['pictures']:,}",
                f"{run['seconds']:.1f}",
                f"{run['pictures'] / run['seconds']:,.0f}",
                f"{run['peak']:.0f}",
            ]
            for name, run in runs
        ]
        print(tabulate(rows, headers=["scan", "pictures", "seconds", "pictures a second", "peak MB"]))
    found = scan_sources([src], max_pixels=MAX_PIXELS)
    hashes = found.pictures.phashes
    print()
    searches = [time_search(hashes, count) for count in (10_000, 60_000, 240_000)]
    print(tabulate(searches, headers=["near-duplicate search, pictures", "seconds", "groups"], disable_numparse=True))


if __name__ == "__main__":
    main()
