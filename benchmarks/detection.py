"""Detection study: how well each recipe detects generated pictures of sources that it never saw.

    python benchmarks/detection.py --src photos --out study
    python benchmarks/detection.py --src photos --out study --only default --seeds 1
    python benchmarks/detection.py --src photos --out pairs --settings benchmarks/detection_pairs.toml

Recipes x folds x seeds from `detection.toml`: each fold leaves out one generator and one photo
collection, trains on all others and scores the two: unchanged, both saved as the same JPEG, and after
the web's chain. Every run appends a line to `runs.jsonl`; started again, the study resumes with the
missing runs. `python benchmarks/detection_table.py study` writes the table and the plot.
`detection_pairs.toml` has every pair of a generator and a collection for its folds.
"""

import hashlib
import json
import shutil
import sys
import tempfile
import time
import tomllib
from itertools import product
from pathlib import Path

import click
import numpy as np
from detection_classical import score_classical
from detection_ideas import VARIANTS, replaced_planes

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file
from data_cards.selection.subset import Selection
from eval.scores.metrics import compute_scores
from pipeline.builder.build import build_store
from pipeline.datasets.subset import write_subset
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CONDITIONS
from pipeline.store.reader import FeatureStore, open_store
from pipeline.store.settings import BuildSettings
from train.loop.trainer import train
from train.model.calibration import Calibration
from train.model.inference import compute_logits
from train.run.folder import load_detector, open_run
from train.run.weights_file import BEST
from train.settings import TrainSettings

CLASSES = ("fake", "real")  # order of a fold's sources


@click.command()
@click.option("--src", required=True, type=click.Path(path_type=Path), help="Pictures as SPLIT/CLASS/SOURCE/...")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Stores and results.")
@click.option("--settings", default=Path(__file__).with_suffix(".toml"), type=click.Path(path_type=Path))
@click.option("--only", multiple=True, help="These recipes alone.")
@click.option("--seeds", type=int, default=None, help="Number of seeds.")
@click.option("--folds", type=int, default=None, help="Number of folds.")
def main(src: Path, out: Path, settings: Path, only: tuple[str, ...], seeds: int | None, folds: int | None) -> None:
    """Run the missing runs of the study."""
    study = read_study(settings)
    out.mkdir(parents=True, exist_ok=True)
    done = {(one["recipe"], one["key"], one["fold"], one["seed"]) for one in read_runs(out)}
    # Seed by seed: after the first there is something of every recipe.
    for seed in study["seeds"][:seeds]:
        for recipe in study["recipe"]:
            if only and recipe["name"] not in only:
                continue
            for fold, held_out in enumerate(list_folds(study, src)[:folds]):
                key = hashlib.sha256(json.dumps([recipe, held_out], sort_keys=True).encode()).hexdigest()[:12]
                if (recipe["name"], key, fold, seed) in done or ("classical" in recipe and seed != study["seeds"][0]):
                    continue
                store, conditions = _open_stores(src, out, recipe)
                run = {"recipe": recipe["name"], "key": key, "fold": fold, "held_out": held_out, "seed": seed}
                run |= _run(recipe, store, conditions, held_out, seed)
                with open(out / "runs.jsonl", "a", encoding="utf-8") as lines:
                    lines.write(json.dumps(run) + "\n")
                scores = "  ".join(f"{name} {value:.3f}" for name, value in run["auroc"].items())
                click.echo(f"{recipe['name']}, without {' and '.join(held_out)}, seed {seed}: {scores}", err=True)


def read_runs(out: Path) -> list[dict]:
    """Read the runs of a study so far."""
    file = out / "runs.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def read_study(settings: Path) -> dict:
    """Read folds, seeds and recipes of a file, each recipe with the values inherited from its `like`."""
    study = tomllib.loads(settings.read_text(encoding="utf-8"))
    recipes = {}
    for recipe in study["recipe"]:
        base = recipes[recipe["like"]] if "like" in recipe else {}
        merged = {part: base.get(part, {}) | recipe.get(part, {}) for part in ("build", "train")}
        recipes[recipe["name"]] = {**recipe, **merged}
    return {**study, "recipe": list(recipes.values())}


def list_folds(study: dict, src: Path) -> list[list[str]]:
    """List the sources that each fold holds out: those of the settings, or every pair of a fake and a real source."""
    if study["folds"] != "pairs":
        return study["folds"]
    fakes, reals = ([folder.name for folder in _list_sources(src) if folder.parent.name == of] for of in CLASSES)
    return [list(pair) for pair in product(fakes, reals)]


def _list_sources(src: Path) -> list[Path]:
    return sorted((one for one in src.glob("*/*/*") if one.is_dir()), key=lambda one: one.name)


def _format_sources(src: Path) -> list[str]:
    """Return the `--src` values that put all sources into training."""
    return [f"train/{folder.parent.name}={folder}" for folder in _list_sources(src)]


