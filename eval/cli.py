"""`eval`, `report`, `predict` and `page`: run to answers. Parses and prints; the work is in the functions.

A shell's builtin `eval` runs the rest of its line as a command, so `report`, `predict` and `page` are
commands of their own too, and `eval report` typed in a shell does what it says.
"""

import click

from data_cards.console import Command, CommandGroup, print_json, warn
from eval.cli_predict import device_option, page, predict, run_option
from pipeline.store import SPLITS


@click.group(cls=CommandGroup)
def cli() -> None:
    """See how good a trained detector is, and what it says of a picture."""


@cli.command(cls=Command)
@run_option
@click.option("--store", metavar="STORE", help="Feature store  [default: the one that the run was trained on]")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Which pictures to score.")
@click.option("--out", metavar="DIR", help="Where report.json and report.html go  [default: the run folder]")
@device_option
@click.option("--batch-size", type=int, default=32, show_default=True, help="Samples scored at a time.")
@click.option("--threads", type=int, default=4, show_default=True, help="Threads that read the store.")
@click.option(
    "--swap-pictures",
    type=int,
    default=200,
    show_default=True,
    help="At most so many pictures for the JPEG-swap test, in which both classes are saved alike; 0 leaves it out.",
)
@click.option(
    "--explain-pictures",
    type=int,
    default=40,
    show_default=True,
    help="On at most so many it is measured which frequencies decide, the slowest part; 0 leaves it out.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all scores as JSON (each sample's own: see report.json).")
def report(run, store, split, out, device, batch_size, threads, swap_pictures, explain_pictures, as_json) -> None:
    """Score a run on pictures that it was not trained on.

    Prints tables and writes report.json (every score, each picture's too) and report.html.

    \b
    Examples:
      eval report
      eval report --run runs/001-resnet18-512px --out first_report
      eval report --store other_pictures.zarr --json
    """
    from eval.report import make_report  # loads PyTorch, which `--help` need not wait for
    from eval.text import format_report

    made = make_report(
        run,
        store,
        split,
        out,
        device=device,
        batch_size=batch_size,
        threads=threads,
        swap_pictures=swap_pictures,
        explain_pictures=explain_pictures,
    )
    for warning in made.figures["warnings"]:
        warn(warning)
    if as_json:
        files = {"json": str(made.json), "html": str(made.html)}
        print_json({name: value for name, value in made.figures.items() if name != "rows"} | {"files": files})
    else:
        click.echo(format_report(made.figures))
        click.echo(f"\nreport: {made.html} (each picture's score: {made.json})")


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
