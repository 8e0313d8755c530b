"""The `train` command: parses and prints; the work is done by `train.loop`."""

from dataclasses import fields
from shlex import quote

import click
from click.core import ParameterSource

from data_cards.console import CommandGroup, print_json, table
from data_cards.text import format_bytes
from train import settings as allowed
from train.settings import TrainSettings

_DEFAULTS = {field.name: field.default for field in fields(TrainSettings)}


def _setting(flag: str, kind: object = None, help: str = "", metavar: str | None = None):
    """An option for the field of `TrainSettings` of the same name, with that field's default."""
    default = _DEFAULTS[flag.removeprefix("--").replace("-", "_")]
    return click.option(
        flag,
        type=kind or type(default),
        default=default,
        show_default=default is not None,
        metavar=metavar,
        help=help,
    )


@click.group(cls=CommandGroup)
def cli() -> None:
    """Train a detector on a feature store."""


@cli.command("run")
@click.option(
    "--store",
    multiple=True,
    default=_DEFAULTS["store"],
    show_default=True,
    metavar="STORE",
    help="Feature store to train on; may be repeated for several as one.",
)
@_setting("--run", str, "Run folder  [default: a new one under runs/; with --resume: the newest]", "DIR")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped, with its settings.")
@_setting(
    "--channels",
    help="Kinds of planes to train on, or all; auto: of averaged planes all but the DCT's.",
    metavar="KINDS",
)
@click.option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only rows with that source, variant or format; VALUE,VALUE for either; may be repeated.",
)
@click.option("--hold-out", multiple=True, metavar="SOURCE", help="Leave a source out of training; may be repeated.")
@click.option(
    "--validate-on", multiple=True, metavar="SOURCE", help="Validate on a source, not trained on; may be repeated."
)
@_setting("--balance", click.Choice(allowed.BALANCES), "Take classes, or also their sources, equally often.")
@_setting("--epochs", help="Passes over the training pictures.")
@_setting("--batch-size", help="Samples a step.")
@_setting("--lr", float, "Peak learning rate  [default: 0.001; linear: 0.0001, radial: 0.01]")
@_setting("--weight-decay", help="Weight decay of AdamW.")
@_setting("--warmup", help="Epochs in which the learning rate rises; at most half of the run.")
@_setting("--dropout", float, "Dropout of what the last layer is fed  [default: 0.3; radial: 0]")
@_setting("--label-smoothing", help="Label smoothing of the training loss.")
@_setting(
    "--patience",
    int,
    "Stop after so many epochs without a better validation loss; 0: never  [default: 6 where the best is kept]",
)
@_setting("--keep", click.Choice(allowed.KEPT), "Which epoch's weights; auto: last for radial, else best.")
@_setting("--mixup", help="Alpha of the Beta distribution that samples are mixed by; 0: none.", metavar="ALPHA")
@_setting("--source-penalty", float, "On losses that differ between sources  [default: 0; radial: 10]", "PENALTY")
@_setting(
    "--normalise",
    click.Choice(allowed.NORMALISE),
    "Statistics of each frequency, of each plane, each sample's own range, or none; auto: plane for radial.",
)
@_setting("--gain", click.Choice(allowed.GAINS), "Contrast of each picture; auto: remove it from averaged planes.")
@_setting("--network", click.Choice(allowed.NETWORKS), "auto: radial for averaged planes, else resnet18.")
@_setting("--stem", click.Choice(allowed.STEMS), "auto: plain, which keeps small planes' sides, up to 64 bins.")
@_setting("--weights", str, "ImageNet weights to start from (.safetensors or .pth).", "FILE")
@_setting("--variants-per-epoch", click.Choice(allowed.VARIANTS_PER_EPOCH), "Variants of each picture an epoch.")
@_setting("--seed", help="Of first weights, order and all that is drawn.")
@_setting("--device", click.Choice(allowed.DEVICES), "Where to train.")
@_setting("--precision", click.Choice(allowed.PRECISIONS), "auto: bf16 where the hardware is good at it.")
@_setting("--threads", help="Threads that read the store.")
@_setting(
    "--on-bad-sample", click.Choice(allowed.ON_BAD_SAMPLE), "End at a sample that cannot be read, or leave it out."
)
@_setting("--save-minutes", help="Minutes between saved states within an epoch.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def run_command(context: click.Context, resume: bool, as_json: bool, **values: object) -> None:
    """Train on a feature store; writes a run folder with weights, history and curves.

    Ctrl-C, or a terminal that is closed, ends it after the running step and saves; `--resume` goes on from there.

    \b
    Examples:
      train run --store features.zarr
      train run --channels magnitude,dct --where variant=clean
      train run --store photos.zarr --store fakes.zarr
      train run --hold-out midjourney --balance source
      train run --validate-on stylegan --validate-on coco
      train run --epochs 10 --batch-size 16 --run runs/first
      train run --resume --run runs/first
    """
    from train import loop  # loads PyTorch, which `--help` need not wait for
    from train.run_folder import newest_run
    from train.stopping import Stopped
    from train.team import is_leading

    try:
        if resume:
            given = {
                name: value
                for name, value in values.items()
                if context.get_parameter_source(name) is not ParameterSource.DEFAULT
            }
            folder = given.pop("run", None) or newest_run(usable=False)
            summary = loop.resume(folder, given)
        else:
            summary = loop.train(TrainSettings(**values))
    except Stopped as stopped:
        click.echo(str(stopped), err=True)
        context.exit(stopped.exit_status)
    if not is_leading():
        return
    if as_json:
        print_json(summary.as_json())
        return
    rows = [
        *([["samples skipped", summary.skipped]] if summary.skipped else []),
        ["epochs", f"{summary.epochs} ({summary.ended})"],
        ["speed", f"{summary.samples_per_second:,.0f} samples a second, {summary.device_name} in {summary.precision}"],
        ["waited for data", f"{summary.waited:.1%} of the time"],
        ["kept epoch", summary.best_epoch],
        ["validation loss", f"{summary.val_loss:.4f}"],
        ["validation accuracy", f"{summary.val_accuracy:.1%}"],
        ["temperature", f"{summary.calibration.temperature:.3f}"],
        ["threshold", f"{summary.calibration.threshold:.3f} ({summary.calibration.describe_band()})"],
    ]
    click.echo(table(rows, ["run", str(summary.run)]))
    click.echo(f"next: eval report --run {quote(str(summary.run))}")


@cli.command("list")
@click.argument("runs", default="runs", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a list of objects, one a run.")
def list_command(runs: str, as_json: bool) -> None:
    """Compare the runs in the folder RUNS, `runs` if it is not given.

    The AUROC on the test pictures, with its 95 % interval, is that of the last `eval report` in the run's folder.

    \b
    Examples:
      train list
      train list elsewhere/runs --json
    """
    from train.listing import list_runs  # loads PyTorch, which `--help` need not wait for

    listed = list_runs(runs)
    if as_json:
        print_json([one.as_json() for one in listed])
        return
    rows = [
        [
            str(one.run),
            (one.created or "")[:16].replace("T", " "),
            one.network or "",
            one.side or "",
            "" if one.epochs is None else one.epochs,
            "" if one.val_loss is None else f"{one.val_loss:.4f}",
            "" if one.val_accuracy is None else f"{one.val_accuracy:.1%}",
            "{:.3f} ({:.3f} to {:.3f})".format(*one.test_auroc) if one.test_auroc else "",
            one.state,
        ]
        for one in listed
    ]
    headers = ["run", "created (UTC)", "network", "side", "epochs", "val. loss", "val. accuracy", "test AUROC", "state"]
    click.echo(table(rows, headers))
    for one in listed:
        if one.problem is not None:
            click.echo(one.problem, err=True)


@cli.command("export")
@click.option("--run", metavar="DIR", help="Run folder  [default: the newest under runs/]")
@click.option("--onnx", "file", metavar="FILE", required=True, help="The file to write, such as detector.onnx.")
@click.option("--json", "as_json", is_flag=True, help="Print file, bytes and difference as JSON.")
def export_command(run: str | None, file: str, as_json: bool) -> None:
    """Write a run's best network as ONNX: features in, calibrated probabilities of "fake" out.

    The features are levels as a feature store holds them, any number of samples at once. The file is checked with
    onnxruntime against PyTorch before it takes its name. Needs the extra "onnx".

    \b
    Example:
      train export --run runs/001-resnet18-512px --onnx detector.onnx
    """
    from train.export import export_onnx  # loads PyTorch, which `--help` need not wait for
    from train.run_folder import newest_run

    exported = export_onnx(newest_run() if run is None else run, file)
    if as_json:
        print_json({**vars(exported), "file": str(exported.file)})
        return
    click.echo(
        f"{exported.file}: {format_bytes(exported.bytes)}; "
        f"probabilities differ by at most {exported.difference:.1g} from PyTorch's"
    )


def main() -> None:
    """Entry point of the `train` command."""
    cli(prog_name="train")
