"""Commands `eval`, `report`, `predict` and `page`. They only parse and print.

In a shell, `eval report` runs the shell's own `eval`, which runs `report`. So `report`, `predict` and `page` are
commands, too.
"""

from pathlib import Path

import click

from data_cards.core.console import PROGRAM, Command, CommandGroup, echo, note, print_json, warn
from data_cards.core.errors import UsageError
from data_cards.core.labels import SPLITS, TEST
from data_cards.core.options import add_options
from eval.cli.predict import page, predict
from eval.settings import HELD_OUT, ReportSettings


@click.group(cls=CommandGroup)
@click.version_option(package_name=PROGRAM)
def cli() -> None:
    """Evaluate a trained detector, and judge pictures with it."""


@cli.command(cls=Command)
@click.version_option(package_name=PROGRAM)
@click.option(
    "--run",
    "runs",
    metavar="DIR",
    multiple=True,
    help="Run folder; give several to compare them. NAME=DIR: runs of one name, trained with different seeds, count as "
    "one  [default: the newest usable one under runs/, else the starter run]",
)
@click.option("--store", metavar="STORE", help="Feature store  [default: the one that the run was trained on]")
@click.option(
    "--split",
    type=click.Choice([*SPLITS, HELD_OUT]),
    default=TEST,
    show_default=True,
    help=f"Which pictures to score; {HELD_OUT}: those of the sources that the run held out.",
)
@click.option(
    "--out",
    metavar="DIR",
    help="Folder for the files  [default: the (first) run folder; for the starter run starter-report]",
)
@add_options(ReportSettings)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print all scores as JSON, except those of single samples (see report.json).",
)
@click.option("--full", is_flag=True, help="Print every table.")
def report(runs, store, split, out, as_json, full, **settings) -> None:
    """Score a run on pictures that it was not trained on.

    Prints a summary, and writes report.json (all scores, also of each picture) and report.html. The
    files for another split or store are named report-SPLIT or report-on-STORE. Several runs are compared
    on the pictures that all of them can score and none had in training or validation
    (comparison.json, comparison.html).

    \b
    Examples:
      report
      report --run runs/001-experts --out first_report
      report --run runs/001-experts --run runs/002-experts
      report --run old=runs/001 --run old=runs/002 --run new=runs/003 --run new=runs/004
      report --store other_pictures.zarr --json
    """
    from eval.report.compare import compare_runs  # loads PyTorch, which `--help` need not wait for
    from eval.report.contents import drop_rows
    from eval.report.report import make_report
    from eval.report.terminal import format_comparison, format_report
    from train.run.locate import format_starter_use

    if full and as_json:
        raise UsageError("full: --json prints everything; leave out one of the two")
    if len(runs) > 1 or any("=" in run and not Path(run).exists() for run in runs):
        made, write = compare_runs(runs, store, split, out, **settings), format_comparison
    else:
        made, write = make_report(runs[0] if runs else None, store, split, out, **settings), format_report
    if made.contents.get("run", {}).get("starter"):
        note(format_starter_use())
    for warning in made.contents["warnings"]:
        warn(warning)
    if as_json:
        print_json(drop_rows(made.contents) | {"files": {"json": str(made.json), "html": str(made.html)}})
    else:
        echo(write(made.contents, full))
        echo("")
        echo(f"report: {made.html} (each picture's score: {made.json})")


cli.add_command(predict)
cli.add_command(page)


def main() -> None:
    """Entry point of the `eval` command."""
    cli(prog_name="eval")


def report_main() -> None:
    """Entry point of `report`, the same as `eval report`."""
    report(prog_name="report")


def predict_main() -> None:
    """Entry point of `predict`, the same as `eval predict`."""
    predict(prog_name="predict")


def page_main() -> None:
    """Entry point of `page`, the same as `eval page`."""
    page(prog_name="page")
