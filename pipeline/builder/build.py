"""The build of a feature store from pictures: scan, plan, shards, metadata.

A build works under the store's partial name. When it runs again, after an interruption or with more pictures, it
builds only the missing shards. Settings that differ from those of the existing store are refused.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from data_cards.audit.audit import Audit, Obstacle, Verdict, audit_or_warn, format_audit_briefly
from data_cards.core.console import note, progress_bar, warn
from data_cards.core.errors import StoreError, UserError
from data_cards.core.text import join_lines
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.histories import add_histories
from data_cards.dataset.leakage import check_leaks
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.table import PictureTable, format_single_sources
from pipeline.builder.card import compute_build_card, list_descriptions, read_previous_card, save_card
from pipeline.builder.estimate import (
    Estimate,
    check_free_space,
    estimate_build,
    format_estimate,
    translating_full_disk,
)
from pipeline.builder.metadata import compute_attributes, write_metadata
from pipeline.builder.plan import Plan, plan_build
from pipeline.builder.resume import (
    check_place,
    check_unchanged,
    check_writable,
    choose_settings,
    compute_state,
    find_store,
    is_complete,
    is_current,
    list_missing,
    predict_missing,
    read_attributes,
    read_base,
    read_format_version,
    read_set_aside,
    restore_records,
)
from pipeline.builder.shard_task import ShardTask, build_shard, create_check, create_task, finish_shard
from pipeline.execution.cluster import WorkerDiedError
from pipeline.execution.tasks import ATTEMPTS, choose_workers, run_tasks
from pipeline.features.variants import check_recipe
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.lock import is_locked, locked_error, writer_lock
from pipeline.store.manifest import PLANNED_MANIFEST, encode_manifest
from pipeline.store.reader import partial_name
from pipeline.store.schema import Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import (
    ShardRecord,
    create_arrays,
    create_record_folder,
    list_shards,
    read_shard_records,
    remove_build_files,
    remove_damaged_records,
    remove_partial_files,
    write_attributes,
)


@dataclass(frozen=True)
class BuildSummary:
    """The result of a build.

    Attributes
    ----------
    path : str, folder or URL of the complete store
    plan : Plan, the usable pictures, those set aside, the settings, and the difference to the existing store
    estimate : Estimate of the missing shards; None if no shard was missing
    bytes : int, size on disk
    seconds : float, duration of the build with scan and audit; after a dry run that of scan, audit and estimate
    made, kept : int, number of shards built by this build, and of shards that were finished before
    audit : Audit, how well trivial properties alone separate the classes
    """

    path: str
    plan: Plan = field(repr=False)
    estimate: Estimate | None
    bytes: int
    seconds: float
    made: int
    kept: int
    audit: Audit = field(repr=False)


@converts_arguments
def build_store(
    sources: Iterable[str],
    out: str,
    settings: BuildSettings | None = None,
    *,
    reading: SetSettings | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    max_memory: int | None = None,
    dry_run: bool = False,
    allow_leakage: bool = False,
    cache: bool = True,
    shard_function: Callable[[ShardTask], ShardRecord] = build_shard,
) -> BuildSummary:
    """Build a feature store, or add pictures to one.

    Parameters
    ----------
    sources : iterable of str, picture folders, as for `scan_sources`
    out : str, the store's folder or URL, ending in .zarr by custom
    settings : BuildSettings, equal to those of an existing store; None for the settings of the existing store, or for
        the defaults of `pipeline build` if there is none
    reading : SetSettings, how folders and tables of the pictures are interpreted
    workers : int, number of Dask worker processes; 0 runs all tasks in this process; None starts one a core, or as
        many as `max_memory` allows
    scheduler : str, address of a running Dask scheduler
    max_memory : int, total bytes of memory of the local workers
    dry_run : bool, return after the estimate and write nothing
    allow_leakage : bool, accept near-duplicates in more than one split
    cache : bool, as for `scan_sources`
    shard_function : callable that a worker runs for each missing shard; tests wrap it to fail or to interrupt

    Raises
    ------
    UserError : an error that the user can fix
    """
    began = time.monotonic()
    path = Storage(out).url
    check_place(path)
    workers = choose_workers(workers, scheduler, max_memory)
    storage = find_store(path)
    storage.check_links()
    # A complete store may need no change, and may then be in a read-only place.
    if not is_complete(storage):
        check_writable(path, dry_run=dry_run)
        if is_locked(storage) and not dry_run:
            raise locked_error(storage)  # before the scan, which can take long
    state = compute_state(storage)
    base = read_base(storage)
    settings = choose_settings(storage, settings)
    check_recipe(settings.variants)
    # `plan_build` merges the scan's table into the plan, so that memory holds a million pictures only once.
    found = scan_sources(sources, reading, max_pixels=settings.max_pixels, cache=cache)
    plan = plan_build(found, settings, base, read_format_version(storage), read_set_aside(storage))
    check_leaks(plan.pictures, allow_leakage)
    # Audit before hours of work: if trivial properties separate the classes, the set should be fixed first.
    add_histories(plan.pictures, max_pixels=settings.max_pixels, cache=cache)
    audit = audit_or_warn(plan.pictures)
    _report_audit(audit)
    if single := format_single_sources(plan.pictures):
        warn(single)
    # Before hours of work, so that mistakes in the folders' descriptions come first.
    before = read_previous_card(storage)
    card = compute_build_card(plan, compute_attributes(plan)[Attribute.SIMULATED], audit, before)
    if is_current(storage, plan) and (before is None or list_descriptions(before) == list_descriptions(card)):
        return BuildSummary(path, plan, None, storage.count_bytes(), time.monotonic() - began, 0, plan.shards, audit)
    estimate = estimate_build(plan, storage, predict_missing(storage, plan, base), workers, scheduler)
    if dry_run:
        return BuildSummary(path, plan, estimate, 0, time.monotonic() - began, 0, 0, audit)
    if is_complete(storage):
        check_writable(path)
    note(format_estimate(estimate))
    check_free_space(estimate, path)
    with writer_lock(storage):
        check_unchanged(storage, path, state)
        storage = _open_partial(storage, path, plan, base)
        todo = list_missing(plan, read_shard_records(storage))
        with translating_full_disk(path, plan, estimate, lambda: list_missing(plan, read_shard_records(storage))):
            tasks = (create_task(plan, storage, shard) for shard in todo)
            # More processes than shards would have no work.
            where = {"workers": min(workers, len(todo)), "scheduler": scheduler, "max_memory": max_memory}
            if scheduler:
                where["check"] = create_check(plan, storage, todo)
            _report_results(plan, todo, run_tasks(shard_function, tasks, finish_shard, **where))
            _finish_store(plan, storage, path, card)
    size, seconds = Storage(path).count_bytes(), time.monotonic() - began
    return BuildSummary(path, plan, estimate, size, seconds, len(todo), plan.shards - len(todo), audit)


def _report_audit(audit: Audit) -> None:
    """Print the audit; `audit_or_warn` has already printed a failed one."""
    if audit.obstacle is not Obstacle.FAILED:
        report = warn if audit.verdict in (Verdict.WARN, Verdict.FAIL) else note
        report(format_audit_briefly(audit))


def _open_partial(storage: Storage, path: str, plan: Plan, base: PictureTable) -> Storage:
    """Prepare a store for its shards: mark it incomplete, rename it to its partial name, create the plan's arrays."""
    create_record_folder(storage)
    if read_attributes(storage).get(Attribute.COMPLETE):
        restore_records(storage, plan, base)
        save_card(storage)
    # A build that resumes does not find again the files set aside in folders that it does not name.
    aside = compute_attributes(plan)[Attribute.SET_ASIDE]
    write_attributes(storage, {**plan.identity, Attribute.SET_ASIDE: aside, Attribute.COMPLETE: False})
    partial = Storage(partial_name(path))
    if storage.url != partial.url:
        note(f"{path}: is {partial.url} until this build is finished; other programs cannot read it meanwhile")
        os.rename(storage.url, partial.url)
    remove_partial_files(partial)
    create_arrays(partial, plan.rows, plan.shard_rows, plan.settings, plan.shard_arrays, plan.format_version)
    partial.write_stream(PLANNED_MANIFEST, [encode_manifest(plan.pictures)], durable=True)
    return partial


