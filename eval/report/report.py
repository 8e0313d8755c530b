"""Report of a run on a split: scores with intervals, as JSON and one HTML page."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from data_cards.core.errors import UsageError
from data_cards.core.files import whole_file
from data_cards.core.labels import TEST
from eval.report.contents import choose_scopes, compute_contents
from eval.report.gallery import build_examples, pick_examples, pick_worst
from eval.report.html import render_report
from eval.scores.rows import find_rows, score_samples
from eval.settings import ReportSettings
from train.run.folder import Run, load_detector
from train.run.locate import find_run, is_starter
from train.run.reported_score import ReportedScore, write_reported_score
from train.run.run_stores import find_store

STARTER_REPORT = "starter-report"  # folder of its report, in the current one


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes
    ----------
    contents : dict, all of the JSON file; `rows` holds each sample's own score
    json, html : Path of the two files
    """

    contents: dict
    json: Path
    html: Path


def make_report(
    run: str | Path | None = None,
    store: str | Path | None = None,
    split: str = TEST,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    **settings: object,
) -> Report:
    """Score a split and write `report.json` and `report.html`; of the test split its AUROC for `train list` too.

    Parameters
    ----------
    run : run folder; None takes the newest one under `runs/`, else the starter run
    store : feature store; None takes the one that the run was trained on
    split : {"train", "val", "test", "held-out"}, "held-out" for the sources that the run left out
    out : folder for the two files; None takes the run folder, where `train list` finds the AUROC (of the starter run
        `starter-report`)
    progress : bool, show bars on stderr
    settings : fields of `ReportSettings`

    Raises
    ------
    UserError : no run, no store, no such split, or the run does not fit the store
    """
    options = ReportSettings(**settings)
    opened = find_run(run)
    tested = find_store(opened, store)
    rows = find_rows(opened, tested, split)
    folder = create_folder(choose_folder(opened, out))
    detector = load_detector(opened, options.device)
    scored = score_samples(
        opened, detector, tested, rows, batch_size=options.batch_size, threads=options.threads, progress=progress
    )
    scopes = choose_scopes(scored)
    contents = compute_contents(opened, detector, tested, split, scored, scopes, options, progress)
    headline = scopes[contents["headline"]]
    worst = pick_worst(headline)
    html = render_report(
        contents,
        build_examples(headline, worst, tested),
        build_examples(headline, pick_examples(headline, leave_out=worst), tested),
    )
    report = write_report(contents, html, folder, "report")
    auroc = contents["scopes"][contents["headline"]]["scores"]["auroc"]
    if (
        split == TEST
        and out is None
        and not is_starter(opened)
        and auroc["value"] is not None
        and auroc["low"] is not None
    ):
        score = ReportedScore(
            created=opened.created,
            condition=contents["headline"],
            auroc=auroc["value"],
            low=auroc["low"],
            high=auroc["high"],
            reported=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_reported_score(opened.path, score)
    return report


def write_report(contents: dict, html: str, folder: Path, name: str) -> Report:
    """Write the two files of a report, both or none."""
    # NaN is not JSON: a score that is not defined must have become None with a reason.
    text = json.dumps(contents, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    report = Report(contents, folder / f"{name}.json", folder / f"{name}.html")
    with whole_file(report.json) as json_file, whole_file(report.html) as html_file:
        json_file.write_text(text, encoding="utf-8", errors="replace")
        html_file.write_text(html, encoding="utf-8", errors="replace")
    return report


def choose_folder(run: Run, out: str | Path | None) -> Path:
    """Choose the folder of a report: as given, or the run's own; not the starter run's, which is the program's."""
    if out is not None:
        return Path(out)
    return Path(STARTER_REPORT) if is_starter(run) else run.path


def create_folder(path: Path) -> Path:
    """Create the folder for a report where it does not exist; return it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{path}: is a file, or below one; --out needs a folder") from error
    return path
