"""Comparison of runs, or of groups of runs with different seeds, on pictures that none of them was trained on.

Whether a difference is clear is decided by its own interval, for which both sides are scored on the same resampled
pictures; the overlap of the runs' intervals does not show it. With groups of several runs, the interval includes the
luck of training (`eval.scores.training_luck`). With several pairs, the intervals are wider (Bonferroni), so that all of
them together hold with the probability `LEVEL`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from data_cards.core.errors import UsageError
from data_cards.core.labels import CLASS_NAMES, TEST
from data_cards.core.seeding import FIXED_SEED
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.report.contents import REPORT_VERSION
from eval.report.files import Report, choose_folder, create_folder, write_report
from eval.report.html import render_comparison
from eval.report.run_groups import RunGroup, find_mixed_options, list_differing_options, open_groups
from eval.report.summary import summarise_comparison
from eval.scores.bootstrap import LEVEL, RESAMPLES
from eval.scores.breakdown import compute_evaluation
from eval.scores.common_pictures import CommonRows, find_common_rows
from eval.scores.file_baseline import compute_file_baseline
from eval.scores.jpeg_swap import compute_jpeg_swap
from eval.scores.reliability import compute_thresholds
from eval.scores.rows import Scored, locate_pictures, score_samples
from eval.scores.training_luck import RunScores, estimate_group, estimate_group_differences, score_run
from eval.settings import ReportSettings
from pipeline.features.versions import get_program_version
from pipeline.store.reader import FeatureStore
from train.run.folder import Run, load_detector
from train.run.locate import format_unfinished, name_run
from train.run.run_stores import find_store, is_own_store


@dataclass(frozen=True)
class Side:
    """One run, scored on the common pictures in their order."""

    name: str
    run: Run
    store: FeatureStore
    training: FeatureStore | None
    scored: Scored
    swap: dict


@converts_arguments
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
    runs : sequence of run folders, or of texts NAME=FOLDER; runs of one name, trained with different seeds, are one
        side; at least two sides
    store : feature store for all of them; None chooses each run's own, and the pictures that are in all of these
    split : {"test", "val", "held-out"}, "held-out" for the sources that the runs left out
    out : folder for the two files; None chooses the first run's
    progress : bool, show bars on stderr
    settings : fields of `ReportSettings`, `explain_pictures` excepted

    Raises
    ------
    UserError : no such run or store, or no pictures that all runs can fairly be scored on
    """
    options = ReportSettings(**settings)
    if options.explain_pictures is not None:
        raise UsageError("--explain-pictures: a comparison does not measure what decides; leave it out")
    groups = open_groups(runs)
    opened = [run for group in groups for run in group.runs]
    names = [name for group in groups for name in group.run_names]
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
    comparison = compute_comparison(groups, sides, common, split)
    own = store is None or all(is_own_store(run, stores[0]) for run in opened)
    other_store = None if own else stores[0].path
    return write_report(comparison, render_comparison(comparison), folder, "comparison", split, other_store)


def compute_comparison(groups: Sequence[RunGroup], sides: Sequence[Side], common: CommonRows, split: str) -> dict:
    """Compute all of `comparison.json`, as JSON values; `sides` are the groups' runs, in order."""
    first = sides[0].scored
    scores = {side.name: score_run(side.scored) for side in sides}
    runs = {side.name: _compute_run(side) for side in sides}
    pairs = list(combinations(groups, 2))
    level = 1 - (1 - LEVEL) / len(pairs)
    simulated = any(side.store.is_simulated for side in sides)
    comparison = {
        "report_version": REPORT_VERSION,
        "program_version": get_program_version(),
        "simulated": simulated,
        "notice": SIMULATION_NOTICE if simulated else None,
        "summary": [],
        "warnings": [
            *filter(None, (format_unfinished(side.run) for side in sides)),
            *common.warnings,
            *_find_mixed_groups(groups),
        ],
        "split": split,
        "pictures": len(first),
        "samples_by_class": first.count_by_class(),
        "left_out": {"not_in_all_stores": common.not_in_all, "trained_on": common.leaked},
        "unchecked": [side.name for side in sides if side.training is None],
        "intervals": {"level": LEVEL, "level_of_differences": level, "resamples": RESAMPLES, "seed": FIXED_SEED},
        "runs": list(runs.values()),
        "groups": [_compute_group(group, runs, scores, first.groups) for group in groups],
        "differing_options": list_differing_options(groups),
        "differences": [
            _compare(one, other, scores, first.groups, level)
            | {"equal_scores": _have_equal_scores(sides, one.run_names + other.run_names)}
            for one, other in pairs
        ],
        "rows": _list_rows(sides),
    }
    comparison["summary"] = summarise_comparison(comparison)
    return comparison


def _find_mixed_groups(groups: Sequence[RunGroup]) -> list[str]:
    mixed = {group.name: find_mixed_options(group) for group in groups}
    return [
        f"{name}: its runs differ in {', '.join(options)} too; its interval includes that, and not only the seeds"
        for name, options in mixed.items()
        if options
    ]


def _compute_run(side: Side) -> dict:
    return {
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


def _compute_group(group: RunGroup, runs: dict[str, dict], scores: dict[str, RunScores], numbers: np.ndarray) -> dict:
    if len(group.runs) == 1:
        estimates = runs[group.run_names[0]]["scores"]
    else:
        found = estimate_group([scores[name] for name in group.run_names], numbers)
        estimates = {name: estimate.to_dict() for name, estimate in found.items()}
    return {
        "name": group.name,
        "runs": list(group.run_names),
        "scores": estimates,
    }


def _holds_training(group: RunGroup) -> bool:
    """Return whether intervals include the luck of training; with other seeds, experts keep the order of pictures."""
    return len(group.runs) > 1 or not group.runs[0].settings.has_network


def _have_equal_scores(sides: Sequence[Side], names: Sequence[str]) -> bool:
    """Return whether the named runs give every picture the same score, as with a network of weight 0."""
    first, *others = (side.scored.probability_fake for side in sides if side.name in names)
    return all(np.array_equal(first, other) for other in others)


def _compare(
    first: RunGroup, second: RunGroup, scores: dict[str, RunScores], numbers: np.ndarray, level: float
) -> dict:
    sides = [[scores[name] for name in group.run_names] for group in (first, second)]
    compared = {}
    for name, estimate in estimate_group_differences(*sides, numbers, level).items():
        known = estimate.low is not None
        # An interval of no width is no evidence: all resamples gave the same value.
        real = known and estimate.low < estimate.high and (estimate.low > 0 or estimate.high < 0)
        compared[name] = {**estimate.to_dict(), "real": real}
    holds = _holds_training(first) and _holds_training(second)
    differing = [row["option"] for row in list_differing_options((first, second))]
    return {
        "first": first.name,
        "second": second.name,
        "runs": [len(first.runs), len(second.runs)],
        "holds_training": holds,
        "order_alone": holds and 1 in (len(first.runs), len(second.runs)),
        "differ_in": differing,
        "scores": compared,
    }


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
