"""Detection by networks on coarse levels beside fine ones, on sources that they were not trained on.

    python benchmarks/levels.py --src photos --pairs photos-pairs --out study

Both stores are of the same pictures, and hold each as it is. The sources are dealt to folds. For each fold and seed
the same network is trained on either store without the fold's sources, in the same order and from the same weights,
and scores these sources, the test pictures and the pairs. Three rows for each scope:

- fine, coarse: mean AUROC over pairs of a generator and a collection; of `--pairs`, over collections with both classes
- rounded: the network that was trained on fine levels, on coarse ones

and the differences from fine, with 95 % intervals over sources and random starts (`--seeds`). With several seeds, also
fine of one seed less fine of another, which shows how much another random start changes. Stores and runs that are in
the folder are used again.
"""

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file
from detection_scores import compare, compare_sources, find_interval

from data_cards.core.console import Command
from pipeline.builder.build import build_store
from pipeline.features.settings import COARSE, FINE, FeatureSettings
from pipeline.store.reader import ZarrStore, open_store
from pipeline.store.settings import BuildSettings
from train.loop.trainer import train
from train.run.folder import load_detector, open_run
from train.settings import TrainSettings

ROUNDED = "rounded"
Scored = list[tuple[np.ndarray, np.ndarray]]  # rows of a store and their scores, for each fold


@click.command(cls=Command, help=__doc__)
@click.option("--src", required=True)
@click.option("--pairs")
@click.option("--out", required=True, type=Path)
@click.option("--size", default=128, show_default=True)
@click.option("--network", default="resnet18", show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--folds", default=3, show_default=True)
@click.option("--trained", type=int, help="Number of folds to train.  [default: all]")
@click.option("--seeds", default=1, show_default=True)
@click.option("--workers", default=0, show_default=True)
def main(
    src: str,
    pairs: str | None,
    out: Path,
    size: int,
    network: str,
    epochs: int,
    folds: int,
    trained: int | None,
    seeds: int,
    workers: int,
) -> None:
    places = {"sources left out": src} | ({"pairs": pairs} if pairs else {})
    stores = {
        scope: {levels: _build(place, out, size, levels, workers) for levels in (FINE, COARSE)}
        for scope, place in places.items()
    }
    scores: dict[str, dict[tuple[str, int], Scored]] = {scope: {} for scope in stores}
    for seed in range(seeds):
        for number, left_out in enumerate(_deal(stores["sources left out"][FINE], folds)[:trained]):
            for levels in (FINE, COARSE):
                run = out / f"{network}-{levels}-{size}-{seed}-{number}"
                store = stores["sources left out"][levels]
                settings = TrainSettings(
                    store=str(store.path), run=str(run), hold_out=tuple(left_out), experts="off", network=network,
                    epochs=epochs, seed=seed,
                )  # fmt: skip
                for scope, name, scored in _train_and_score(settings, levels, left_out, stores):
                    scores[scope].setdefault((name, seed), []).append(scored)
    for scope in stores:
        columns = stores[scope][FINE].columns
        click.echo(f"\n{scope}\n{_format_table(scores[scope], columns, scope == 'pairs', seeds)}")


def _build(src: str, out: Path, size: int, levels: str, workers: int) -> ZarrStore:
    """Build the store of a set with these levels, unless it is there."""
    path = out / f"{Path(src).name}-{size}-{levels}.zarr"
    settings = BuildSettings(FeatureSettings(size=size, levels=levels), variants="clean")
    build_store([src], str(path), settings, workers=workers)
    return open_store(path)


def _deal(store: ZarrStore, folds: int) -> list[list[str]]:
    """Deal the sources of each class that training sees to the folds."""
    rng = np.random.default_rng(0)
    columns, left_out = store.columns, [[] for _ in range(folds)]
    for label in (0, 1):
        names = sorted(set(columns["source"][(columns["label"] == label) & (columns["split"] != "test")].tolist()))
        for place, name in enumerate(rng.permutation(names).tolist()):
            left_out[place % folds].append(name)
    return left_out


def _train_and_score(
    settings: TrainSettings, levels: str, left_out: list[str], stores: dict[str, dict[str, ZarrStore]]
) -> Iterator[tuple[str, str, tuple[np.ndarray, np.ndarray]]]:
    """Train unless the run is there; yield scope, name of the levels, and rows with their log-odds of "fake"."""
    if not (Path(settings.run) / "summary.json").exists():
        train(settings)
    detector = load_detector(open_run(settings.run))
    for scope, of_scope in stores.items():
        columns = of_scope[levels].columns
        rows = np.flatnonzero(np.isin(columns["source"], left_out) | (columns["split"] == "test"))
        for name, store in ((levels, of_scope[levels]), (ROUNDED, of_scope[COARSE])):
            if name != ROUNDED or levels == FINE:
                logits = detector.score_rows(store, rows, progress=False).logits
                yield scope, name, (rows, logits[:, 1] - logits[:, 0])


def _format_table(scores: dict[tuple[str, int], Scored], columns: dict, within: bool, seeds: int) -> str:
    """Format mean AUROC and differences of one scope; `within` compares only pictures of one collection."""

    def measure(name: str, seed: int) -> np.ndarray:
        if not within:
            return compare_sources(scores[name, seed], columns["label"], columns["source"])[0]
        by_fold = [
            [
                compare(
                    *(score[(columns["source"][rows] == source) & (columns["label"][rows] == one)] for one in (1, 0))
                )
                for source in sorted(set(columns["source"].tolist()))
            ]
            for rows, score in scores[name, seed]
        ]
        return np.mean(by_fold, axis=0)

    def row(name: str, values: np.ndarray) -> list:
        return [name, float(np.nanmean(values)), *find_interval(values)]

    all_seeds = {name: np.stack([measure(name, seed) for seed in range(seeds)]) for name in (FINE, COARSE, ROUNDED)}
    fine = all_seeds[FINE]
    rows = [row(name, values) for name, values in all_seeds.items()]
    rows += [row(f"{name} less {FINE}", all_seeds[name] - fine) for name in (COARSE, ROUNDED)]
    rows += [row(f"{FINE}, seed {b} less {a}", fine[[b]] - fine[[a]]) for a, b in pairwise(range(seeds))]
    return tabulate(rows, headers=["levels", "AUROC", "from", "to"], floatfmt=("", "+.3f", "+.3f", "+.3f"))


if __name__ == "__main__":
    main()
