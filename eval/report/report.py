"""Report of a run on a split: scores with intervals, as JSON and one HTML page."""

from datetime import UTC, datetime
from pathlib import Path

from data_cards.core.labels import TEST
from data_cards.core.value_types import converts_arguments
from eval.report.contents import choose_scopes, compute_contents
from eval.report.files import Report, choose_folder, create_folder, write_report
from eval.report.gallery import build_examples, pick_examples, pick_worst
from eval.report.html import render_report
from eval.scores.rows import find_rows, score_samples
from eval.settings import ReportSettings
from pipeline.store.reader import FeatureStore
from train.run.folder import Run, load_detector
from train.run.locate import find_run, is_starter
from train.run.reported_score import ReportedScore, write_reported_score
from train.run.run_stores import find_store, find_training_store, is_own_store


@converts_arguments
def make_report(
    run: str | Path | None = None,
    store: str | Path | None = None,
    split: str = TEST,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    **settings: object,
) -> Report:
    """Score a split and write `report.json` and `report.html`; on other pictures than the run's test split, under
    another name.

    For `train list`, the AUROC on the run's own test split is also written.

    Parameters
    ----------
    run : run folder; None chooses the newest one under `runs/`, else the starter run
    store : feature store; None chooses the one that the run was trained on
    split : {"train", "val", "test", "held-out"}, "held-out" for the sources that the run left out
    out : folder for the two files; None chooses the run folder, where `train list` finds the AUROC (for the starter
        run `starter-report`)
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
    other_store = None if store is None or is_own_store(opened, tested) else tested.path
    report = write_report(contents, html, folder, "report", split, other_store)
    if split == TEST and out is None and not is_starter(opened) and _is_run_tested_on(opened, tested, other_store):
        _write_test_score(opened, contents)
    return report


def _is_run_tested_on(run: Run, store: FeatureStore, other_store: str | None) -> bool:
    """Return whether these are the run's own test pictures: of its own store, or of another one if that has none."""
    if other_store is None:
        return True
    training = find_training_store(run, store)
    return training is not None and not len(training.rows(TEST))


def _write_test_score(run: Run, contents: dict) -> None:
    auroc = contents["scopes"][contents["headline"]]["scores"]["auroc"]
    if auroc["low"] is None:
        return
    score = ReportedScore(
        created=run.created,
        condition=contents["headline"],
        auroc=auroc["value"],
        low=auroc["low"],
        high=auroc["high"],
        reported=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_reported_score(run.path, score)
