"""The training loop: `train` starts a run, `resume` continues one.

First weights, order and dropout are pure functions of the seed and the step. So on the CPU, a run that was stopped and
resumed ends with the same weights as an uninterrupted run.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from shlex import quote

import numpy as np
import torch

from data_cards.core.console import echo, warn
from data_cards.core.errors import UsageError, UserError
from data_cards.core.files import RUN_SETTINGS
from data_cards.core.memory import measure_free_memory
from data_cards.core.text import format_bytes, format_duration, join_lines
from data_cards.core.value_types import converts_arguments
from pipeline.store.concatenated import format_left_out, open_stores
from pipeline.store.reader import FeatureStore
from train.data.expert_rows import choose_expert_rows
from train.data.row_selection import choose_rows, compute_source_ids, format_single_sources
from train.data.statistics import compute_training_statistics
from train.data.store_watch import ChangeDetector
from train.loop.context import OnStep, TrainContext, is_stop_requested, save_context, stop_error
from train.loop.ending import compute_summary, recording_end, write_final_summary
from train.loop.epoch import run_epoch
from train.loop.experts import discount_network, find_new_sources, resume_experts, train_experts, write_missing_experts
from train.loop.failures import translating_out_of_memory
from train.loop.price import check_batch_size, print_price
from train.loop.resume_state import Position, load_state
from train.loop.signals import Stopped, StopSignals
from train.model.device import name_precision, pick_device, pick_precision, selected_algorithms
from train.model.distributed import ProcessGroup, check_settings, joined_process_group, translating_lost_process
from train.model.inference import open_loader
from train.model.plane_detector import build_plane_detector
from train.model.pretrained import load_imagenet_weights
from train.recipe.optimizer import create_optimiser
from train.resolve import resolve_settings
from train.run.folder import (
    STATE,
    Run,
    create_run_folder,
    folder_lock,
    prolong_run,
    read_run,
    write_cards,
    write_run_settings,
)
from train.run.summary import Summary, delete_summary
from train.settings import ON, TrainSettings


@converts_arguments
def train(settings: TrainSettings, on_step: OnStep | None = None, *, exits: bool = False) -> Summary:
    """Train a new run to its end.

    Parameters
    ----------
    settings : TrainSettings; "auto" and None are resolved by the store's features
    on_step : called with a `StepRecord` after each step, before the state is saved; if there are several processes, in
        each of them. It makes a GPU wait after each step, so omit it for the highest speed
    exits : whether a second Ctrl-C may end the process in the middle of a computation; if not, `Stopped` is raised
        after the computation

    Raises
    ------
    UserError : the store, the weights or a setting cannot be used, or the loss is not finite
    Stopped : on Ctrl-C, after the state was saved
    """
    with joined_process_group(settings.device) as group:

        def open_all() -> tuple[FeatureStore, ChangeDetector, TrainSettings]:
            store, store_changes = _open_watched_stores(settings.store)
            return store, store_changes, resolve_settings(settings, store.settings.features, store.has_profiles)

        store, store_changes, resolved = group.all_or_raise(open_all)
        if not resolved.has_network:
            return group.on_rank0(lambda: train_experts(resolved, store))
        with StopSignals(group.size > 1, exits) as stop:

            def begin() -> TrainContext:
                context = prepare(resolved, store, store_changes, stop, group)
                _load_first_weights(context)
                return context

            context = group.all_or_raise(begin)
            with selected_algorithms(context.device):
                check_batch_size(context, is_given=settings.batch_size is not None)
            context.on_step = on_step
            side = context.store.settings.features.side
            context.folder = group.on_rank0(lambda: create_run_folder(context.settings, side))
            with _locked_folder(context.folder, group):
                with _translating_write_errors(context.folder):
                    group.on_rank0(
                        lambda: write_run_settings(context.folder, context.settings, context.store, group.size)
                    )
                return _run(context)


@converts_arguments
def resume(
    run: str | Path, changes: dict | None = None, on_step: OnStep | None = None, *, exits: bool = False
) -> Summary:
    """Resume a run and train it to its end.

    Parameters
    ----------
    run : str or Path, the run's folder
    changes : settings given again, by name; those that decide the weights must be as before, but `epochs` may be more
    on_step, exits : as for `train`

    Raises
    ------
    UsageError : settings differ from the run's, except for more epochs
    UserError : the run or its store cannot be used; and as `train`
    """
    unknown = set(changes or {}) - {one.name for one in fields(TrainSettings)}
    if unknown:
        raise UsageError(f"changes {', '.join(sorted(unknown))}: expected names of fields of TrainSettings")
    before = _read_run_everywhere(run, changes)
    device = (changes or {}).get("device") or before.settings.device
    if not before.settings.has_network:
        with joined_process_group(device) as group:
            return group.on_rank0(lambda: _resume_experts(before, changes))
    with (
        joined_process_group(device) as group,
        StopSignals(group.size > 1, exits) as stop,
        _locked_folder(before.path, group),
    ):
        context = group.all_or_raise(lambda: _restore_context(before, changes, stop, group))
        _prolong(context, before)
        if not context.position.ended:
            with selected_algorithms(context.device):
                check_batch_size(context, is_given=True)
        context.on_step = on_step
        group.on_rank0(lambda: write_cards(context.folder, context.store))  # a kill may have come before them
        return _run(context)


def _resume_experts(before: Run, changes: dict | None) -> Summary:
    if "epochs" in (changes or {}):
        raise UsageError(
            f"{before.path}: has experts alone, which have no epochs; leave out --epochs (in Python: epochs), "
            "or start a new run with --network"
        )
    settings, store, _ = _restore_settings(before, changes)
    return resume_experts(before.path, settings, store)


def _read_run_everywhere(run: str | Path, changes: dict | None) -> Run:
    """Read a run; a process that cannot, perhaps because the folder is not shared, tells those that wait for it."""
    try:
        return read_run(run)
    except UserError:
        with joined_process_group((changes or {}).get("device") or "auto") as group:
            return group.all_or_raise(lambda: read_run(run))


@contextmanager
def _locked_folder(folder: Path, group: ProcessGroup) -> Iterator[None]:
    """Lock the folder against other trainings: rank 0, the only writer, holds the lock."""
    with ExitStack() as held:
        group.on_rank0(lambda: held.enter_context(folder_lock(folder)))
        yield


def _open_watched_stores(paths: Sequence[str]) -> tuple[FeatureStore, ChangeDetector]:
    """Open stores as one, with a detector of changes that began before they were opened."""
    store_changes = ChangeDetector(paths)
    return open_stores(paths), store_changes


def _restore_settings(before: Run, changes: dict | None) -> tuple[TrainSettings, FeatureStore, ChangeDetector]:
    """Return the settings of a run, resolved, and its stores as one."""
    if before.removed:
        removed = ", ".join(f"{name} {value}" for name, value in before.removed.items())
        raise UserError(f"{before.path}: trained with an option that was removed ({removed}); start a new run")
    if "store" not in (changes or {}):
        before.check_stores()
    settings = replace(before.settings, **{"store": before.store_paths, **(changes or {})})
    # "on" given to a run without experts counts as resolved, to be listed as a difference.
    settings = resolve_settings(
        settings, before.build_settings.features, ON in (settings.experts, before.settings.experts)
    )
    different = settings.differences(before.settings)
    if settings.epochs > before.settings.epochs:
        different.remove("epochs")
    if different:
        listed = ", ".join(
            f"{name} {getattr(settings, name)} (the run has {getattr(before.settings, name)})" for name in different
        )
        raise UsageError(
            f"{before.path}: cannot be resumed with other settings: {listed}; leave them out, or start a new run"
        )
    store, store_changes = _open_watched_stores(settings.store)
    if store.fingerprint != before.store_fingerprint:
        raise UserError(
            f"{store.path}: not the store that {before.path} was trained on (fingerprint "
            f"{store.fingerprint[:12]}, the run has {before.store_fingerprint[:12]}); "
            "give that one with --store, or start a new run"
        )
    return settings, store, store_changes


def _prolong(context: TrainContext, before: Run) -> None:
    """Extend a run to more epochs, if these were given, and record the number for later resumptions."""
    position, group, prolonged = context.position, context.group, before.prolonged
    if context.settings.epochs > before.settings.epochs:
        prolonged = len(position.history) if position.ended else prolonged
        group.on_rank0(lambda: prolong_run(before.path, context.settings.epochs, prolonged))
    if position.ended and prolonged > position.prolonged:
        position.ended, position.prolonged = "", prolonged
        group.on_rank0(lambda: discount_network(context.folder, context.settings))


def _restore_context(before: Run, changes: dict | None, stop: StopSignals, group: ProcessGroup) -> TrainContext:
    """Prepare a run with its recorded settings, and load its last saved state."""
    settings, store, store_changes = _restore_settings(before, changes)
    context = prepare(settings, store, store_changes, stop, group)
    context.folder = before.path
    if not (context.folder / STATE).exists():
        _load_first_weights(context)
    context.position = load_state(context.folder, context.detector.network, context.optimiser)
    return context


def prepare(
    settings: TrainSettings, store: FeatureStore, store_changes: ChangeDetector, stop: StopSignals, group: ProcessGroup
) -> TrainContext:
    """Check everything and build the detector, before anything is written.

    Parameters
    ----------
    settings : resolved by the store's features (`resolve_settings`)
    """
    device = pick_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    rows = choose_rows(store, settings)
    if settings.has_experts:
        choose_expert_rows(store, settings)  # raises the errors of its rows
    check_settings(settings, group, device, rows.count_samples(settings.variants_per_epoch))
    precision = pick_precision(settings.precision, device, settings.network)
    with translating_out_of_memory(store.path, settings, device, precision):
        statistics = compute_training_statistics(store, rows.train, settings)
        torch.manual_seed(settings.seed)  # the first weights are drawn on the CPU, the same for every device
        detector = build_plane_detector(settings, store.settings.features, *statistics).to(device)
        network = group.wrap(detector.network)
    return TrainContext(
        settings=settings,
        store=store,
        loader=open_loader(detector, store, settings.threads),
        store_changes=store_changes,
        rows=rows,
        labels=store.columns["label"].astype(np.int64),
        sources=compute_source_ids(store),
        device=device,
        group=group,
        precision=precision,
        detector=detector,
        network=network,
        optimiser=create_optimiser(detector.network, settings),
        folder=Path(),
        position=Position(),
        stop=stop,
    )


def _load_first_weights(context: TrainContext) -> None:
    """Load the file of weights that the settings name, if any."""
    if context.settings.weights is not None:
        load_imagenet_weights(context.detector.network, context.settings.weights)


def _run(context: TrainContext) -> Summary:
    """Train the remaining epochs, and write and return the summary."""
    position, group = context.position, context.group
    _print_start(context)
    with (
        selected_algorithms(context.device),
        recording_end(context.folder, partial(compute_summary, context), group.is_rank0),
        _translating_write_errors(context.folder),
    ):
        try:
            if not position.ended:
                group.on_rank0(lambda: delete_summary(context.folder))
                group.on_rank0(lambda: write_missing_experts(context.folder, context.settings, context.store))
            with (
                context.loader,
                translating_lost_process(group),
                translating_out_of_memory(context.folder, context.settings, context.device, context.precision),
            ):
                if not position.ended:
                    _hold_rows(context)
                    _stop_if_requested(context)
                    print_price(context)
                    _stop_if_requested(context)
                while not position.ended:
                    run_epoch(context)
            return group.on_rank0(lambda: write_final_summary(context))
        except KeyboardInterrupt as error:  # the second Ctrl-C
            raise Stopped(context.folder, "at once, without saving") from error


def _stop_if_requested(context: TrainContext) -> None:
    """End a run that is already asked to stop, because its next step may take long."""
    if is_stop_requested(context):
        save_context(context)
        raise stop_error(context, f"in epoch {context.position.epoch}, before its next step")


def _hold_rows(context: TrainContext) -> None:
    """Read the rows of the run into memory, if they fit in its share, and print how many."""
    rows, group = context.rows, context.group
    used = np.union1d(rows.train, rows.calibration)
    begun = time.monotonic()
    most = context.settings.in_memory * measure_free_memory() / group.local_size
    size = context.loader.hold(used, most, lambda: context.stop.received is not None)
    if size:
        seconds = time.monotonic() - begun
        echo(f"{len(used):,} samples read into memory: {format_bytes(size)}, {format_duration(seconds)}", err=True)


@contextmanager
def _translating_write_errors(folder: Path) -> Iterator[None]:
    """Raise the system's refusal to write as a `UserError` that says how to continue."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if (folder / RUN_SETTINGS).exists():
            command = f"resume with `train run --resume --run {quote(str(folder))}`"
        else:
            command = "run the same command again"
        raise UserError(
            f"{folder}: cannot be written ({(error.strerror or str(error)).lower()}); fix that, then {command}"
        ) from error


