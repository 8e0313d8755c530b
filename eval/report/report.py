"""The report of a run on a split: scores with intervals, as figures, JSON and one HTML page."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from data_cards.core.errors import UsageError
from data_cards.core.files import whole_file
from eval.defaults import EXPLAIN_PICTURES, REPORT_BATCH_SIZE, SWAP_PICTURES, THREADS
from eval.report.contents import choose_scopes, compute_figures
from eval.report.gallery import make_examples, pick_examples, pick_worst
from eval.report.html import render_report
from eval.scores.rows import find_rows, score_samples
from train.run.folder import load_detector
from train.run.locate import find_run, find_store
from train.run.reported_score import ReportedScore, write_reported_score


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
    batch_size: int = REPORT_BATCH_SIZE,
    threads: int = THREADS,
    swap_pictures: int = SWAP_PICTURES,
    explain_pictures: int = EXPLAIN_PICTURES,
    progress: bool = True,
) -> Report:
    """Score a split and write `report.json` and `report.html`; of the test split its AUROC for `train list` too.

    Parameters
    ----------
    run : run folder; None takes the newest one under `runs/`
    store : feature store; None takes the one that the run was trained on
    split : "train", "val", "test", or "held-out" for the sources that the run left out
    out : folder for the two files; None takes the run folder, where `train list` finds the AUROC
    device : "auto", "cpu", "cuda" or "mps"
    swap_pictures : at most so many are saved alike for the JPEG-swap test; 0 leaves it out
    explain_pictures : on at most so many it is measured which frequencies decided; 0 leaves it out

    Raises
    ------
    UserError : no run, no store, no such split, or the run does not fit the store
    """
    if batch_size < 1 or threads < 1:
        raise UsageError(f"batch size {batch_size}, threads {threads}: expected at least 1 of each")
    if swap_pictures < 0 or explain_pictures < 0:
        raise UsageError(
            f"swap pictures {swap_pictures}, explain pictures {explain_pictures}: expected 0 or more of each"
        )
    opened = find_run(run)
    tested = find_store(opened, store)
    rows = find_rows(opened, tested, split)
    folder = make_folder(opened.path if out is None else Path(out))
    detector = load_detector(opened, device)
    scored = score_samples(opened, detector, tested, rows, batch_size=batch_size, threads=threads, progress=progress)
    scopes = choose_scopes(scored)
    figures = compute_figures(
        opened,
        detector,
        tested,
        split,
        scored,
        scopes,
        swap_pictures=swap_pictures,
        explain_pictures=explain_pictures,
        progress=progress,
    )
    headline = scopes[figures["headline"]]
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
    auroc = figures["scopes"][figures["headline"]]["scores"]["auroc"]
    if split == "test" and out is None and auroc["value"] is not None and auroc["low"] is not None:
        score = ReportedScore(
            created=opened.created,
            condition=figures["headline"],
            auroc=auroc["value"],
            low=auroc["low"],
            high=auroc["high"],
            reported=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_reported_score(opened.path, score)
    return report


def make_folder(path: Path) -> Path:
    """The folder for a report, made where it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path}: is a file, or below one; --out needs a folder") from error
    return path
