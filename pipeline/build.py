"""Pictures to a complete feature store: scan, plan, shards, finish.

A build works under the store's partial name. Started again after it was stopped, it makes only
the shards that have no record, and refuses to go on with other pictures or settings.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import zarr

from data_cards.console import progress, warn
from data_cards.errors import UserError
from data_cards.scan import find_leaks, scan_sources
from pipeline.executor import count_cores, run_tasks
from pipeline.plan import Plan, plan_build
from pipeline.sample import SIMULATION_MARKER
from pipeline.settings import BuildSettings
from pipeline.shard import make_shard, make_task
from pipeline.statistics import measure_statistics
from pipeline.store import CLASS_NAMES, FORMAT_VERSION, PLANES, open_store, partial_path
from pipeline.variants import check_recipe
from pipeline.versions import program_version
from pipeline.writer import (
    RECORDS,
    check_writable,
    create_arrays,
    finish,
    read_record,
    write_columns,
    write_json,
    write_statistics,
)


@dataclass(frozen=True)
class BuildSummary:
    """What a build made.

    Attributes
    ----------
    path : the complete store
    plan : its pictures, those set aside, and the settings
    bytes : size on disk
    seconds : that the build took
    made, kept : shards made now, and found finished
    """

    path: Path
    plan: Plan
    bytes: int
    seconds: float
    made: int
    kept: int


def build_store(
    sources: Sequence[str],
    out: str | Path,
    settings: BuildSettings,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> BuildSummary:
    """Build a feature store; see `scan_sources` for what `sources` may be.

    Parameters
    ----------
    sources : picture folders
    out : the store's folder, ending in .zarr by custom; must not exist, or hold the same build
    settings : of the build
    workers : Dask worker processes; 0 works in this process; None takes one a core
    scheduler : address of a running Dask scheduler

    Raises
    ------
    UserError : something the user can mend, named
    """
    began = time.monotonic()
    path = Path(out)
    check_recipe(settings.variants)
    check_writable(path)
    workers = count_cores() if workers is None else workers
    found = scan_sources(
        sources,
        max_pixels=settings.max_pixels,
        val_fraction=settings.val_fraction,
        seed=settings.seed,
    )
    plan = plan_build(found, settings)
    _warn_of_leaks(plan)
    if path.exists():
        _check_same_build(path, plan)
        return BuildSummary(path, plan, measure_bytes(path), time.monotonic() - began, 0, plan.shards)
    folder = _open_partial(path, plan)
    todo = [shard for shard in range(plan.shards) if read_record(folder, shard) is None]
    _make_shards(plan, folder, todo, workers, scheduler)
    _complete(plan, folder, path)
    return BuildSummary(path, plan, measure_bytes(path), time.monotonic() - began, len(todo), plan.shards - len(todo))


def measure_bytes(path: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _open_partial(path: Path, plan: Plan) -> Path:
    folder = partial_path(path)
    identity = {"fingerprint": plan.fingerprint, **plan.identity}
    begun = folder / RECORDS / "plan.json"
    if begun.exists():
        _refuse_difference(folder, json.loads(begun.read_text()), identity, "delete that folder to start over")
        return folder
    # Without its plan a partial store was killed before its first shard.
    shutil.rmtree(folder, ignore_errors=True)
    create_arrays(folder, plan.rows, plan.shard_rows, plan.settings.features.size)
    write_json(begun, identity)
    return folder


def _make_shards(plan: Plan, folder: Path, todo: list[int], workers: int, scheduler: str | None) -> None:
    tasks = (make_task(plan, folder, shard) for shard in todo)
    failures = []
    with progress(what="build", unit="pictures", total=len(plan.pictures)) as bar:
        bar.update(len(plan.pictures) - _count_pictures(plan, todo))
        # More processes than shards would only start and stop.
        for task, result in run_tasks(make_shard, tasks, workers=min(workers, len(todo)), scheduler=scheduler):
            if isinstance(result, UserError):
                failures.append(str(result))
            bar.update(_count_pictures(plan, [task.shard]))
    if failures:
        others = f" (and {len(failures) - 1} other shards failed)" if len(failures) > 1 else ""
        raise UserError(f"{failures[0]}{others}; everything else is kept. Mend this and run the same build again")


def _count_pictures(plan: Plan, shards: list[int]) -> int:
    """Pictures whose first sample stands in one of the shards."""
    starts = [-(-row // plan.variants) for shard in shards for row in plan.shard_range(shard)]
    return sum(starts[1::2]) - sum(starts[::2])


def _complete(plan: Plan, folder: Path, path: Path) -> None:
    records = [read_record(folder, shard) for shard in range(plan.shards)]
    columns = plan.columns()
    write_columns(folder, columns, records)
    training = (columns["split"] == "train").nonzero()[0]
    features = zarr.open_array(folder / "features", mode="r")
    write_statistics(folder, *measure_statistics(features, training))
    finish(folder, path, make_attributes(plan))


def make_attributes(plan: Plan) -> dict:
    """Attributes of the store's group, all but `complete`."""
    return {
        "format_version": FORMAT_VERSION,
        "fingerprint": plan.fingerprint,
        "settings": plan.settings.as_json(),
        "versions": {"program": program_version(), **plan.identity["versions"]},
        "class_names": list(CLASS_NAMES),
        "planes": list(PLANES),
        "roots": plan.roots,
        "set_aside": [{"path": one.path, "reason": one.reason} for one in plan.set_aside],
        "simulated": any(_is_simulated(root) for root in plan.roots),
    }


def _check_same_build(path: Path, plan: Plan) -> None:
    attributes = open_store(path).attributes
    built = {
        "fingerprint": attributes["fingerprint"],
        "settings": attributes["settings"],
        "format_version": attributes["format_version"],
        "versions": {name: attributes["versions"].get(name) for name in plan.identity["versions"]},
    }
    _refuse_difference(path, built, {"fingerprint": plan.fingerprint, **plan.identity}, "choose another --out")


def _refuse_difference(folder: Path, old: dict, new: dict, advice: str) -> None:
    """Refuse to go on in a folder made with other settings, libraries or pictures, naming which."""
    if old["fingerprint"] == new["fingerprint"]:
        return
    before, now = _flatten(old), _flatten(new)
    differing = [name for name in now if name != "fingerprint" and before.get(name) != now[name]]
    if differing:
        difference = "; ".join(f"{name} was {before.get(name)}, is now {now[name]}" for name in differing)
    else:
        difference = "pictures were added, removed or changed"
    raise UserError(f"{folder}: was begun differently: {difference}. Go back to that, or {advice}")


def _flatten(values: dict) -> dict:
    flat = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value)
        else:
            flat[name] = value
    return flat


def _warn_of_leaks(plan: Plan) -> None:
    leaks = find_leaks(plan.pictures)
    if leaks:
        pair = " and ".join(str(picture.file.path) for picture in leaks[0][:2])
        warn(
            f"{len(leaks)} groups of near-duplicate pictures stand in more than one split, so test scores will "
            f"flatter; the first: {pair}"
        )


def _is_simulated(root: str) -> bool:
    # The marker stands at the sample set's top; --src may name a folder below it.
    folder = Path(root).resolve()
    return any((parent / SIMULATION_MARKER).exists() for parent in (folder, *folder.parents[:3]))
