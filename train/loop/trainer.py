"""The training loop: `train` starts a run, `resume` goes on with one.

Everything random is a pure function of the seed and the step: first weights, order, dropout. So
on the CPU a run that was stopped and resumed ends with the very weights of one that was not.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote

import click
import numpy as np
import torch

from data_cards.core.errors import UsageError, UserError
from pipeline.store.concatenated import LEFT_OUT, open_stores
from train.data.row_selection import choose_rows
from train.data.statistics import measure_training_rows
from train.data.store_watch import StoreWatch
from train.loop.context import OnStep, Training
from train.loop.ending import recording_end, sum_up
from train.loop.epoch import run_epoch
from train.loop.failures import tell_of_memory
from train.loop.resume_state import Position, load_state
from train.loop.signals import Stopped, StopSignals
from train.model.detector import build_detector
from train.model.device import choose_algorithms, name_precision, pick_device, pick_precision
from train.model.distributed import Team, check_settings, join_team, tell_of_lost_process
from train.model.inference import open_reader
from train.model.pretrained import load_imagenet_weights
from train.recipe.augment import Augmenter
from train.recipe.optimizer import make_optimiser
from train.recipe.vrex import number_sources
from train.run.folder import SETTINGS, STATE, Run, begin_run, hold_folder, make_folder, read_run, write_cards
from train.run.summary import Summary, forget_summary
from train.run.tensorboard import can_write_events
from train.settings import TrainSettings


def train(settings: TrainSettings, on_step: OnStep | None = None) -> Summary:
    """Train a new run to its end.

    Parameters
    ----------
    on_step : called with a `StepRecord` after each step, before the state is saved; on every process, where there are
        several. A GPU waits for each step's loss then, so leave it out for the highest speed

    Raises
    ------
    UserError : the store, the weights or a setting cannot be used, or the loss is not finite
    Stopped : on Ctrl-C, after the state was saved
    """
    with join_team(settings.device) as team, StopSignals(team.size > 1) as stop:

        def begin() -> Training:
            training = prepare(settings, stop, team)
            training.on_step = on_step
            _load_first_weights(training)
            return training

        training = team.agree(begin)
        training.folder = team.lead(lambda: make_folder(training.settings, training.store.settings.features.side))
        with _holding(training.folder, team):
            with _telling_how_to_go_on(training.folder):
                team.lead(lambda: begin_run(training.folder, training.settings, training.store, team.size))
            return _run(training)


def resume(run: str | Path, changes: dict | None = None, on_step: OnStep | None = None) -> Summary:
    """Go on with a run to its end.

    Parameters
    ----------
    changes : settings given anew; those that decide the weights must be as before
    on_step : as `train`

    Raises
    ------
    UsageError : other settings than the run was started with
    UserError : the run or its store cannot be used; and as `train`
    """
    before = read_run(run)
    device = (changes or {}).get("device") or before.settings.device
    with join_team(device) as team, StopSignals(team.size > 1) as stop, _holding(before.path, team):
        training = team.agree(lambda: _take_up(before, changes, stop, team))
        training.on_step = on_step
        team.lead(lambda: write_cards(training.folder, training.store))  # a kill may have come before them
        return _run(training)


@contextmanager
def _holding(folder: Path, team: Team) -> Iterator[None]:
    """Keep other trainings out of the folder: the leading process holds it, as it alone writes there."""
    with ExitStack() as held:
        team.lead(lambda: held.enter_context(hold_folder(folder)))
        yield


def _take_up(before: Run, changes: dict | None, stop: StopSignals, team: Team) -> Training:
    if before.removed:
        told = ", ".join(f"{name} {value}" for name, value in before.removed.items())
        raise UserError(f"{before.path}: trained with an option that was removed ({told}); begin a new run")
    settings = replace(before.settings, **{"store": before.store_paths, **(changes or {})})
    settings = settings.for_features(before.build_settings.features)
    different = settings.differences(before.settings)
    if different:
        told = ", ".join(
            f"{name} {getattr(settings, name)} (the run has {getattr(before.settings, name)})" for name in different
        )
        raise UsageError(
            f"{before.path}: cannot be resumed with other settings: {told}; leave them out, or begin a new run"
        )
    training = prepare(settings, stop, team)
    if training.store.fingerprint != before.store_fingerprint:
        raise UserError(
            f"{training.store.path}: not the store that {before.path} was trained on (fingerprint "
            f"{training.store.fingerprint[:12]}, the run has {before.store_fingerprint[:12]}); "
            "give that one with --store, or begin a new run"
        )
    training.folder = before.path
    if not (training.folder / STATE).exists():
        _load_first_weights(training)
    training.position = load_state(training.folder, training.detector.network, training.optimiser)
    return training


def prepare(settings: TrainSettings, stop: StopSignals, team: Team) -> Training:
    """Check everything and make the detector, before anything is written."""
    device = pick_device(settings.device)
    if device.type == "cuda":
        device = torch.device("cuda", torch.cuda.current_device())
    check_settings(settings, team, device)
    watch = StoreWatch(settings.store)
    store = open_stores(settings.store)
    settings = settings.for_features(store.settings.features)
    rows = choose_rows(store, settings)
    precision = pick_precision(settings.precision, device, settings.network)
    with tell_of_memory(store.path, settings, device, precision):
        statistics = measure_training_rows(store, rows.train, settings)
        torch.manual_seed(settings.seed)  # the first weights are made on the CPU, the same for every device
        detector = build_detector(settings, store.settings.features, *statistics).to(device)
        network = team.wrap(detector.network)
    return Training(
        settings=settings,
        store=store,
        reader=open_reader(detector, store, settings.threads),
        watch=watch,
        rows=rows,
        labels=store.columns["label"].astype(np.int64),
        sources=number_sources(store),
        device=device,
        team=team,
        precision=precision,
        detector=detector,
        network=network,
        augmenter=Augmenter(settings, device),
        optimiser=make_optimiser(detector.network, settings),
        folder=Path(),
        position=Position(),
        stop=stop,
    )


def _load_first_weights(training: Training) -> None:
    """Start from the file of weights that the settings name, if they do."""
    if training.settings.weights is None:
        return
    load_imagenet_weights(training.detector.network, training.settings.weights)


def _run(training: Training) -> Summary:
    position, team = training.position, training.team
    _announce(training)
    with choose_algorithms(training.device), recording_end(training), _telling_how_to_go_on(training.folder):
        try:
            if not position.ended:
                team.lead(lambda: forget_summary(training.folder))
            with (
                training.reader,
                tell_of_lost_process(team),
                tell_of_memory(training.folder, training.settings, training.device, training.precision),
            ):
                while not position.ended:
                    run_epoch(training)
            return team.lead(lambda: sum_up(training))
        except KeyboardInterrupt as error:  # the second Ctrl-C
            raise Stopped(training.folder, "at once; the last saved state counts") from error


@contextmanager
def _telling_how_to_go_on(folder: Path) -> Iterator[None]:
    """Within it, the system's refusal to write is a `UserError` with the way to go on."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        if (folder / SETTINGS).exists():
            way = f"go on with `train run --resume --run {quote(str(folder))}`"
        else:
            way = "run the same command again"
        raise UserError(
            f"{folder}: cannot be written ({(error.strerror or str(error)).lower()}); mend that, then {way}"
        ) from error


def _announce(training: Training) -> None:
    settings, rows = training.settings, training.rows
    pictures = len(np.unique(rows.train_pictures))
    position = training.position
    if position.ended:
        click.echo(f"{training.folder}: finished already ({position.ended})", err=True)
        return
    processes = f" ({training.team.size} processes)" if training.team.size > 1 else ""
    onwards = "" if position.epoch == 1 and not position.batch else f"; goes on in epoch {position.epoch}"
    click.echo(
        f"{training.folder}: {settings.network} on {training.device.type}{processes} "
        f"in {name_precision(training.precision)}; {pictures:,} training pictures ({len(rows.train):,} samples), "
        f"{len(rows.val):,} validation samples{onwards}",
        err=True,
    )
    if not can_write_events():
        click.echo("no TensorBoard events: they need `pip install 'spectral-detector[tensorboard]'`", err=True)
    for card in training.store.cards:
        click.echo(card["audit"]["words"], err=True)
    left_out = int((training.store.columns["split"] == LEFT_OUT).sum())
    if left_out:
        click.echo(
            f"{left_out:,} samples are left out: near-duplicates of validation or test pictures of another store",
            err=True,
        )
