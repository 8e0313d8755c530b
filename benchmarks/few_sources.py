"""Sure verdicts of experts that were trained on few sources: how many there are, and how many are wrong, on others.

    pipeline build --src photos --out features.zarr
    python benchmarks/few_sources.py --store features.zarr

Small sets are drawn from the store: some sources of each class, some pictures of each. Experts are fitted to each set
as in `train run`. They judge the pictures of all sources that were not drawn, without the shrunk variant; each source
counts equally.
"""

import sys
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, where `train` is another file

from data_cards.core.console import Command
from data_cards.core.errors import UsageError
from data_cards.core.labels import CLASS_NAMES, FAKE, REAL
from pipeline.features.variants import SHRUNK
from pipeline.store.reader import open_store
from train.model.experts import Unlike
from train.model.logistic import sigmoid
from train.recipe.experts import fit_experts, weigh_sources

LEAST_PICTURES = 3  # of a source that may be drawn


@click.command(cls=Command, help=__doc__.replace("\n\n", "\n\n\b\n"))
@click.option("--store", required=True, help="Feature store with profiles and many sources.")
@click.option("--sources", default="4,6,8,10,12,15,20", show_default=True, help="Sources of each class that are drawn.")
@click.option("--pictures", default=8, show_default=True, help="Pictures of each source, at most.")
@click.option("--sets", default=40, show_default=True, help="Sets that are drawn of each size.")
def main(store: str, sources: str, pictures: int, sets: int) -> None:
    """Print a row for each number of sources."""
    opened = open_store(store)
    columns = opened.columns
    labels = columns["label"].astype(int)
    names = np.char.add(labels.astype(str), np.char.add("/", columns["source"].astype(str)))
    profiles, rng, table = opened.read_profiles(np.arange(len(opened))), np.random.default_rng(0), []
    counts = [int(count) for count in sources.split(",")]
    _check_sources(store, labels, names, columns["picture"], max(counts))
    for count in counts:
        sure, wrong, never = 0.0, 0.0, 0  # shares of the pictures, summed over sets; sets without a sure verdict
        for number in range(sets):
            drawn = _draw_rows(rng, labels, names, columns["picture"], count, pictures)
            fitted = fit_experts(
                profiles[drawn], labels[drawn], names[drawn], columns["variant"][drawn], columns["group"][drawn], number
            )
            others = ~np.isin(names, names[drawn]) & (columns["variant"] != SHRUNK)
            known = fitted.experts.find_unlike(profiles[others]) == Unlike.NOTHING
            calibration = fitted.experts.calibration
            probability = sigmoid(fitted.experts.compute_log_odds(profiles[others]))
            judged = known & ~calibration.is_unsure(probability)
            mistaken = judged & ((probability >= calibration.high) != (labels[others] == FAKE))
            weights = weigh_sources(labels[others], names[others])
            sure, wrong = sure + weights @ judged / weights.sum(), wrong + weights @ mistaken / weights.sum()
            never += calibration.is_always_unsure
        table.append([count, sure / sets, wrong / sure if sure else None, never / sets])
    headers = ["sources a class", "sure", "wrong of these", "sets that are always unsure"]
    print(tabulate(table, headers, floatfmt=("", ".1%", ".1%", ".0%"), missingval="none"))


def _check_sources(store: str, labels: np.ndarray, names: np.ndarray, pictures: np.ndarray, count: int) -> None:
    """Raise `UsageError` unless each class has more usable sources than `count`: others must remain to be judged."""
    for label in (REAL, FAKE):
        usable = len(_find_sources(labels, names, pictures, label))
        if usable <= count:
            raise UsageError(
                f"{store}: {usable} sources of class {CLASS_NAMES[label]} have at least {LEAST_PICTURES} pictures; "
                f"expected more than {count}; give fewer --sources, or a store with more sources"
            )


def _find_sources(labels: np.ndarray, names: np.ndarray, pictures: np.ndarray, label: int) -> dict[str, np.ndarray]:
    """Return the numbers of the pictures of each source of a class that may be drawn."""
    of_source = {name: np.unique(pictures[names == name]) for name in np.unique(names[labels == label])}
    return {name: own for name, own in of_source.items() if len(own) >= LEAST_PICTURES}


def _draw_rows(
    rng: np.random.Generator, labels: np.ndarray, names: np.ndarray, pictures: np.ndarray, count: int, most: int
) -> np.ndarray:
    """Draw `count` sources of each class and at most `most` pictures of each; return their rows."""
    rows = []
    for label in (REAL, FAKE):
        of_source = _find_sources(labels, names, pictures, label)
        for name in rng.choice(list(of_source), count, replace=False):
            own = of_source[name]
            rows.append(np.flatnonzero(np.isin(pictures, rng.choice(own, min(most, len(own)), replace=False))))
    return np.sort(np.concatenate(rows))


if __name__ == "__main__":
    main()
