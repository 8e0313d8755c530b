"""Experts of a run: fit them, alone or beside a network."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from data_cards.core.console import echo, progress_bar, warn
from data_cards.core.errors import interrupt_status
from data_cards.core.labels import CLASS_NAMES, FAKE
from pipeline.store.concatenated import format_left_out
from pipeline.store.reader import FeatureStore
from train.data.expert_rows import choose_expert_rows
from train.data.row_selection import format_single_sources
from train.loop.ending import recording_end
from train.loop.signals import Stopped
from train.model.calibration import compute_log_odds
from train.recipe.experts import (
    ENOUGH_SOURCES,
    FittedExperts,
    count_sources,
    fit_experts,
    format_few_sources,
    weigh_sources,
)
from train.run.experts_file import EXPERTS_FILE, load_experts, save_experts
from train.run.folder import create_run_folder, folder_lock, write_cards, write_run_settings
from train.run.summary import FINISHED, Summary, delete_summary, read_summary, write_summary
from train.settings import TrainSettings

MOST_WEIGHT = 2.0  # of a network's log-odds beside the experts'
_ROWS_AT_ONCE = 4096


def train_experts(settings: TrainSettings, store: FeatureStore) -> Summary:
    """Start a run of experts alone and fit them.

    Parameters
    ----------
    settings : resolved (`resolve_settings`), without a network

    Raises
    ------
    UserError : the store or a setting cannot be used
    """
    rows = choose_expert_rows(store, settings)  # before anything is written
    folder = create_run_folder(settings, store.settings.features.side)
    with folder_lock(folder):
        write_run_settings(folder, settings, store)
        return _fit_and_write(folder, settings, store, rows)


def resume_experts(folder: Path, settings: TrainSettings, store: FeatureStore) -> Summary:
    """Fit the experts of a run that was stopped before; return the summary of a run that is finished."""
    with folder_lock(folder):
        write_cards(folder, store)  # a kill may have come before them
        known = read_summary(folder)
        if known is not None and known.state == FINISHED:
            echo(f"{folder}: finished already ({known.ended})", err=True)
            return known
        delete_summary(folder)
        return _fit_and_write(folder, settings, store, choose_expert_rows(store, settings))


def _fit_and_write(folder: Path, settings: TrainSettings, store: FeatureStore, rows: np.ndarray) -> Summary:
    begun = time.monotonic()

    def compute_summary(state: str, ended: str, **results: object) -> Summary:
        seconds = time.monotonic() - begun
        unknown = dict.fromkeys(("val_loss", "val_accuracy", "samples_per_second"))
        return Summary(
            run=folder,
            state=state,
            ended=ended,
            epochs=0,
            best_epoch=None,
            skipped=0,
            seconds=round(seconds, 3),
            waited=0.0,
            device="cpu",
            device_name="CPU",
            processes=1,
            precision="float64",
            **unknown | results,
        )

    with recording_end(folder, compute_summary):
        try:
            for line in format_left_out(store):
                echo(line, err=True)
            fitted = _fit_and_report(store, settings, rows)
        except KeyboardInterrupt as error:
            number = interrupt_status(error) - 128
            raise Stopped(folder, "before the experts were fitted", number) from error
        save_experts(fitted.experts, folder)
        loss, accuracy = _measure(fitted, store, rows)
    summary = compute_summary(
        FINISHED,
        "fitted",
        val_loss=loss,
        val_accuracy=accuracy,
        samples_per_second=round(len(rows) / (time.monotonic() - begun), 1),
        calibration=fitted.experts.calibration,
    )
    write_summary(summary)
    return summary


def fit_rows(store: FeatureStore, settings: TrainSettings, rows: np.ndarray) -> FittedExperts:
    """Fit experts to rows of a store."""
    columns = store.columns
    starts = range(0, len(rows), _ROWS_AT_ONCE)
    profiles = [
        store.read_profiles(rows[start : start + _ROWS_AT_ONCE])
        for start in progress_bar(starts, what="profiles", unit="blocks")
    ]
    return fit_experts(
        np.concatenate(profiles),
        columns["label"][rows],
        columns["source"][rows],
        columns["variant"][rows],
        columns["group"][rows],
        settings.seed,
    )


def _fit_and_report(store: FeatureStore, settings: TrainSettings, rows: np.ndarray) -> FittedExperts:
    """Fit experts to rows of a store, and print how many rows and sources these are."""
    columns = store.columns
    names = {(label, source) for label, source in zip(columns["label"][rows], columns["source"][rows], strict=True)}
    echo(
        f"experts: {len(np.unique(columns['picture'][rows])):,} pictures ({len(rows):,} samples) "
        f"of {len(names)} sources",
        err=True,
    )
    fitted = fit_rows(store, settings, rows)
    joined = count_sources(columns["label"][rows], columns["source"][rows], columns["group"][rows])
    note = ", as sources that share near-duplicates count as one" if sum(joined.values()) < len(names) else ""
    if few := format_few_sources(joined):
        echo(f"{few}{note}: more verdicts are unsure than with {ENOUGH_SOURCES} or more", err=True)
    if not fitted.experts.sources_left_out:
        alone = [name for name, count in joined.items() if count == 1]
        what = f"all {alone[0]} pictures have one source" if len(alone) == 1 else "each class has only one source"
        problem = format_single_sources(store, rows) or f"{what}{note}"
        warn(f"{problem}. Every verdict of these experts is unsure")
    return fitted


def _measure(fitted: FittedExperts, store: FeatureStore, rows: np.ndarray) -> tuple[float, float]:
    """Measure log loss, in nats, and accuracy on left-out pictures, with equal weights of sources and classes."""
    scored = np.isfinite(fitted.log_odds)
    labels, log_odds = store.columns["label"][rows][scored].astype(int), fitted.log_odds[scored]
    weights = weigh_sources(labels, store.columns["source"][rows][scored].astype(str))
    losses = np.logaddexp(0, np.where(labels == FAKE, -log_odds, log_odds))
    right = (log_odds >= 0) == (labels == FAKE)
    return float(weights @ losses / weights.sum()), float(weights @ right / weights.sum())


def write_missing_experts(folder: Path, settings: TrainSettings, store: FeatureStore) -> None:
    """Fit and write the experts of a run with a network, whose weight is 0 until the run ends."""
    if settings.has_experts and not (folder / EXPERTS_FILE).exists():
        save_experts(_fit_and_report(store, settings, choose_expert_rows(store, settings)).experts, folder)


def discount_network(folder: Path, settings: TrainSettings) -> None:
    """Set the weight of a prolonged run's network to 0 until its new end."""
    if settings.has_experts and (folder / EXPERTS_FILE).exists():
        save_experts(replace(load_experts(folder), network_weight=0.0), folder)


