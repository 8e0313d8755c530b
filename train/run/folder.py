"""Run folder: its files, and opening it.

A training writes:

- `settings.json`: options, versions, git commit and the stores' fingerprints
- `data_card.json`: the store's; of further ones `data_card_2.json` and so on
- `history.csv`: a line an epoch (`train.run.history`), and `events` (`train.run.tensorboard`)
- `experts.safetensors` (`train.run.experts_file`), where it has experts
- `last.safetensors`, `best.safetensors` and `state.pt`: a network's weights, and what a resumed training needs
- `best.json` (`train.run.best_epoch`) and `curves.png`
- `summary.json`, at the end (`train.run.summary`)

An evaluation adds `report.json` and `report.html`, `comparison.json` and `comparison.html` for several runs, others for
another split or store (`eval.report.files`), `profiles.json` (`eval.explain.class_spectra`) and `test_score.json`
(`train.run.reported_score`).
Each file is whole or absent (`data_cards.core.files`).
A run counts as usable once it has `best.safetensors`, after its first epoch, or its experts if it has no network.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from data_cards.core.bounded_json import read_json
from data_cards.core.contained import check_contained, remove_contained
from data_cards.core.errors import DAMAGE, UsageError, UserError
from data_cards.core.files import PARTIAL, RUN_SETTINGS, is_temporary, write_json
from data_cards.core.kind import Kind, find_kind, format_progress, format_use
from data_cards.core.labels import CLASS_NAMES
from pipeline.store.settings import BuildSettings
from train.model.detector import Detector
from train.run.environment import collect_versions, find_commit
from train.run.experts_file import EXPERTS_FILE, load_experts
from train.run.history import read_history
from train.run.record import check_class_names, check_resolved, check_store_path, check_texts, is_opened_unasked
from train.run.summary import FINISHED, STOPPED_EARLY, read_state
from train.run.weights_file import BEST, LAST, weights_file
from train.settings import TrainSettings, find_removed_options

if TYPE_CHECKING:
    from pipeline.store.reader import FeatureStore  # loads Zarr, not needed for verdicts

RUN_VERSION = 6
_READABLE = (5, RUN_VERSION)  # 5 had no experts
RUNS = Path("runs")

_MOST_SETTINGS = 2**20  # bytes: a run may name thousands of sources
DATA_CARD, CURVES, STATE = "data_card.json", "curves.png", "state.pt"
# First part of the names of files that an evaluation may be writing while a training holds the folder's lock.
_OF_EVALUATIONS = ("report", "comparison", "profiles.json", "test_score.json")


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes
    ----------
    path : its folder
    settings : of the training, with nothing left to "auto"
    build_settings : of its store: how a picture becomes features
    store_paths : paths of the stores that it was trained on
    store_fingerprint : str, of the store, or of all of them concatenated
    part_fingerprints : of each of its stores
    class_names : tuple of str, in the order of the logits
    history : one dict an epoch, with `HISTORY_COLUMNS` as keys; losses in nats, accuracies 0 to 1
    created : when the run was started, ISO 8601 in UTC
    removed : options, by name, that it was trained with and that were removed: it can be scored, but not resumed
    prolonged : epochs that were done when the finished run was prolonged; 0 if it was not
    """

    path: Path
    settings: TrainSettings
    build_settings: BuildSettings
    store_paths: tuple[str, ...]
    store_fingerprint: str
    part_fingerprints: tuple[str, ...]
    class_names: tuple[str, ...]
    history: list[dict]
    created: str
    removed: dict[str, object]
    prolonged: int = 0

    @property
    def weights(self) -> Path:
        """The file that it must have before pictures can be scored."""
        return weights_file(self.path, BEST) if self.settings.has_network else self.path / EXPERTS_FILE

    @property
    def simulated(self) -> bool:
        """Whether it was trained on simulated pictures: by its data cards, or by its stores if a card is absent."""
        try:
            return any(bool(card["simulated"]) for card in self.read_cards())
        except (OSError, *DAMAGE):
            pass
        try:
            return self.open_stores().is_simulated
        except UserError:
            return False

    def read_cards(self) -> list[dict]:
        """Read the data cards of its stores, as of the training; raises `OSError` or one of `DAMAGE` if it cannot."""
        files = [_card_file(self.path, number) for number, _ in enumerate(self.store_paths, start=1)]
        return [read_json(self.path, file.name) for file in files]

    def check_stores(self) -> None:
        """Raise `UserError` where a store is at an address that would be fetched: the user must name it."""
        for path in self.store_paths:
            if not is_opened_unasked(path):
                raise UserError(
                    f"{self.path}: was trained on {path[:200]}; expected a folder or s3://, as others are opened only "
                    "when they are named; give it with --store"
                )

    def open_stores(self) -> "FeatureStore":
        """Open the stores that it was trained on; raises the errors of `check_stores` and `open_stores`."""
        from pipeline.store.concatenated import open_stores  # loads Zarr

        self.check_stores()
        return open_stores(self.store_paths)


