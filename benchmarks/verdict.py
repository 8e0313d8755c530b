"""Speed of verdicts: one picture, a folder, and a large picture on the page.

    python benchmarks/verdict.py --src PICTURES [--run RUN]

It prints medians of three measurements, each with the processor time that the command's processes took:

- `predict` of one picture, from the start of the command to its end
- `predict` of some pictures of the set, on one core and on all cores, which must give the same verdicts
- a picture of 12 megapixels on the page, from the request to the answer; it is made from a picture of the set

Run it on an idle machine.
"""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import click
import numpy as np
import psutil
from PIL import Image
from tabulate import tabulate

from data_cards.core.console import Command
from data_cards.core.cores import count_cores
from data_cards.dataset.find import find_pictures

TWELVE_MEGAPIXELS = (4000, 3000)


@click.command(cls=Command)
@click.option("--src", required=True, help="Picture folder, as for `pipeline build`.")
@click.option("--run", help="Run folder  [default: the one that `predict` chooses]")
@click.option("--pictures", default=100, show_default=True, help="Number of pictures to judge on all cores.")
@click.option("--trials", default=5, show_default=True, help="Number of trials; medians are printed.")
def main(src: str, run: str | None, pictures: int, trials: int) -> None:
    """Measure verdicts."""
    files = [str(file.path.absolute()) for file in find_pictures(src)]
    files = files[:: max(len(files) // pictures, 1)]
    options = ["--run", str(Path(run).absolute())] if run else []
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        rows.append(["predict, 1 picture", 1, *_measure(lambda: _predict(files[:1], options, 1, folder), trials)])
        verdicts = {}
        for workers in (1, count_cores()):
            spent = _measure(lambda w=workers: verdicts.update({w: _predict(files, options, w, folder)}), trials)
            rows.append([f"predict, {len(files)} pictures", workers, *spent])
        if verdicts[1] != verdicts[count_cores()]:
            raise click.ClickException("verdicts differ with the number of workers")
        with _serve(options, folder) as (address, process):
            request = Request(f"{address}judge", _make_large(files[0]), {"Content-Type": "image/jpeg"})
            urlopen(request).read()  # the first one loads what the page needs
            rows.append(["page, 12 megapixels", 1, *_measure(lambda: urlopen(request).read(), trials, process)])
    print(tabulate(rows, ["what", "workers", "seconds", "processor time, s"], floatfmt=("", "", ".2f", ".2f")))


def _measure(function, trials: int, process: psutil.Process | None = None) -> tuple[float, float]:
    """Return the median seconds and processor time of child processes that ended, or of one that runs on."""
    spent = []
    for _ in range(trials):
        began = time.perf_counter(), _read_processor_time(process)
        function()
        spent.append([time.perf_counter() - began[0], _read_processor_time(process) - began[1]])
    return tuple(np.median(spent, axis=0))


def _read_processor_time(process: psutil.Process | None) -> float:
    if process is None:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime
    return sum(sum(one.cpu_times()[:2]) for one in (process, *process.children(recursive=True)))


def _predict(files: list[str], options: list[str], workers: int, folder: str) -> list:
    command = [sys.executable, "-m", "eval", "predict", *files, *options, "--workers", str(workers), "--json"]
    return json.loads(
        subprocess.run(command, cwd=folder, env=_find_program(), stdout=subprocess.PIPE, check=True).stdout
    )


@contextmanager
def _serve(options: list[str], folder: str) -> Iterator[tuple[str, psutil.Process]]:
    command = [sys.executable, "-m", "eval", "page", *options, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=_find_program(), stdout=subprocess.PIPE, text=True) as process:
        try:
            found = next(filter(None, (re.search(r"http://\S+/", line) for line in process.stdout)))
            yield found[0], psutil.Process(process.pid)
        finally:
            process.terminate()


def _find_program() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def _make_large(file: str) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".jpg") as large:
        Image.open(file).convert("RGB").resize(TWELVE_MEGAPIXELS, Image.Resampling.BICUBIC).save(large.name, quality=92)
        return Path(large.name).read_bytes()


if __name__ == "__main__":
    main()