def _print_start(context: TrainContext) -> None:
    """Print the settings and the rows of a run that starts or resumes, and notices about its stores."""
    settings, rows = context.settings, context.rows
    pictures = len(np.unique(rows.train_pictures))
    position = context.position
    if position.ended:
        echo(f"{context.folder}: finished already ({position.ended})", err=True)
        return
    processes = f" ({context.group.size} processes)" if context.group.size > 1 else ""
    resumed = "" if position.epoch == 1 and not position.batch else f"; resumes in epoch {position.epoch}"
    echo(
        f"{context.folder}: {settings.network} on {context.device.type}{processes} "
        f"in {name_precision(context.precision)}; {pictures:,} training pictures ({len(rows.train):,} samples), "
        f"{len(rows.val):,} validation samples ({len(rows.calibration):,} for the calibration){resumed}",
        err=True,
    )
    if not settings.has_experts and (problem := format_single_sources(context.store, rows.train)):
        warn(problem)
    if settings.has_experts and not find_new_sources(context.store, rows.train, rows.calibration).any():
        warn(
            "the network will not count beside the experts, because a class has too few sources (fewer than three) to "
            "test it on others; add sources, or train it alone with --experts off"
        )
    samples = rows.count_samples(settings.variants_per_epoch)
    if samples < settings.batch_size:
        echo(f"an epoch is one step of {samples} samples, fewer than the batch size of {settings.batch_size}", err=True)
    for card in context.store.cards:
        echo(join_lines(card["audit"]["words"].split("\n")), err=True)
    for line in format_left_out(context.store):
        echo(line, err=True)
