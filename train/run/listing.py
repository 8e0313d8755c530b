"""List of the runs in a folder: settings and results of each."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SETTINGS
from data_cards.core.kind import Kind, find_kind, format_progress
from train.run.folder import RUNS, read_run
from train.run.history import choose_epoch
from train.run.reported_score import read_reported_score
from train.run.summary import FAILED, FINISHED, read_state, read_summary


@dataclass(frozen=True)
class RunEntry:
    """One run in the list; unknown fields are None.

    Attributes
    ----------
    run : its folder
    state : as in its summary: "finished", "stopped early", "interrupted" or "failed"; without one "unfinished" (still
        training, or killed); or "unusable"
    problem : str, why it is unusable or failed
    created : ISO 8601 in UTC
    stores : paths of the stores that it was trained on
    store_fingerprint : of their content
    rows : which of their rows it uses, as text, such as "variant=clean, without midjourney", or "all"
    where, hold_out, validate_on : the settings that chose these rows
    network : what was trained, such as "experts" or "experts, resnet18"
    side : of the planes, in bins
    epochs : number of finished epochs; None for experts alone
    best_epoch : whose weights are kept: that of the lowest validation loss, unless the settings keep the last
    val_loss, val_accuracy : of that epoch, in nats and 0 to 1; for experts alone, on what a fit left out
    loss, accuracy, measured_on : of the whole detector: on "validation" pictures, or if the experts alone decide, on
        what a fit left out, "left out"; None beside experts if the network counts or its weight is not known
    ended : str, the reason
    seconds, samples_per_second, device_name, precision : as in its summary
    test_auroc : value and interval's ends, low and high, if `report` scored the test pictures
    """

    run: Path
    state: str
    problem: str | None = None
    created: str | None = None
    stores: tuple[str, ...] = ()
    store_fingerprint: str | None = None
    rows: str | None = None
    where: tuple[str, ...] = ()
    hold_out: tuple[str, ...] = ()
    validate_on: tuple[str, ...] = ()
    network: str | None = None
    side: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    loss: float | None = None
    accuracy: float | None = None
    measured_on: str | None = None
    test_auroc: tuple[float, float, float] | None = None
    ended: str | None = None
    seconds: float | None = None
    samples_per_second: float | None = None
    device_name: str | None = None
    precision: str | None = None

    def to_dict(self) -> dict:
        """Convert to plain values."""
        return {**vars(self), "run": str(self.run)}


def list_runs(folder: str | Path = RUNS) -> list[RunEntry]:
    """List all runs in a folder, the oldest first and unusable ones last.

    Raises
    ------
    UserError : no such folder, or no run in it
    """
    folder = Path(folder)
    runs = [path for path in folder.iterdir() if (path / RUN_SETTINGS).is_file()] if folder.is_dir() else []
    if not runs:
        what = "no training run in it" if folder.is_dir() else "no such folder"
        advice = "make a run with `train run`"
        if (folder / RUN_SETTINGS).is_file():
            what = f"is {Kind.RUN} itself"
            advice = f"give the folder above it: `train list {quote(str(folder.absolute().parent))}`"
        elif (kind := find_kind(folder)) is Kind.STORE:
            what, advice = f"is {kind}", f"make a run with `train run --store {quote(str(folder))}`"
        elif kind is Kind.UNFINISHED:
            what, advice = f"is {kind}", format_progress(folder)
        raise UserError(f"{folder}: {what}; expected a folder of run folders; {advice}")
    listed = [_read_entry(path) for path in runs]
    return sorted(listed, key=lambda one: (one.created is None, one.created or "", str(one.run)))


def name_stores(entries: list[RunEntry]) -> list[str]:
    """Name each run's stores, by their folders; names that several contents share get the start of a fingerprint."""
    names = [" and ".join(Path(one).name for one in entry.stores) for entry in entries]
    contents = {(name, entry.store_fingerprint) for name, entry in zip(names, entries, strict=True)}
    shared = Counter(name for name, _ in contents)
    return [
        f"{name} ({entry.store_fingerprint[:6]})" if name and shared[name] > 1 else name
        for name, entry in zip(names, entries, strict=True)
    ]


def _read_entry(path: Path) -> RunEntry:
    try:
        run = read_run(path)
    except UserError as error:
        return RunEntry(path, "unusable", str(error))
    known = {
        "created": run.created,
        "stores": run.store_paths,
        "store_fingerprint": run.store_fingerprint,
        "rows": run.settings.format_rows(),
        **{name: getattr(run.settings, name) for name in ("where", "hold_out", "validate_on")},
        "network": run.settings.format_model(),
        "side": run.build_settings.features.side or None,
        "epochs": len(run.history) if run.settings.has_network else None,
    }
    summary, state = read_summary(path), read_state(path)
    if summary is not None:
        known |= {
            "ended": summary.ended,
            "seconds": summary.seconds,
            "samples_per_second": summary.samples_per_second,
            "device_name": summary.device_name,
            "precision": summary.precision,
        }
    if state == FAILED:
        known["problem"] = f"{path}: {state}: {summary.ended}"
    if run.settings.has_network:
        if not run.history:
            return RunEntry(path, state, **known)
        best = choose_epoch(run.history, run.settings.keep)
        known |= {"best_epoch": best["epoch"], "val_loss": best["val_loss"], "val_accuracy": best["val_accuracy"]}
        if not run.settings.has_experts:
            known |= {"loss": best["val_loss"], "accuracy": best["val_accuracy"], "measured_on": "validation"}
        elif summary is not None and summary.network_weight == 0 and summary.experts_loss is not None:
            known |= {"loss": summary.experts_loss, "accuracy": summary.experts_accuracy, "measured_on": "left out"}
    elif state == FINISHED:
        known |= {"val_loss": summary.val_loss, "val_accuracy": summary.val_accuracy}
        known |= {"loss": summary.val_loss, "accuracy": summary.val_accuracy, "measured_on": "left out"}
    else:
        return RunEntry(path, state, **known)
    known["test_auroc"] = _read_test_auroc(path, run.created)
    if not run.weights.is_file():
        known["problem"] = f"{run.weights}: no such file; train it again"
        return RunEntry(path, "unusable", **known)
    return RunEntry(path, state, **known)


def _read_test_auroc(path: Path, created: str) -> tuple[float, float, float] | None:
    """Read the AUROC on the test pictures, if the report is of this very run."""
    score = read_reported_score(path)
    return (score.auroc, score.low, score.high) if score is not None and score.created == created else None
