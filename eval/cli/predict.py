"""Commands `predict` and `page`: verdicts on files, in the terminal and in the browser. Only parse and print."""

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from data_cards.core.console import PROGRAM, Command, CommandError, echo, note, warn
from data_cards.core.errors import UsageError, interrupt_status
from data_cards.core.options import add_options
from eval.settings import PageSettings, PredictSettings

if TYPE_CHECKING:
    from train.run.folder import Run  # loads what `--help` need not wait for

run_option = click.option(
    "--run", metavar="DIR", help="Run folder  [default: the newest usable one under runs/, else the starter run]"
)


@click.command(cls=Command)
@click.version_option(package_name=PROGRAM)
@click.argument("pictures", nargs=-1, required=True, metavar="PICTURE...")
@click.option(
    "-0",
    "--null",
    is_flag=True,
    help="The names on standard input end with a zero byte, as find -print0 writes them.",
)
@run_option
@add_options(PredictSettings)
@click.option("--quick", is_flag=True, help="Skip the checks (JPEG 90, JPEG 75, crop to 90%): four times faster.")
@click.option("--explain", metavar="FILE.png", help="Plot the reasons for the verdict on one picture into this file.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON list with one object for each file; names are kept exactly."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, one line for each file.")
@click.pass_context
def predict(context, pictures, null, run, quick, explain, as_json, as_csv, **settings) -> None:
    """Judge whether each PICTURE is real or fake.

    A PICTURE is a file, a folder with pictures and clips, a zip, tar or Parquet file of them, a
    glob in quotes, or - for a list of paths on standard input. Some frames of a clip (MP4, MOV, MKV,
    WebM, AVI ...) are judged, and the clip as a whole; this needs the extra `video`.

    The verdict is real (probably a photograph), fake (probably generated) or unsure. "probability
    fake" is calibrated; without a number, no test supports one. `report` measures how reliable both
    are. If a file cannot be judged, stderr says why, and the exit status is 1.

    \b
    Examples:
      predict holiday.jpg --explain why.png
      predict downloads/ "scans/**/*.png" --json
      find . -name "*.jpg" | predict - --csv > verdicts.csv
      find . -name "*.jpg" -print0 | predict -0 - --csv > verdicts.csv
    """
    from data_cards.dataset.listing import format_left_out
    from data_cards.dataset.simulated import SIMULATION_NOTICE
    from eval.verdict.inputs import find_inputs
    from eval.verdict.output import write_csv, write_json, write_table
    from eval.verdict.predict import check_options, iterate_verdicts
    from train.run.locate import find_run, name_run

    if as_json and as_csv:
        raise UsageError("--json and --csv: expected only one of them")
    if null and "-" not in pictures:
        raise UsageError("-0: no names are read from standard input; give - among the pictures, or omit -0")
    settings = PredictSettings(**settings)
    opened, left_out = find_run(run), []
    inputs = find_inputs(pictures, sys.stdin.buffer, null=null, left_out=left_out)
    check_options(settings.batch_size, settings.frames, settings.workers)
    if not inputs:
        note("nothing to judge: standard input names no file")
    for line in format_left_out(left_out):
        note(line)
    _print_run(opened, named=run is not None)
    write = write_table
    if as_json or as_csv:
        write = partial(write_json if as_json else write_csv, run=name_run(opened))
    if explain is None:
        streams = as_json or as_csv  # their lines would mix with the bar's
        is_bar_clear = not (streams and sys.stdout.isatty())
        verdicts = iterate_verdicts(opened, inputs, quick=quick, progress=is_bar_clear, remark=note, **asdict(settings))
        try:
            failed = write(verdicts)
        except KeyboardInterrupt as error:
            raise CommandError("stopped before all files were judged", interrupt_status(error)) from error
    else:
        from eval.verdict.examine import Examiner
        from eval.verdict.explain_file import check_explained, examine_file, write_explanation  # loads matplotlib
        from eval.verdict.wording import format_never

        explained = check_explained(inputs, explain, pictures)
        examiner = Examiner(opened, settings.device, settings.max_pixels)
        verdict, examined = examine_file(examiner, explained, quick=quick, batch_size=settings.batch_size)
        failed = write([verdict])
        if examined is not None:
            if never := format_never(examiner.detector):
                note(never)
            write_explanation(examiner, explained.path, examined, explain)
            note(f"explained: {explain}")
    if opened.simulated and failed < len(inputs):
        echo(SIMULATION_NOTICE, err=True)
    if failed:
        context.exit(1)


@click.command(cls=Command)
@click.version_option(package_name=PROGRAM)
@run_option
@add_options(PageSettings)
@click.option("--open/--no-open", "open_browser", default=True, show_default=True, help="Open the page in the browser.")
def page(run, open_browser, **settings) -> None:
    """Open a browser page that shows the verdict on dropped pictures, and the reasons.

    The page runs on this computer and stores no picture. Other computers can use it only if --host
    admits them. It needs the extra `page`. Ctrl-C ends it.

    \b
    Examples:
      page
      page --run runs/001-experts --port 9000 --no-open
    """
    from eval.page.serve import serve_page
    from train.run.locate import find_run

    opened = find_run(run)
    _print_run(opened, named=run is not None)
    serve_page(opened, open_browser=open_browser, echo=echo, warn=warn, **asdict(PageSettings(**settings)))


def _print_run(run: "Run", named: bool) -> None:
    """Print which run judges if none was named, and that it is unfinished."""
    from train.run.locate import format_starter_use, format_unfinished, is_starter

    if not named:
        note(format_starter_use() if is_starter(run) else f"run: {run.path}")
    if unfinished := format_unfinished(run):
        warn(unfinished)
