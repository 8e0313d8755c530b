"""Detection study: scores of the recipe on sources, and on families of sources, that were left out of training.

    python benchmarks/detection.py --src photos --pairs photos-pairs --out study

The study compares the recipe with an earlier prototype and with trivial properties of the files. Folds leave out
groups of sources (`detection.toml`); calibration and the limits of "unsure" are fitted on a fold's training pictures,
as in `train run`. `--out` keeps the features, so that an interrupted study resumes. The figures are printed and
written to `results.json`.
"""

import sys
import tomllib
from itertools import product
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file
from detection_pictures import VIEWS, StudySet, read_set
from detection_prototype import fit_prototype
from detection_scores import UNSURE, compare, compare_sources, find_interval, find_lowest, measure_honesty

from data_cards.core.console import Command
from data_cards.core.files import write_json
from data_cards.core.labels import FAKE, REAL
from pipeline.features.variants import CONDITIONS
from train.model.experts import EXPERTS, Experts
from train.model.logistic import fit_logistic, sigmoid
from train.recipe.experts import fit_experts, weigh_sources

RIVALS = ("prototype", "trivial")
RECIPES = ("experts", *RIVALS, *EXPERTS)  # each expert alone too
SAME_QUALITY = 5  # largest difference between the median JPEG qualities of two sources that count as the same quality
JPEG_SHARE = 0.7  # of a source's pictures, from which it counts as JPEG


@click.command(cls=Command)
@click.option("--src", required=True, type=click.Path(path_type=Path), help="Pictures as SPLIT/CLASS/SOURCE/...")
@click.option("--pairs", type=click.Path(path_type=Path), help="Collections with both classes, for a final test.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for features and results.")
@click.option("--settings", default=Path(__file__).with_suffix(".toml"), type=click.Path(path_type=Path))
@click.option("--workers", type=int, default=None, help="Processes that compute features; one a core by default.")
def main(src: Path, pairs: Path | None, out: Path, settings: Path, workers: int | None) -> None:
    """Compute the missing features, evaluate, print the table and write results.json."""
    study = tomllib.loads(settings.read_text(encoding="utf-8"))
    out.mkdir(parents=True, exist_ok=True)
    pictures = read_set(src, out, workers)
    groups = group_sources(pictures, study["groups"])
    results = {}
    with threadpool_limits(1):
        folds = [fold for seed in study["partitions"] for fold in deal_sources(pictures, groups, study["folds"], seed)]
        results["groups left out"] = evaluate_folds(pictures, folds)
        if families := list_families(pictures, study.get("families", {})):
            results["families left out"] = evaluate_folds(pictures, families)
        if pairs:
            results["pairs"] = evaluate_pairs(pictures, read_set(pairs, out, workers), study["pairs_of_same_quality"])
    write_json(out / "results.json", results)
    for scope, figures in results.items():
        click.echo(f"\n{scope}\n{format_table(figures)}")


def group_sources(pictures: StudySet, together: list[list[str]]) -> dict[str, int]:
    """Number the groups of sources; those that share near-duplicates join."""
    names = sorted(set(pictures.source.tolist()))
    groups = {name: number for number, group in enumerate(together) for name in group if name in names}
    groups = {name: groups.get(name, len(together) + place) for place, name in enumerate(names)}
    for number in np.unique(pictures.near_duplicates):
        shared = {groups[name] for name in pictures.source[pictures.near_duplicates == number].tolist()}
        if len(shared) > 1:
            groups = {name: min(shared) if group in shared else group for name, group in groups.items()}
    return groups


