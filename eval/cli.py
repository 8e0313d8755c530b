"""`eval`, `report` and `predict`: run to answers. Parses and prints; the work is in the functions.

A shell's builtin `eval` runs the rest of its line as a command, so `report` and `predict` are
commands of their own too, and `eval report` typed in a shell does what it says.
"""

import click

from data_cards.console import Command, CommandGroup, print_json, table, warn
from pipeline.store import SPLITS
from train.settings import DEVICES

_run = click.option("--run", metavar="DIR", help="Run folder  [default: the newest under runs/]")
_device = click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True, help="Where to run.")


@click.group(cls=CommandGroup)
def cli() -> None:
    """See how good a trained detector is, and what it says of a picture."""


@cli.command(cls=Command)
@_run
@click.option("--store", metavar="STORE", help="Feature store  [default: the one that the run was trained on]")
@click.option("--split", type=click.Choice(SPLITS), default="test", show_default=True, help="Which pictures to score.")
@click.option("--out", metavar="DIR", help="Where report.json and report.html go  [default: the run folder]")
@_device
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


@cli.command(cls=Command)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@_run
@_device
@click.option("--batch-size", type=int, default=16, show_default=True, help="Pictures in memory at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects with path, verdict, probability_fake.")
@click.pass_context
def predict(context, pictures, run, device, batch_size, as_json) -> None:
    """Say of each PICTURE whether it looks real or generated.

    A folder stands for every picture in it. The score is the detector's probability that the
    picture is generated; how far to trust it, `eval report` tells. A file that is no picture is
    named, and the exit status is then 1.

    \b
    Examples:
      eval predict holiday.jpg
      eval predict downloads/ --json
    """
    from eval.predict import predict_files
    from eval.score import find_run, is_trained_on_simulation
    from eval.words import SIMULATION_NOTICE

    opened = find_run(run)
    verdicts = predict_files(opened, pictures, device=device, batch_size=batch_size)
    judged = [one for one in verdicts if one.error is None]
    failed = [one for one in verdicts if one.error is not None]
    if as_json:
        print_json([one.as_json() for one in verdicts])
    elif judged:
        rows = [[one.path, one.verdict, f"{one.probability_fake:.3f}"] for one in judged]
        click.echo(table(rows, ["picture", "verdict", "probability fake"]))
    if is_trained_on_simulation(opened):
        click.echo(SIMULATION_NOTICE, err=True)
    for one in failed:
        click.echo(f"error: {one.path}: {one.error}", err=True)
    if failed:
        context.exit(1)


def main() -> None:
    """Entry point of the `eval` command."""
    cli(prog_name="eval")


def report_main() -> None:
    """Entry point of `report`, the same as `eval report`."""
    report(prog_name="report")


def predict_main() -> None:
    """Entry point of `predict`, the same as `eval predict`."""
    predict(prog_name="predict")