def weigh_network(
    folder: Path,
    settings: TrainSettings,
    store: FeatureStore,
    trained: np.ndarray,
    rows: np.ndarray,
    logits: np.ndarray,
) -> tuple[float, float]:
    """Fit the weight of a run's network beside its experts, write it with them, and return the experts' figures.

    The weight is 0 if no source of a class was left out: on pictures of its own sources, a network is always good.

    Parameters
    ----------
    trained : int64 (m,), rows that the network was trained on
    rows : int64 (n,), validation rows; only those of other sources decide
    logits : float64 (n, 2), the network's of these rows

    Returns
    -------
    loss, accuracy : float, the experts' without the network, in nats and 0 to 1, on what a fit left out
    """
    fitted_rows = choose_expert_rows(store, settings)
    fitted = fit_rows(store, settings, fitted_rows)
    of_experts = dict(zip(fitted_rows.tolist(), fitted.log_odds.tolist(), strict=True))
    experts = np.array([of_experts.get(row, np.nan) for row in rows.tolist()])
    columns = store.columns
    known = np.isfinite(experts) & find_new_sources(store, trained, rows)
    weight = 0.0
    if known.any():
        weight = fit_network_weight(
            experts[known],
            compute_log_odds(logits[known]),
            columns["label"][rows][known].astype(int),
            columns["source"][rows][known].astype(str),
        )
    save_experts(replace(fitted.experts, network_weight=weight), folder)
    return _measure(fitted, store, fitted_rows)


def find_new_sources(store: FeatureStore, trained: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return which rows (n,) are of sources that `trained` has no row of, bool (n,); none unless both classes are."""
    sources = store.columns["source"]
    new = ~np.isin(sources[rows].astype(str), sources[trained].astype(str))
    return new & (len(np.unique(store.columns["label"][rows][new])) == len(CLASS_NAMES))


def fit_network_weight(experts: np.ndarray, network: np.ndarray, labels: np.ndarray, sources: np.ndarray) -> float:
    """Fit the weight, 0 to `MOST_WEIGHT`, at which a network's log-odds are added to the experts'.

    The weight minimises the log loss on pictures of sources on which neither was trained. It is 0 if the gain is
    less than twice its standard error over sources.

    Parameters
    ----------
    experts, network : float64 (N,), log-odds of "fake"
    labels : int (N,)
    sources : str (N,), of equal weights
    """
    from scipy.optimize import minimize_scalar  # slow to import

    weights = weigh_sources(labels, sources)

    def compute_losses(weight: float) -> np.ndarray:
        log_odds = experts + weight * network
        return np.logaddexp(0, np.where(labels == FAKE, -log_odds, log_odds))

    found = minimize_scalar(lambda weight: weights @ compute_losses(weight), bounds=(0, MOST_WEIGHT), method="bounded")
    gains = compute_losses(0.0) - compute_losses(found.x)
    of_source = np.array([gains[sources == name].mean() for name in np.unique(sources)])
    if len(of_source) < 2 or of_source.mean() < 2 * of_source.std(ddof=1) / np.sqrt(len(of_source)):
        return 0.0
    return float(found.x)
