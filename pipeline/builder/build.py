"""Pictures to a complete feature store: scan, plan, shards, finish.

A build works under the store's partial name. Run again after it was stopped, or with more
pictures, it makes only the shards that are not there; with other settings it refuses.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from data_cards.audit.audit import Audit, Verdict, audit_pictures, format_audit_briefly
from data_cards.core.console import note, progress, warn
from data_cards.core.errors import UserError
from data_cards.dataset.near_duplicates import check_leaks
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.table import PictureTable
from pipeline.builder.card import keep_card
from pipeline.builder.estimate import (
    Estimate,
    estimate_build,
    explaining_full_disk,
    format_estimate,
    refuse_if_too_large,
)
from pipeline.builder.metadata import make_attributes, write_tables
from pipeline.builder.plan import Plan, plan_build
from pipeline.builder.resume import (
    check_place,
    foresee_missing,
    is_current,
    list_missing,
    locate,
    read_attributes,
    read_base,
    read_state,
    refuse_if_changed,
    refuse_other_settings,
    restore_records,
)
from pipeline.builder.shard_task import ShardTask, finish_shard, make_shard, make_task
from pipeline.execution.cluster import WorkerDiedError
from pipeline.execution.tasks import ATTEMPTS, choose_workers, run_tasks
from pipeline.features.variants import check_recipe
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.lock import writer_lock
from pipeline.store.manifest import PLANNED_MANIFEST, encode_manifest
from pipeline.store.reader import partial_name
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import (
    create_arrays,
    create_record_folder,
    read_shard_records,
    remove_build_files,
    remove_damaged_records,
    remove_partial_files,
    rename,
    write_attributes,
)


@dataclass(frozen=True)
class BuildSummary:
    """What a build made.

    Attributes
    ----------
    path : the complete store, a folder or a URL
    plan : its pictures, those set aside, the settings, and what is new
    estimate : of what was to be made; None where nothing was
    bytes : size on disk
    seconds : that the build took
    made, kept : shards made now, and found finished
    audit : how well trivial properties alone tell the classes apart
    """

    path: str
    plan: Plan
    estimate: Estimate | None
    bytes: int
    seconds: float
    made: int
    kept: int
    audit: Audit


def build_store(
    sources: Iterable[str],
    out: str,
    settings: BuildSettings | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    max_memory: int | None = None,
    dry_run: bool = False,
    allow_leakage: bool = False,
    cache: bool = True,
) -> BuildSummary:
    """Build a feature store, or add to one; see `scan_sources` for what `sources` may be.

    Parameters
    ----------
    sources : picture folders
    out : the store's folder or URL, ending in .zarr by custom
    settings : of the build, None for those of `pipeline build` without options; a store that is there must have been
        built with the same
    workers : Dask worker processes; 0 works in this process; None takes one a core, as far as `max_memory` goes
    scheduler : address of a running Dask scheduler
    max_memory : of all local workers together, in bytes
    dry_run : stop after the estimate; nothing is written
    allow_leakage : build even if near-duplicates are in more than one split
    cache : as for `scan_sources`

    Raises
    ------
    UserError : something the user can mend, named
    """
    began = time.monotonic()
    settings = settings or BuildSettings()
    path = Storage(out).url
    check_recipe(settings.variants)
    check_place(path, dry_run=dry_run)
    workers = choose_workers(workers, scheduler, max_memory)
    storage = locate(path)
    state = read_state(storage)
    base = read_base(storage)
    refuse_other_settings(storage, settings)
    # What was found is not kept beside the plan: of a million pictures that takes memory.
    plan = plan_build(scan_sources(sources, max_pixels=settings.max_pixels, cache=cache), settings, base)
    check_leaks(plan.pictures, allow_leakage)
    # Before hours of work: a set that gives its classes away is better mended first.
    audit = audit_pictures(plan.pictures)
    if is_current(storage, plan):
        return BuildSummary(path, plan, None, storage.count_bytes(), time.monotonic() - began, 0, plan.shards, audit)
    estimate = estimate_build(plan, storage, foresee_missing(storage, plan, base), workers)
    if dry_run:
        return BuildSummary(path, plan, estimate, 0, time.monotonic() - began, 0, 0, audit)
    note(format_estimate(estimate))
    if audit.verdict in (Verdict.WARN, Verdict.FAIL):
        warn(format_audit_briefly(audit))
    refuse_if_too_large(estimate, path)
    with writer_lock(storage):
        refuse_if_changed(storage, path, state)
        storage = _open_partial(storage, path, plan, base)
        todo = list_missing(plan, read_shard_records(storage))
        with explaining_full_disk(path, plan, estimate, lambda: list_missing(plan, read_shard_records(storage))):
            _make_shards(plan, storage, todo, workers, scheduler, max_memory)
            _complete(plan, storage, path, audit)
    size, seconds = Storage(path).count_bytes(), time.monotonic() - began
    return BuildSummary(path, plan, estimate, size, seconds, len(todo), plan.shards - len(todo), audit)


def _open_partial(storage: Storage, path: str, plan: Plan, base: PictureTable) -> Storage:
    """Make ready for writing shards: mark the store incomplete, under its partial name, laid out for the plan."""
    create_record_folder(storage)
    if read_attributes(storage).get("complete"):
        restore_records(storage, plan, base)
        keep_card(storage)
    write_attributes(storage, {**plan.identity, "complete": False})
    partial = Storage(partial_name(path))
    if storage.url != partial.url:
        rename(storage.url, partial.url)
    remove_partial_files(partial)
    create_arrays(partial, plan.rows, plan.shard_rows, plan.settings)
    partial.write_stream(PLANNED_MANIFEST, [encode_manifest(plan.pictures)], durable=True)
    return partial


def _make_shards(
    plan: Plan, storage: Storage, todo: list[int], workers: int, scheduler: str | None, max_memory: int | None
) -> None:
    tasks = (make_task(plan, storage, shard) for shard in todo)
    failures = []
    with progress(what="build", unit="pictures", total=len(plan.pictures)) as bar:
        bar.update(len(plan.pictures) - _count_pictures(plan, todo))
        # More processes than shards would only start and stop.
        crew = min(workers, len(todo))
        results = run_tasks(make_shard, tasks, finish_shard, workers=crew, scheduler=scheduler, max_memory=max_memory)
        for task, result in results:
            if isinstance(result, Exception):
                failures.append(_format_failure(task, result))
            bar.update(_count_pictures(plan, [task.shard]))
    if failures:
        raise UserError(
            "\n".join(failures) + f"\n{len(failures)} of {plan.shards} shards could not be made, everything else is "
            "kept. Mend this and run the same build again"
        )


def _format_failure(task: ShardTask, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    names = ", ".join(path for path, *_ in task.pictures)
    reason = error if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
    return f"shard {task.shard} failed {ATTEMPTS} times ({reason}); its pictures: {names}"


def _count_pictures(plan: Plan, shards: list[int]) -> int:
    """Pictures whose first sample stands in one of the shards."""
    starts = [-(-row // plan.variants) for shard in shards for row in plan.shard_range(shard)]
    return sum(starts[1::2]) - sum(starts[::2])


def _complete(plan: Plan, storage: Storage, path: str, audit: Audit) -> None:
    records = read_shard_records(storage)
    if missing := list_missing(plan, records):
        raise UserError(
            f"{path}: shard {missing[0]} was written over by a worker of a build that has ended; run this again"
        )
    attributes = {**make_attributes(plan), "complete": True}
    try:
        checksums = [records[shard].checksum for shard in range(plan.shards)]
        write_tables(plan, storage, checksums, attributes["simulated"], audit)
    except Exception as error:  # codecs raise many kinds at a file that was damaged since its record was written
        damaged = remove_damaged_records(storage, records)
        if not damaged:
            raise
        raise UserError(
            f"{path}: {len(damaged)} of {plan.shards} shards are damaged (the first: {damaged[0]}); everything else is "
            "kept. Run the same build again, which makes them anew"
        ) from error
    write_attributes(storage, add_digests(storage, attributes))
    remove_build_files(storage, plan.shards)
    if storage.url != path:
        rename(storage.url, path)