def deal_sources(pictures: StudySet, groups: dict[str, int], folds: int, seed: int) -> list[list[str]]:
    """Deal groups to folds with about as many sources of each class: the names that each fold leaves out."""
    label = dict(zip(pictures.source.tolist(), pictures.label.tolist(), strict=True))
    rng = np.random.default_rng(seed)
    numbers = sorted(set(groups.values()))
    rng.shuffle(numbers)
    members = {number: [name for name in sorted(groups) if groups[name] == number] for number in numbers}
    size = {
        number: np.array([sum(label[name] == one for name in names) for one in (0, 1)])
        for number, names in members.items()
    }
    load, left_out = np.zeros((folds, 2)), [[] for _ in range(folds)]
    for number in sorted(numbers, key=lambda one: -size[one].sum()):
        growth = [((one + size[number]) ** 2).sum() - (one**2).sum() + rng.random() * 0.5 for one in load]
        chosen = int(np.argmin(growth))
        load[chosen] += size[number]
        left_out[chosen] += members[number]
    return left_out


def list_families(pictures: StudySet, families: dict[str, list[list[str]]]) -> list[list[str]]:
    """List what each fold leaves out: every family of generators with every one of collections."""
    by_class = []
    for label, word in ((1, "fake"), (0, "real")):
        names = set(pictures.source[pictures.label == label].tolist())
        named = [sorted(names.intersection(family)) for family in families.get(word, [])]
        by_class.append([one for one in (*named, sorted(names.difference(*named))) if one])
    return [fake + real for fake, real in product(*by_class)] if all(len(one) > 1 for one in by_class) else []


def evaluate_folds(pictures: StudySet, folds: list[list[str]]) -> dict:
    """Train without each fold's sources, score them, and sum up by condition."""
    scores = {recipe: {condition: [] for condition in CONDITIONS} for recipe in RECIPES}
    words = {condition: [] for condition in CONDITIONS}
    for left_out in folds:
        held = np.isin(pictures.source, left_out)
        score, experts = _train(pictures, np.flatnonzero(~held))
        rows = np.flatnonzero(held)
        for condition in CONDITIONS:
            for recipe, values in score(pictures, rows, condition).items():
                scores[recipe][condition].append((rows, values))
            words[condition].append((rows, *_predict(experts, pictures, rows, condition)))
    return {condition: _sum_up(pictures, scores, words[condition], condition) for condition in CONDITIONS}


def evaluate_pairs(pictures: StudySet, pairs: StudySet, same_quality: list[str]) -> dict:
    """Train on all pictures and score collections with both classes."""
    score, experts = _train(pictures, np.arange(len(pictures.label)))
    names = sorted(set(pairs.source.tolist()))
    same_quality = np.isin(names, same_quality)
    members = [pairs.source == name for name in names]
    fake, figures = pairs.label == 1, {}
    for condition in CONDITIONS:
        rows = np.arange(len(pairs.label))
        found = {
            recipe: np.array([compare(values[fake & one], values[~fake & one]) for one in members])
            for recipe, values in score(pairs, rows, condition).items()
        }
        figures[condition] = _describe(found, same_quality)
        lowest = int(found["experts"].argmin())
        figures[condition]["experts"]["lowest"] = [names[lowest], float(found["experts"][lowest])]
        predicted = _predict(experts, pairs, rows, condition)
        figures[condition]["experts"] |= measure_honesty(*predicted, pairs.label, pairs.source)
    return figures


def _train(pictures: StudySet, rows: np.ndarray):
    """Train all recipes; return a function that scores rows by recipe, and the experts."""
    label, source, group = pictures.label[rows], pictures.source[rows], pictures.near_duplicates[rows]

    def stack(views, name):
        return np.concatenate([pictures.features[view][name][rows] for view in views])

    count, views = len(CONDITIONS), len(VIEWS)
    experts = fit_experts(
        stack(VIEWS, "profile"),
        np.tile(label, views),
        np.tile(source, views),
        np.repeat(VIEWS, len(rows)),
        np.tile(group, views),
    ).experts
    labels, weights = np.tile(label, count), np.tile(weigh_sources(label, source), count)
    prototype = fit_prototype(lambda name: stack(CONDITIONS, name), labels, weights)
    trivial = fit_logistic(pictures.facts[rows], label, weigh_sources(label, source), penalty=0.1)

    def score(of: StudySet, some: np.ndarray, condition: str) -> dict[str, np.ndarray]:
        features = of.features[condition]
        return {
            "experts": experts.compute_log_odds(features["profile"][some]),
            "prototype": prototype(lambda name: features[name][some]),
            "trivial": trivial.compute_log_odds(of.facts[some]),
            **experts.compute_parts(features["profile"][some]),
        }

    return score, experts


