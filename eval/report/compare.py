"""Comparison of runs, pairwise, on the same pictures, none of which any of them was trained on.

Whether a difference is real is read from its own interval, with both runs scored on the same resampled pictures:
overlapping intervals of the single runs do not answer that. With several pairs the intervals are wider (Bonferroni),
so that all of them together hold with the probability `LEVEL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from data_cards.core.errors import UsageError
from data_cards.core.labels import CLASS_NAMES, TEST
from data_cards.core.seeding import FIXED_SEED
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.report.contents import REPORT_VERSION
from eval.report.files import Report, choose_folder, create_folder, write_report
from eval.report.html import render_comparison
from eval.report.summary import summarise_comparison
from eval.scores.bootstrap import LEVEL, RESAMPLES, estimate_differences
from eval.scores.breakdown import compute_evaluation
from eval.scores.common_pictures import CommonRows, find_common_rows
from eval.scores.file_baseline import compute_file_baseline
from eval.scores.jpeg_swap import compute_jpeg_swap
from eval.scores.metrics import METRICS
from eval.scores.reliability import compute_thresholds
from eval.scores.rows import Scored, locate_pictures, score_samples
from eval.settings import ReportSettings
from pipeline.features.versions import get_program_version
from pipeline.store.reader import FeatureStore
from train.run.folder import Run, load_detector
from train.run.locate import find_run, name_run
from train.run.run_stores import find_store, is_own_store


@dataclass(frozen=True)
class Side:
    """One of the compared runs, scored on the common pictures in their order."""

    name: str
    run: Run
    store: FeatureStore
    training: FeatureStore | None
    scored: Scored
    swap: dict


def compare_runs(
    runs: Sequence[str | Path],
    store: str | Path | None = None,
    split: str = TEST,
    out: str | Path | None = None,
    *,
    progress: bool = True,
    **settings: object,
) -> Report:
    """Compare runs on a split's pictures and write `comparison.json` and `comparison.html`.

    Parameters
    ----------
    runs : sequence of run folders, at least two
    store : feature store for all of them; None takes each one's own, and the pictures that all of these hold
    split : {"test", "val"}
    out : folder for the two files; None takes the first run's
    progress : bool, show bars on stderr
    settings : fields of `ReportSettings`, `explain_pictures` excepted

    Raises
    ------
    UserError : no such run or store, or no pictures that all runs can fairly be scored on
    """
    if len(runs) < 2:
        raise UsageError("one run: expected at least two to compare")
    options = ReportSettings(**settings)
    if options.explain_pictures is not None:
        raise UsageError("--explain-pictures: what decides is measured for one run at a time; leave it out")
    opened = [find_run(run) for run in runs]
    names = _name_runs([run.path for run in opened])
    stores = [find_store(run, store) for run in opened]
    common = find_common_rows(opened, names, stores, split)
    folder = create_folder(choose_folder(opened[0], out))
    sides = []
    for name, run, tested, rows, training in zip(names, opened, stores, common.rows, common.training, strict=True):
        detector = load_detector(run, options.device)
        scored = score_samples(
            run, detector, tested, rows, batch_size=options.batch_size, threads=options.threads, progress=progress
        )
        swap = compute_jpeg_swap(scored, tested, detector, options.swap_pictures, progress)
        sides.append(Side(name, run, tested, training, scored, swap))
    comparison = compute_comparison(sides, common, split)
    own = store is None or all(is_own_store(run, stores[0]) for run in opened)
    other_store = None if own else stores[0].path
    return write_report(comparison, render_comparison(comparison), folder, "comparison", split, other_store)


def compute_comparison(sides: Sequence[Side], common: CommonRows, split: str) -> dict:
    """Compute all of `comparison.json`, as JSON values."""
    first = sides[0].scored
    pairs = list(combinations(sides, 2))
    level = 1 - (1 - LEVEL) / len(pairs)
    simulated = any(side.store.is_simulated for side in sides)
    comparison = {
        "report_version": REPORT_VERSION,
        "program_version": get_program_version(),
        "simulated": simulated,
        "notice": SIMULATION_NOTICE if simulated else None,
        "summary": [],
        "warnings": common.warnings,
        "split": split,
        "pictures": len(first),
        "samples_by_class": first.count_by_class(),
        "left_out": {"not_in_all_stores": common.not_in_all, "trained_on": common.leaked},
        "unchecked": [side.name for side in sides if side.training is None],
        "intervals": {"level": LEVEL, "level_of_differences": level, "resamples": RESAMPLES, "seed": FIXED_SEED},
        "runs": [
            {
                "name": side.name,
                "path": name_run(side.run),
                "created": side.run.created,
                "settings": side.run.settings.to_dict(),
                "store": {
                    "path": str(side.store.path),
                    "fingerprint": side.store.fingerprint,
                    "settings": side.store.settings.to_dict(),
                },
                "threshold": compute_thresholds(side.scored),
                **compute_evaluation(side.scored),
                "shortcuts": compute_file_baseline(side.run, side.scored, side.training),
                "swap": side.swap,
            }
            for side in sides
        ],
        "differences": [_compare(one, other, level) for one, other in pairs],
        "rows": _list_rows(sides),
    }
    comparison["summary"] = summarise_comparison(comparison)
    return comparison


def _compare(one: Side, other: Side, level: float) -> dict:
    estimates = estimate_differences(
        METRICS,
        one.scored.labels,
        one.scored.probability_fake,
        other.scored.probability_fake,
        one.scored.groups,
        (one.scored.threshold, other.scored.threshold),
        level,
    )
    scores = {}
    for name, estimate in estimates.items():
        known = estimate.low is not None
        # An interval of no width is no evidence: all resamples were alike.
        real = known and estimate.low < estimate.high and (estimate.low > 0 or estimate.high < 0)
        scores[name] = {**estimate.to_dict(), "real": real}
    return {"first": one.name, "second": other.name, "scores": scores}


def _list_rows(sides: Sequence[Side]) -> list[dict]:
    first = sides[0]
    columns = first.scored.columns
    listed = {side.name: side.scored.list_scores() for side in sides}
    return [
        {
            "path": path,
            "sha256": columns["sha256"][number],
            "label": CLASS_NAMES[first.scored.labels[number]],
            "source": columns["source"][number],
            "group": int(columns["group"][number]),
            "runs": {name: scores[number] for name, scores in listed.items()},
        }
        for number, path in enumerate(locate_pictures(first.scored, first.store))
    ]


def _name_runs(paths: Sequence[Path]) -> list[str]:
    """Name runs by their folders, or by their whole paths where two folders have the same name."""
    twice = [path for number, path in enumerate(paths) if path.resolve() in [one.resolve() for one in paths[:number]]]
    if twice:
        raise UsageError(f"{twice[0]}: named twice; a run has no difference to itself")
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