def _open_stores(src: Path, out: Path, recipe: dict) -> tuple[FeatureStore, FeatureStore]:
    """Open the store to train on, and one with the conditions of all pictures; built once for equal settings.

    A recipe may train on some of the pictures: a number of each source, or those left after balancing properties.
    """
    build, idea = recipe["build"], recipe.get("residual") or recipe.get("planes")
    features = FeatureSettings(**{name: value for name, value in build.items() if name != "variants"})
    fewer = recipe.get("pictures") or recipe.get("balanced")
    stores = []
    for asked, limit in ((build.get("variants"), fewer), ("conditions", None)):
        settings = BuildSettings(features, variants=asked)
        one = settings.variants
        facts = [settings.to_dict(), limit, *([idea] if idea else [])]
        name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        path = out / f"{one.replace(' ', '-')}-{name}.zarr"
        if not path.exists():
            here = idea or one in VARIANTS
            with replaced_planes(idea):
                build_store(
                    _format_sources(_select_pictures(src, out, limit)),
                    str(path),
                    settings,
                    workers=0 if here else None,
                    allow_leakage=True,  # the folds decide which sources are held out
                )
        stores.append(open_store(path))
    return stores[0], stores[1]


def _select_pictures(src: Path, out: Path, limit: int | str | None) -> Path:
    """Return the set itself, or a folder with `limit` pictures of each source, or with those left after balancing."""
    if isinstance(limit, str):
        to = out / f"pictures-balanced-{limit.replace(',', '-')}"
        if not to.exists():
            write_subset(_format_sources(src), to, Selection(balance=tuple(limit.split(","))))
        return to
    return src if limit is None else _copy_pictures(src, out / f"pictures-{limit}", limit)


def _copy_pictures(src: Path, to: Path, count: int) -> Path:
    """Copy `count` pictures of each source, evenly spaced by name; return their folder."""
    shutil.rmtree(to, ignore_errors=True)
    for folder in _list_sources(src):
        files = sorted(one for one in folder.rglob("*") if one.is_file())
        target = to / folder.relative_to(src)
        target.mkdir(parents=True)
        for number in np.unique(np.arange(count) * len(files) // count):
            shutil.copy(files[number], target)
    return to


def _run(recipe: dict, store: FeatureStore, conditions: FeatureStore, held_out: list[str], seed: int) -> dict:
    """Train without the held-out sources and score them."""
    began = time.monotonic()
    columns = conditions.columns
    rows = {
        name: np.flatnonzero((columns["variant"] == name) & np.isin(columns["source"], held_out)) for name in CONDITIONS
    }
    labels = columns["label"][rows["clean"]].astype(int)
    if "classical" in recipe:
        scores = score_classical(recipe["classical"], store, conditions, rows, held_out)
        calibration = Calibration()
    else:
        logits, calibration = _train(recipe, store, conditions, rows, held_out, seed)
        scores = {name: calibration.probability(values) for name, values in logits.items()}
    spent = time.monotonic() - began
    found = {name: compute_scores(labels, values, 0.5) for name, values in scores.items()}
    return {
        "auroc": {name: float(one["auroc"]) for name, one in found.items()},
        "calibration_error": {name: float(one["calibration_error"]) for name, one in found.items()},
        "temperature": calibration.temperature,
        "seconds": spent,
        "bytes_a_sample": _count_bytes(store) / len(store),
        "labels": labels.tolist(),
        "scores": {name: np.round(values, 6).tolist() for name, values in scores.items()},
    }


def _train(
    recipe: dict, store: FeatureStore, conditions: FeatureStore, rows: dict, held_out: list[str], seed: int
) -> tuple[dict[str, np.ndarray], Calibration]:
    with tempfile.TemporaryDirectory() as folder:
        # Balancing may have left nothing of a source.
        unseen = (*_list_present(store, held_out), *_draw_unused(store, held_out, seed, recipe.get("sources")))
        of_fold = {"store": store.path, "run": f"{folder}/run", "seed": seed, "hold_out": unseen}
        if recipe.get("validate_on_others"):
            of_fold["validate_on"] = _choose_others(store, held_out, seed)
        made = train(TrainSettings(**{**recipe["train"], **of_fold}))
        detector = load_detector(open_run(made.run), which=recipe.get("weights", BEST)).plane_detector
        logits = {name: compute_logits(detector, conditions, rows[name], progress=False) for name in CONDITIONS}
        return logits, detector.calibration


def _list_present(store: FeatureStore, names: list[str]) -> list[str]:
    return [name for name in names if name in set(store.columns["source"])]


def _choose_others(store: FeatureStore, held_out: list[str], seed: int) -> tuple[str, ...]:
    """Choose one source of each class that is not held out, by the seed."""
    return tuple(there[seed % len(there)] for there in _list_others(store, held_out))


def _draw_unused(store: FeatureStore, held_out: list[str], seed: int, sources: int | None) -> tuple[str, ...]:
    """Draw further sources to leave out, so that `sources` of each class are trained on; None for all."""
    if sources is None:
        return ()
    rng = np.random.default_rng(seed)
    return tuple(name for there in _list_others(store, held_out) for name in rng.permutation(there)[sources:].tolist())


def _list_others(store: FeatureStore, held_out: list[str]) -> list[list[str]]:
    """List the sources of each class, real and fake, that are not held out."""
    return [sorted(set(store.columns["source"][store.columns["label"] == label]) - set(held_out)) for label in (0, 1)]


def _count_bytes(store: FeatureStore) -> int:
    return sum(path.stat().st_size for path in Path(store.path, "features").rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