def _predict(experts: Experts, pictures: StudySet, rows: np.ndarray, condition: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of "fake" (N,) and the words (N,): 0 real, 1 fake, -1 unsure."""
    profiles = pictures.features[condition]["profile"][rows]
    probability = sigmoid(experts.compute_log_odds(profiles))
    word = np.where(probability >= experts.high, FAKE, np.where(probability <= experts.low, REAL, UNSURE))
    return probability, np.where(experts.find_unlike(profiles) > 0, UNSURE, word)


def _sum_up(pictures: StudySet, scores: dict, words: list, condition: str) -> dict:
    found = {}
    for recipe in RECIPES:
        found[recipe], fakes, reals = compare_sources(scores[recipe][condition], pictures.label, pictures.source)
    quality = {name: _find_quality(pictures.quality[pictures.source == name]) for name in fakes + reals}
    same_quality = np.array([[abs(quality[fake] - quality[real]) <= SAME_QUALITY for real in reals] for fake in fakes])
    figures = _describe(found, same_quality)
    rows, probability, word = (np.concatenate(parts) for parts in zip(*words, strict=True))
    figures["experts"]["lowest"] = list(find_lowest(found["experts"], fakes, reals))
    figures["experts"] |= measure_honesty(probability, word, pictures.label[rows], pictures.source[rows])
    return figures


def _find_quality(quality: np.ndarray) -> float:
    """Return the median JPEG quality of a source's pictures; NaN where too few are JPEG."""
    return float(np.median(quality[quality >= 0])) if (quality >= 0).mean() > JPEG_SHARE else float("nan")


def _describe(found: dict[str, np.ndarray], same_quality: np.ndarray) -> dict:
    """Describe the AUROC of each recipe, by pairs of sources or by collections."""
    figures = {}
    for recipe, values in found.items():
        those = values[same_quality & np.isfinite(values)]
        figures[recipe] = {
            "auroc": float(np.nanmean(values)),
            "interval": find_interval(values),
            "same_quality": float(those.mean()) if len(those) else None,
        }
        if recipe != "experts":
            difference = found["experts"] - values
            figures[recipe]["experts_less_it"] = [float(np.nanmean(difference)), *find_interval(difference)]
    return figures


def format_table(figures: dict) -> str:
    """Format one scope's figures by condition, as text."""
    table = []
    for condition, recipes in figures.items():
        experts = recipes["experts"]
        row = [condition]
        for recipe in RECIPES:
            low, high = recipes[recipe]["interval"]
            row += [
                f"{recipes[recipe]['auroc']:.3f} ({low:.2f} to {high:.2f})",
                _round(recipes[recipe]["same_quality"]),
            ]
        for recipe in RIVALS:
            row.append("{:+.3f} ({:+.2f} to {:+.2f})".format(*recipes[recipe]["experts_less_it"]))
        row.append("{} {:.2f}".format(*experts["lowest"]))
        row += [
            _round(experts[name]) for name in ("calibration_error", "sure", "wrong_of_sure", "wrong_of_surest_quarter")
        ]
        table.append(row)
    headers = ["", *(word for recipe in RECIPES for word in (recipe, f"{recipe}, same quality"))]
    headers += ["less prototype", "less trivial", "lowest", "calibration error", "sure", "wrong of sure"]
    headers += ["wrong of surest quarter"]
    conditions, *rows = zip(headers, *table, strict=True)  # on its side: there are more figures than conditions
    return tabulate(rows, conditions, disable_numparse=True)


def _round(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