def create_run_folder(settings: TrainSettings, side: int) -> Path:
    """Create the folder of a new run: as named, or the next number under `runs/`, unique among concurrent runs.

    Raises
    ------
    UsageError : the named folder cannot be created
    """
    if settings.run is not None:
        path = Path(settings.run)
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path}: is a file; expected a folder, give another --run")
        _mkdir(path, exist_ok=True)
        return path
    number = 1 + max((_parse_run_number(path) for path in RUNS.iterdir()), default=0) if RUNS.is_dir() else 1
    while True:  # another run may claim the number at the same moment
        path = RUNS / (f"{number:03}-{settings.network}-{side}px" if settings.has_network else f"{number:03}-experts")
        try:
            _mkdir(path, exist_ok=False)
            return path
        except FileExistsError:
            number += 1


@contextmanager
def folder_lock(path: Path) -> Iterator[None]:
    """Lock a run's folder against training by another process, and remove a killed one's unfinished files.

    Reading needs no lock.

    Raises
    ------
    UserError : another process holds the lock, or a link leads out of the folder
    """
    from pipeline.store.filesystem import Storage  # loads Zarr
    from pipeline.store.lock import writer_lock

    with writer_lock(Storage(path), "another training"):
        for name in os.listdir(path):
            if is_temporary(name) and not name.startswith(_OF_EVALUATIONS):
                remove_contained(path, name)
        yield


def write_run_settings(path: Path, settings: TrainSettings, store: "FeatureStore", processes: int = 1) -> None:
    """Write the settings of a new run, trained by `processes` processes, into its folder.

    Raises
    ------
    UsageError : the folder is not empty
    """
    if (path / RUN_SETTINGS).exists():
        if read_state(path) in (FINISHED, STOPPED_EARLY):
            raise UsageError(f"{path}: holds a finished run; give another --run (in Python: run), or leave it out")
        raise UsageError(
            f"{path}: holds a run already; continue it with --resume (in Python: resume), or give another --run"
        )
    if not _is_unused(path):
        raise UsageError(f"{path}: the folder is not empty; give another --run")
    write_json(
        path / RUN_SETTINGS,
        {
            "run_version": RUN_VERSION,
            "created": datetime.now(UTC).isoformat(timespec="microseconds"),
            "train": settings.to_dict(),
            "store": {
                "paths": [part.path for part in store.parts],
                "fingerprints": [part.fingerprint for part in store.parts],
                "fingerprint": store.fingerprint,
                "settings": store.settings.to_dict(),
            },
            "class_names": list(CLASS_NAMES),
            "processes": processes,
            "versions": collect_versions(),
            "git": find_commit(Path()),
        },
    )
    write_cards(path, store)


