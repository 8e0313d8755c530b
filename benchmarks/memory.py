"""Peak memory of the process that schedules a build, by the number of pictures.

    python benchmarks/memory.py

Facts of synthetic files pass through the real collection, grouping, splitting, planning, audit, scheduling on two
Dask workers, columns, provenance and card. Only reading files, the work of a shard and the statistics are left out:
the shard task does nothing here. Each number of pictures is measured in its own process.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import click
import numpy as np
import zarr
from tabulate import tabulate

from data_cards.audit.audit import audit_pictures
from data_cards.core.console import Command
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.scan import collect_pictures
from data_cards.image.facts import PictureFacts
from pipeline.builder.card import compute_build_card, write_card
from pipeline.builder.metadata import write_plan_columns
from pipeline.builder.plan import plan_build
from pipeline.builder.shard_task import create_task
from pipeline.execution.tasks import run_tasks
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import create_arrays, create_record_folder, write_checksums

COUNTS = "10000,100000,1000000"


@click.command(cls=Command)
@click.option("--counts", default=COUNTS, show_default=True, help="Numbers of pictures.")
@click.option("--one", type=int, hidden=True)
def main(counts: str, one: int | None) -> None:
    """Measure the scheduling process's memory."""
    if one is not None:
        print(json.dumps(measure(one)))
        return
    rows = []
    for count in (int(text) for text in counts.split(",")):
        output = subprocess.run(
            [sys.executable, __file__, "--one", str(count)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        found = json.loads(output)
        rows.append([count, found["start"], found["planned"], found["peak"], found["seconds"]])
        print(
            tabulate(rows, ["pictures", "at the start, MB", "planned, MB", "peak, MB", "seconds"], floatfmt=".0f"), "\n"
        )


def measure(count: int) -> dict:
    """Measure megabytes at the start, after planning, and at the peak; and seconds."""
    began, start = time.perf_counter(), peak_megabytes()
    plan = plan_build(collect_pictures(create_pictures(count)), BuildSettings())
    planned = peak_megabytes()
    audit = audit_pictures(plan.pictures)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(f"{folder}/store")
        create_record_folder(storage)
        create_arrays(storage, plan.rows, plan.shard_rows, plan.settings, plan.shard_arrays)
        for _ in run_tasks(do_nothing, (create_task(plan, storage, shard) for shard in range(plan.shards)), workers=2):
            pass
        write_plan_columns(plan, storage)
        write_checksums(storage, ["00" * 32] * plan.shards)
        group = zarr.open_group(storage.url, mode="r+")
        write_manifest(group, encode_manifest(plan.pictures))
        write_card(group, compute_build_card(plan, True, audit))
    return {"start": start, "planned": planned, "peak": peak_megabytes(), "seconds": time.perf_counter() - began}


def do_nothing(task: object) -> None:
    """Replace the computation of a shard."""


def create_pictures(count: int) -> Iterator[tuple[PictureFile, PictureFacts]]:
    """Yield made-up files with facts like a real set's."""
    for number in range(count):
        digest = hashlib.sha256(str(number).encode()).digest()
        label = "real" if number % 2 else "fake"
        split = "test" if number % 10 == 0 else "train"
        source = sys.intern(f"source-{number % 8}")
        file = PictureFile("/data/pictures", f"{split}/{label}/{source}/{digest.hex()[:16]}.jpg", split, label, source)
        facts = PictureFacts(
            sha256=digest,
            bytes=200_000 + number,
            format="JPEG",
            width=1000 + number % 3000,
            height=1000 + number % 2000,
            quality=60 + number % 40,
            phash=hashlib.sha256(digest).digest(),
            mode="RGB",
            tables=sys.intern(f"{number % 40:08x}"),
            subsampling="4:2:0",
            exif=False,
            camera=False,
            thumbnail=digest * 6,
            profile=np.frombuffer(digest[:16], np.uint8).astype("<f2").tobytes(),
        )
        yield file, facts


def peak_megabytes() -> float:
    """Return the peak memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