def _report_results(plan: Plan, todo: list[int], results: Iterable[tuple[ShardTask, object]]) -> None:
    """Show the progress of the shards in `todo`; raise `UserError` at the end if some failed."""
    failures = []
    with progress_bar(what="build", unit="pictures", total=len(plan.pictures)) as bar:
        bar.update(len(plan.pictures) - _count_pictures(plan, todo))
        for task, result in results:
            if isinstance(result, Exception):
                failures.append(_format_failure(task, result))
            bar.update(_count_pictures(plan, [task.shard]))
    if failures:
        raise UserError(
            join_lines(
                [
                    *failures,
                    f"{len(failures)} of {plan.shards} shards could not be built; the others are kept. Fix the "
                    "cause and run the same build again",
                ]
            )
        )


def _format_failure(task: ShardTask, error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    names = ", ".join(path for path, *_ in task.pictures)
    reason = error if isinstance(error, WorkerDiedError) else f"{type(error).__name__}: {error}"
    return f"shard {task.shard} failed {ATTEMPTS} times ({reason}); its pictures: {names}"


def _count_pictures(plan: Plan, shards: list[int]) -> int:
    """Count the pictures whose first sample is in one of the shards."""
    starts = [-(-row // plan.variants) for shard in shards for row in plan.shard_range(shard)]
    return sum(starts[1::2]) - sum(starts[::2])


def _finish_store(plan: Plan, storage: Storage, path: str, card: dict) -> None:
    """Write the metadata, mark the store complete, and rename it to its own name."""
    records = read_shard_records(storage)
    if missing := list_missing(plan, records):
        raise UserError(
            f"{path}: shard {missing[0]} was overwritten by a worker of an earlier build; run the same build again"
        )
    attributes = {**compute_attributes(plan), Attribute.COMPLETE: True}
    try:
        if len(list_shards(storage, plan.shard_chunks, plan.shard_arrays)) < plan.shards:
            raise StoreError(f"{path}: files of shards are missing")
        checksums = [records[shard].checksum for shard in range(plan.shards)]
        write_metadata(plan, storage, checksums, card)
    except Exception as error:  # codecs raise many types for a damaged file
        damaged = remove_damaged_records(storage, records, plan.shard_arrays)
        if not damaged:
            raise
        raise UserError(
            f"{path}: {len(damaged)} of {plan.shards} shards are damaged (the first: {damaged[0]}); the others are "
            "kept. Run the same build again to rebuild the damaged ones"
        ) from error
    write_attributes(storage, add_digests(storage, attributes))
    remove_build_files(storage, plan.shards)
    if storage.url != path:
        os.rename(storage.url, path)