def prolong_run(path: Path, epochs: int, prolonged: int) -> None:
    """Record the new number of epochs of a run, and the epoch at which it was finished (`prolonged`, else 0)."""
    record = read_json(path, RUN_SETTINGS, _MOST_SETTINGS)
    record["train"]["epochs"], record["prolonged"] = epochs, prolonged
    write_json(path / RUN_SETTINGS, record)


def write_cards(path: Path, store: "FeatureStore") -> None:
    """Write the data cards of a run's stores into its folder, unless they exist."""
    for number, card in enumerate(store.cards, start=1):
        file = _card_file(path, number)
        if not file.exists():
            write_json(file, card)


def find_newest_run(folder: Path = RUNS, usable: bool = True) -> Path:
    """Find the run in a folder that was started last; if `usable`, among those with a finished epoch.

    Raises
    ------
    UserError : none found
    """
    found, unreadable = [], None
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            found.append(read_run(path))
        except UserError as error:  # not a run, or a damaged or older one, which must not hide the others
            unreadable = error if (path / RUN_SETTINGS).exists() else unreadable
    ready = [(run.created, run.path) for run in found if not usable or run.weights.exists()]
    if not ready:
        if found:
            raise UserError(
                f"{folder}: no run in it has finished an epoch yet; "
                f"resume with `train run --resume --run {quote(str(max((run.created, run.path) for run in found)[1]))}`"
            )
        raise unreadable or UserError(f"{folder}: no training run in it; make one with `train run`")
    return max(ready)[1]


def open_run(path: str | Path) -> Run:
    """Open a run with at least one finished epoch.

    Raises
    ------
    UserError : not found, not a run, or without a finished epoch
    """
    run = read_run(path)
    if not run.weights.exists():
        raise UserError(
            f"{run.path}: has no finished epoch yet; resume with `train run --resume --run {quote(str(run.path))}`"
        )
    return run


def read_run(path: str | Path) -> Run:
    """Read a run, possibly without a finished epoch; raises `UserError` like `open_run`, and if a link leads out."""
    path = Path(path)
    check_contained(path)
    file = path / RUN_SETTINGS
    if not file.is_file():
        if path.is_dir() and _is_unused(path):
            raise UserError(f"{path}: no run was started in it; start one with `train run --run {quote(str(path))}`")
        raise UserError(f"{path}: {_explain_not_run(path)}")
    try:
        record = read_json(path, RUN_SETTINGS, _MOST_SETTINGS)
        if record["run_version"] not in _READABLE:
            raise UserError(f"{path}: a run of version {record['run_version']}; expected {RUN_VERSION}; train it again")
        removed = find_removed_options(record["train"])
        if "phase" in removed:  # decides the network's inputs
            raise UserError(
                f"{path}: trained with phase {removed['phase']}, an option that was removed; train it again"
            )
        settings = TrainSettings.from_dict(record["train"])
        build_settings = _read_build_settings(path, record["store"]["settings"])
        check_resolved(settings, build_settings.features)
        check_class_names(record["class_names"])
        check_texts(record, "created")
        check_texts(record["store"], "fingerprint")
        return Run(
            path=path,
            settings=settings,
            build_settings=build_settings,
            store_paths=tuple(map(check_store_path, record["store"]["paths"])),
            store_fingerprint=record["store"]["fingerprint"],
            part_fingerprints=tuple(map(str, record["store"]["fingerprints"])),
            class_names=tuple(record["class_names"]),
            history=read_history(path),
            created=record["created"],
            removed=removed,
            prolonged=_check_prolonged(record.get("prolonged", 0), settings.epochs),
        )
    except (UsageError, *DAMAGE) as error:
        why = error if isinstance(error, UsageError | ValueError) else repr(error)
        raise UserError(f"{path}: its settings or history are damaged ({why}); train it again") from error


