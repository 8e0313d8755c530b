"""Table and plot of the detection study, from its `runs.jsonl`.

    python benchmarks/detection_table.py study
    python benchmarks/detection_table.py pairs --settings benchmarks/detection_pairs.toml --without ffhq

AUROC is the mean over folds of the mean over seeds, on sources that no run of the fold saw. Its 95 %
interval, and that of the difference from the baseline, resample each fold's pictures, the same for
all recipes, and the folds' seeds.
"""

import json
import sys
import tomllib
from pathlib import Path

import click
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import rankdata
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))
from eval.scores.metrics import compute_scores
from pipeline.features.variants import CONDITIONS

RESAMPLES = 1000


@click.command()
@click.argument("out", type=click.Path(path_type=Path, exists=True))
@click.option("--settings", default=Path(__file__).with_name("detection.toml"), type=click.Path(path_type=Path))
@click.option("--without", multiple=True, metavar="SOURCE", help="Leave out folds that hold this source out.")
def main(out: Path, settings: Path, without: tuple[str, ...]) -> None:
    """Print the table, write table.md and table.png; of every pair of sources, print the first recipe's scores."""
    lines = (out / "runs.jsonl").read_text(encoding="utf-8").splitlines()
    study = tomllib.loads(settings.read_text())
    runs: dict[str, dict[int, list[dict]]] = {}
    for line in lines:
        run = json.loads(line)
        if set(run["held_out"]) & set(without):
            continue
        runs.setdefault(run["recipe"], {}).setdefault(run["fold"], []).append(run)
    draws = {name: resample(folds) for name, folds in runs.items()}
    baseline = study["baseline"]
    table = []
    for name, folds in runs.items():
        row = [name, f"{len(folds)} x {max(map(len, folds.values()))}"]
        for condition in CONDITIONS:
            row.append(_format_interval(draws[name][condition]))
        known = baseline in runs and set(runs[baseline]) == set(folds)
        row.append(
            _format_interval(draws[name]["jpeg-75"] - draws[baseline]["jpeg-75"]) if known and name != baseline else ""
        )
        every = [run for of_fold in folds.values() for run in of_fold]
        row.append(f"{min(np.mean([run['auroc']['jpeg-75'] for run in one]) for one in folds.values()):.2f}")
        row.append(f"{np.mean([run['calibration_error']['jpeg-75'] for run in every]):.2f}")
        row.append(f"{compute_calibration_error(folds):.2f}")
        row += [f"{np.mean([run['seconds'] for run in every]):.0f}", f"{every[0]['bytes_a_sample']:,.0f}"]
        table.append(row)
    headers = ["recipe", "folds x seeds", *(f"AUROC {name}" for name in CONDITIONS), f"jpeg-75, less {baseline}",
               "worst fold", "calibration error", "of all folds", "seconds", "bytes a sample"]  # fmt: skip
    (out / "table.md").write_text(tabulate(table, headers, tablefmt="github") + "\n", encoding="utf-8")
    click.echo(tabulate(table, headers))
    if study["folds"] == "pairs":
        print_pairs(next(iter(runs.values())))
    plot_auroc(draws, out / "table.png")


def resample(folds: dict[int, list[dict]]) -> dict[str, np.ndarray]:
    """Return by condition the AUROC, then `RESAMPLES` draws of it; every recipe has the same draws of pictures."""
    total = {condition: np.zeros(1 + RESAMPLES) for condition in CONDITIONS}
    for fold, runs in folds.items():
        labels = np.array(runs[0]["labels"])
        rng = np.random.default_rng(fold)
        chosen = [np.arange(len(labels))]
        for _ in range(RESAMPLES):
            parts = [np.flatnonzero(labels == label) for label in (0, 1)]
            chosen.append(np.concatenate([rng.choice(part, len(part)) for part in parts]))
        of_run = rng.random((RESAMPLES, 16))  # seeds of a draw
        for condition in CONDITIONS:
            scores = np.array([run["scores"][condition] for run in runs])
            values = np.array([[compute_auroc(labels[some], one[some]) for some in chosen] for one in scores])
            total[condition][0] += values[:, 0].mean() / len(folds)
            picked = (of_run[:, : len(runs)] * len(runs)).astype(int)
            drawn = values[:, 1:][picked.T, np.arange(RESAMPLES)].mean(axis=0)
            total[condition][1:] += drawn / len(folds)
    return total


def print_pairs(folds: dict[int, list[dict]]) -> None:
    """Print the AUROC of every fake source, in rows, with every real one."""
    for condition in CONDITIONS:
        table: dict[str, dict[str, float]] = {}
        for runs in folds.values():
            fake, real = runs[0]["held_out"]
            table.setdefault(fake, {"": fake})[real] = np.mean([run["auroc"][condition] for run in runs])
        click.echo(f"\n{condition}\n" + tabulate(table.values(), headers="keys", floatfmt=".2f"))


def compute_calibration_error(folds: dict[int, list[dict]]) -> float:
    """Compute the calibration error of all folds' pictures as one set, all at jpeg-75; the mean over common seeds.

    A fold is so small that chance alone causes an error of about 0.07 there.
    """
    errors = []
    for runs in zip(*folds.values(), strict=False):
        labels = np.concatenate([run["labels"] for run in runs])
        scores = np.concatenate([run["scores"]["jpeg-75"] for run in runs])
        errors.append(float(compute_scores(labels, scores, 0.5)["calibration_error"]))
    return float(np.mean(errors))


def compute_auroc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the share of pairs of a fake and a real picture in which the fake scores higher; ties count half."""
    fakes = int(labels.sum())
    ranks = rankdata(scores)[labels == 1].sum()
    return float((ranks - fakes * (fakes + 1) / 2) / (fakes * (len(labels) - fakes)))


def plot_auroc(draws: dict[str, dict[str, np.ndarray]], path: Path) -> None:
    """Plot every recipe's AUROC under each condition, with its interval."""
    figure = Figure(figsize=(8, 0.45 * len(draws) + 1.4), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for shift, condition in zip((-0.2, 0, 0.2), CONDITIONS, strict=True):
        values = np.array([one[condition][0] for one in draws.values()])
        ends = np.array([np.quantile(one[condition][1:], [0.025, 0.975]) for one in draws.values()])
        places = np.arange(len(draws)) + shift
        axis.errorbar(values, places, xerr=np.abs(ends.T - values), fmt="o", label=condition)
    axis.axvline(0.5, color="grey", linewidth=1)
    axis.set_yticks(range(len(draws)), draws)
    axis.invert_yaxis()
    axis.set_xlabel("AUROC on held-out sources")
    axis.legend()
    figure.savefig(path, dpi=110)


def _format_interval(draws: np.ndarray) -> str:
    low, high = np.quantile(draws[1:], [0.025, 0.975])
    return f"{draws[0]:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
