"""The report of a run on a split: scores with intervals, as figures, JSON and one HTML page."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_cards.errors import UsageError
from eval.baseline import describe_shortcuts
from eval.bootstrap import LEVEL, RESAMPLES, SEED
from eval.breakdown import (
    describe,
    describe_histogram,
    describe_over_sources,
    describe_quality_bands,
    describe_roc,
    describe_sources,
)
from eval.conditions import RECIPE as STRESS
from eval.conditions import describe_conditions
from eval.gallery import make_examples, pick_examples, pick_worst
from eval.html import render_report
from eval.leaked import find_leaked
from eval.reliability import describe_abstention, describe_coverage, describe_reliability
from eval.score import (
    Scored,
    find_rows,
    find_run,
    find_store,
    find_training_store,
    locate_pictures,
    score_samples,
)
from eval.thresholds import describe_threshold
from eval.words import SIMULATION_NOTICE, summarise
from pipeline.store import CLASS_NAMES, FeatureStore
from pipeline.versions import program_version
from train.run_folder import Run, load_detector, whole_file

REPORT_VERSION = 2


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes
    ----------
    figures : everything that is in `report.json`; `rows` holds each sample's own score
    json, html : the two files
    """

    figures: dict
    json: Path
    html: Path


def make_report(
    run: str | Path | None = None,
    store: str | Path | None = None,
    split: str = "test",
    out: str | Path | None = None,
    *,
    device: str = "auto",
    batch_size: int = 32,
    threads: int = 4,
    progress: bool = True,
) -> Report:
    """Score a split and write `report.json` and `report.html`.

    Parameters
    ----------
    run : run folder; None takes the newest one under `runs/`
    store : feature store; None takes the one that the run was trained on
    split : "train", "val" or "test"
    out : folder for the two files; None takes the run folder
    device : "auto", "cpu", "cuda" or "mps"

    Raises
    ------
    UserError : no run, no store, no such split, or the run does not fit the store
    """
    if batch_size < 1 or threads < 1:
        raise UsageError(f"batch size {batch_size}, threads {threads}: expected at least 1 of each")
    opened = find_run(run)
    tested = find_store(opened, store)
    rows = find_rows(tested, split)
    folder = _make_folder(opened.path if out is None else Path(out))
    detector = load_detector(opened, device)
    scored = score_samples(opened, detector, tested, rows, batch_size=batch_size, threads=threads, progress=progress)
    figures = compute_figures(scored, opened, tested, split)
    headline = _choose_scopes(scored)[figures["headline"]]
    worst = pick_worst(headline)
    html = render_report(
        figures,
        make_examples(headline, worst, tested),
        make_examples(headline, pick_examples(headline, leave_out=worst), tested),
    )
    # NaN is no JSON: a score that is not defined must have become None with a reason.
    text = json.dumps(figures, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    report = Report(figures, folder / "report.json", folder / "report.html")
    with whole_file(report.json) as json_file, whole_file(report.html) as html_file:
        json_file.write_text(text, encoding="utf-8", errors="replace")
        html_file.write_text(html, encoding="utf-8", errors="replace")
    return report


def compute_figures(scored: Scored, run: Run, store: FeatureStore, split: str) -> dict:
    """All figures of a report as plain values."""
    scopes = _choose_scopes(scored)
    headline = next(iter(scopes))
    training = find_training_store(run, store)
    simulated = bool(store.attributes.get("simulated"))
    leaked = find_leaked(scored, store, training, split)
    unleaked = _leave_out(scored, leaked, headline)
    figures = {
        "report_version": REPORT_VERSION,
        "program_version": program_version(),
        "simulated": simulated,
        "notice": SIMULATION_NOTICE if simulated else None,
        "summary": [],
        "warnings": _find_warnings(scored, run, store, split, training, leaked),
        "run": {"path": str(run.path), "created": run.created, "settings": run.settings.as_json()},
        "store": {"path": str(store.path), "fingerprint": store.fingerprint, "settings": store.settings.as_json()},
        "split": split,
        "threshold": describe_threshold(scopes[headline]),
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap over pictures with all their variants; near-duplicates together",
            "resamples": RESAMPLES,
            "seed": SEED,
        },
        "headline": headline,
        "scopes": {name: describe(part) for name, part in (scopes | unleaked).items()},
        "sources": {name: describe_sources(part) for name, part in scopes.items()},
        "over_sources": describe_over_sources(scopes[headline]),
        "quality_bands": describe_quality_bands(scored),
        "conditions": describe_conditions(scored) if store.settings.variants == STRESS else [],
        "roc": describe_roc(scopes[headline]),
        "histogram": describe_histogram(scopes[headline]),
        "reliability": describe_reliability(scopes[headline]),
        "coverage": describe_coverage(scopes[headline]),
        "abstention": describe_abstention(scopes[headline]),
        "shortcuts": describe_shortcuts(scopes[headline].first_of_each_picture(), training),
        "audit": training.card["audit"] if training is not None and training.card else None,
        "rows": _list_rows(scored, store),
    }
    figures["summary"] = summarise(figures)
    return figures


def _choose_scopes(scored: Scored) -> dict[str, Scored]:
    """The sets of rows that are scored, the headline's first: the pictures as they are, all variants."""
    clean = scored[scored.is_clean]
    scopes = {"clean": clean} if len(np.unique(clean.labels)) == len(CLASS_NAMES) else {}
    return scopes if len(clean) == len(scored) else {**scopes, "all": scored}


def _leave_out(scored: Scored, leaked: np.ndarray, headline: str) -> dict[str, Scored]:
    """The headline's rows without leaked pictures, where there are leaked ones and both classes are left."""
    kept = scored[~leaked]
    kept = kept[kept.is_clean] if headline == "clean" else kept
    both = len(np.unique(kept.labels)) == len(CLASS_NAMES)
    return {"unleaked": kept} if leaked.any() and both else {}


def _find_warnings(
    scored: Scored, run: Run, store: FeatureStore, split: str, training: FeatureStore | None, leaked: np.ndarray
) -> list[str]:
    warnings = []
    if split == "train":
        warnings.append("these are the pictures that the network was trained on: the scores say how well it remembers")
    if split == "val":
        warnings.append("the best epoch was chosen on the validation split: its scores flatter a little")
    if training is None:
        warnings.append(
            f"the store has changed since {run.path} was trained, or is another: "
            "whether the run was trained on pictures of this split cannot be checked"
        )
    if leaked.any():
        warnings.append(
            f"{len(np.unique(scored.columns['picture'][leaked]))} of {scored.count_pictures()} pictures were in the "
            "run's training or validation split, as themselves or as near-duplicates: the scores flatter; "
            "those without leaked pictures do not"
        )
    return warnings


def _list_rows(scored: Scored, store: FeatureStore) -> list[dict]:
    columns = scored.columns
    return [
        {
            "path": path,
            "sha256": columns["sha256"][number],
            "label": CLASS_NAMES[scored.labels[number]],
            "source": columns["source"][number],
            "picture": int(columns["picture"][number]),
            "group": int(columns["group"][number]),
            "variant": columns["variant"][number],
            "quality": int(scored.seen_quality[number]) if scored.seen_quality[number] >= 0 else None,
            "logits": scored.logits[number].tolist(),
            "probability_fake": float(scored.probability_fake[number]),
            "verdict": scored.calibration.verdict(scored.probability_fake[number]),
        }
        for number, path in enumerate(locate_pictures(scored, store))
    ]


def _make_folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path}: is a file, or below one; --out needs a folder") from error
    return path