def _explain_not_run(path: Path) -> str:
    expected = "expected the folder of a run"
    kind = find_kind(path)
    if kind is Kind.UNFINISHED:
        return f"is {kind}; {expected}; {format_progress(path)}"
    if not path.exists():
        return f"no such run folder; {_ask_for_run(path) or 'runs are made with `train run`'}"
    if kind is Kind.STORE:
        return f"is {kind}; {expected}; {format_use(kind, path)}"
    if kind in (Kind.FOLDER, Kind.RUN):
        inside = sorted(str(one.parent) for one in path.glob(f"*/{RUN_SETTINGS}"))
        advice = f"give one of the runs in it, such as {inside[-1]}" if inside else "`train run` makes one"
        return f"not a run folder (it has no {RUN_SETTINGS}); {expected}; {advice}"
    if (path.parent / RUN_SETTINGS).is_file():
        return f"is {kind} of a run; {expected}; give --run {quote(str(path.parent))}"
    return f"is {kind}; {expected}, which `train run` makes"


def _ask_for_run(path: Path) -> str | None:
    """Return the question for a run with a similar name, beside a missing one or under `runs/`."""
    runs = {one.parent.name: one.parent for folder in (RUNS, path.parent) for one in folder.glob(f"*/{RUN_SETTINGS}")}
    close = get_close_matches(path.name, runs, n=1, cutoff=0.7)
    return f"did you mean {runs[close[0]]}?" if close else None


def _check_prolonged(value: object, epochs: int) -> int:
    if type(value) is not int or not 0 <= value < epochs:
        raise ValueError(f"prolonged is {str(value)[:60]}, expected a number of epochs below {epochs}")
    return value


def _read_build_settings(path: Path, values: dict) -> BuildSettings:
    try:
        return BuildSettings.from_dict(values)
    except UsageError:
        raise
    except UserError as error:
        raise UserError(f"{path}: its store was {error}, and train again") from error


def load_detector(run: Run, device: str = "auto", which: str = BEST) -> Detector:
    """Load the trained detector, its network in evaluation mode; a network of weight 0 beside experts is left out.

    Parameters
    ----------
    device : str, of the network, see `train.model.device.pick_device`
    which : "best" (the epoch that is kept) or "last", of the network

    Raises
    ------
    UserError : the weights are missing or damaged
    UsageError : another device than the CPU for a run without a network
    """
    if which not in (BEST, LAST):
        raise UsageError(f"weights {which}: expected {BEST} or {LAST}")
    experts = load_experts(run.path) if run.settings.has_experts else None
    if not run.settings.has_network:
        if device not in ("auto", "cpu"):
            raise UsageError(
                f"device {device}: {run.path} has no network, and experts run on the CPU; leave the option out"
            )
        return Detector(experts, None)
    if experts is not None and experts.network_weight == 0:
        return Detector(experts, None)  # the network would add nothing to a score
    import torch  # slow to import, not needed for experts

    from train.model.device import pick_device
    from train.model.plane_detector import build_plane_detector
    from train.run.checkpoint import load_weights

    with torch.device("meta"):  # shapes only, until the file is known to hold them
        network = build_plane_detector(run.settings, run.build_settings.features)
    load_weights(network, run.path, which)
    return Detector(experts, network.to(pick_device(device)).eval())


def _card_file(path: Path, number: int) -> Path:
    """Return the path of the data card of a run's store, counted from 1."""
    return path / (DATA_CARD if number == 1 else f"data_card_{number}.json")


def _is_unused(path: Path) -> bool:
    """Return whether a folder is empty except for files of a run that was killed before its start."""
    left = {RUN_SETTINGS + PARTIAL}  # name in an earlier version
    return all(file.name in left or is_temporary(file.name, [RUN_SETTINGS]) for file in path.iterdir())


def _mkdir(path: Path, exist_ok: bool) -> None:
    try:
        path.mkdir(parents=True, exist_ok=exist_ok)
    except NotADirectoryError as error:
        raise UsageError(f"{path}: cannot be created, a part of its path is a file; give another --run") from error


def _parse_run_number(path: Path) -> int:
    first = path.name.split("-")[0]
    return int(first) if first.isascii() and first.isdigit() else 0
