"""The `train` command: parse the options, call one function, print the result."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from data_cards.core.console import PROGRAM, CommandGroup, echo, format_table, print_json
from data_cards.core.options import GroupedCommand, GroupedOption, add_options
from data_cards.core.text import format_bytes
from train.run.summary import Summary
from train.settings import TrainSettings

if TYPE_CHECKING:
    from train.run.folder import Run

_BELOW_GUESSING = 0.4  # accuracy that chance hardly explains


@click.group(cls=CommandGroup, context_settings={"max_content_width": 110})
@click.version_option(package_name=PROGRAM)
def cli() -> None:
    """Train a detector on a feature store."""


@cli.command("run", cls=GroupedCommand)
@add_options(TrainSettings)
@click.option(
    "--resume",
    is_flag=True,
    cls=GroupedOption,
    group="Files",
    help="Continue a stopped run with its settings; with more --epochs, also a finished run of a network.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def run_command(context: click.Context, resume: bool, as_json: bool, **values: object) -> None:
    """Train a detector on a feature store, and write it into a run folder.

    Ctrl-C, or closing the terminal, saves the run after the current step and ends it. `--resume` continues it.

    \b
    Examples:
      train run --store features.zarr
      train run --store photos.zarr --store fakes.zarr --run runs/first
      train run --hold-out midjourney --hold-out coco
    With a network, which needs a store with planes (`pipeline build --size 1024 --out planes.zarr`):
      train run --store planes.zarr --channels magnitude,dct --where variant=clean
      train run --store planes.zarr --epochs 10 --batch-size 16 --experts off
      train run --resume --run runs/second
    """
    from train.loop import trainer as loop  # loads PyTorch, slow to import
    from train.loop.signals import Stopped
    from train.model.distributed import is_rank0
    from train.run.folder import find_newest_run, read_run
    from train.run.locate import format_unfinished, list_unfinished
    from train.run.run_stores import format_next_steps

    try:
        if resume:
            given = {
                name: value
                for name, value in values.items()
                if context.get_parameter_source(name) is not ParameterSource.DEFAULT
            }
            stores = given.get("store", ())
            folder = given.pop("run", None)
            if folder is None:
                folder = find_newest_run(usable=False)
                if format_unfinished(read_run(folder)) is None:
                    for line in list_unfinished():
                        echo(line, err=True)
            summary = loop.resume(folder, given, exits=True)
        else:
            stores = values["store"]
            summary = loop.train(TrainSettings(**values), exits=True)
    except Stopped as stopped:
        echo(str(stopped), err=True)
        context.exit(stopped.exit_status)
    if not is_rank0():
        return
    if as_json:
        print_json(summary.to_dict())
        return
    run = read_run(summary.run)
    if summary.epochs:
        rows = _list_results(summary, _format_same_sources(run, stores))
    else:
        rows = _list_expert_results(summary)
    echo(format_table(rows, ["run", str(summary.run)]))
    for line in format_next_steps(run, stores):
        echo(line)


def _list_results(summary: Summary, validated: str) -> list[list]:
    """List the rows of the table that ends a training with epochs; `validated` says on which sources."""
    list_scores = _list_network_scores if summary.network_weight is None else _list_scores_beside_experts
    return [
        *([["samples skipped", summary.skipped]] if summary.skipped else []),
        ["epochs", f"{summary.epochs} ({summary.ended})"],
        ["speed", f"{format_speed(summary.samples_per_second)}, {summary.device_name} in {summary.precision}"],
        ["waited for data", f"{summary.waited:.1%} of the time"],
        ["kept epoch", summary.best_epoch],
        *list_scores(summary, validated),
    ]


def format_speed(samples: float) -> str:
    """Format samples a second; a ResNet on a CPU trains on less than one."""
    return f"{samples:,.0f} samples a second" if samples >= 10 else f"{samples:.2g} samples a second"


def _list_network_scores(summary: Summary, validated: str) -> list[list]:
    return [
        ["validation loss", f"{summary.val_loss:.4f}"],
        ["validation accuracy", f"{summary.val_accuracy:.1%}{validated}"],
        ["temperature", f"{summary.calibration.temperature:.3f}"],
        ["threshold", f"{summary.calibration.threshold:.3f} ({_format_verdicts(summary)})"],
    ]


def _format_same_sources(run: "Run", stores: Sequence[str]) -> str:
    """Format that a network was validated on sources that it was trained on; "" if not on these alone."""
    from pipeline.store.concatenated import open_stores  # loads Zarr, slow to import
    from train.data.row_selection import choose_rows

    store = open_stores(stores) if stores else run.open_stores()
    rows, sources = choose_rows(store, run.settings), store.columns["source"]
    return " (other pictures of the same sources)" if set(sources[rows.val]) <= set(sources[rows.train]) else ""


def _list_scores_beside_experts(summary: Summary, validated: str) -> list[list]:
    """List the scores of a network and of experts, each with its name, and how much the network counts."""
    from train.model.experts import format_network_weight

    if summary.network_weight:
        rows = [
            ["network alone, validation loss", f"{summary.val_loss:.4f}"],
            ["network alone, validation accuracy", f"{summary.val_accuracy:.1%}{validated}"],
        ]
        experts = "experts alone, "
    else:
        rows, experts = [], ""
    if summary.experts_loss is not None:
        rows += _list_expert_scores(summary, summary.experts_loss, summary.experts_accuracy, experts)
    return [
        *rows,
        ["network", format_network_weight(summary.network_weight)],
        ["verdicts", _format_verdicts(summary)],
    ]


def _list_expert_results(summary: Summary) -> list[list]:
    """List the rows of the table that ends a fit of experts alone."""
    return [
        ["fitted in", f"{summary.seconds:.1f} s"],
        *_list_expert_scores(summary, summary.val_loss, summary.val_accuracy),
        ["verdicts", _format_verdicts(summary)],
    ]


def _list_expert_scores(summary: Summary, loss: float, accuracy: float, whose: str = "") -> list[list]:
    from train.run.experts_file import load_experts  # loads SciPy, slow to import

    left_out = "sources" if load_experts(summary.run).sources_left_out else "pictures"
    below = " (below guessing: sources left out look like the other class; add sources of each class)"
    return [
        [f"{whose}loss on {left_out} left out", f"{loss:.4f}"],
        [f"{whose}accuracy on {left_out} left out", f"{accuracy:.1%}" + below * (accuracy < _BELOW_GUESSING)],
    ]


def _format_verdicts(summary: Summary) -> str:
    """Format the band of "unsure", or the reason why every verdict is unsure."""
    from train.model.experts import explain_always_unsure
    from train.run.experts_file import EXPERTS_FILE, load_experts  # loads SciPy, slow to import

    experts = load_experts(summary.run) if (summary.run / EXPERTS_FILE).exists() else None
    why = explain_always_unsure(summary.calibration, experts)
    return summary.calibration.format_band() if why is None else f"always unsure: {why}"


@cli.command("list")
@click.argument("runs", default="runs", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object for each run.")
def list_command(runs: str, as_json: bool) -> None:
    """Compare the runs in the folder RUNS (default: runs).

    A network alone has loss and accuracy on the validation pictures. Experts have them on the sources that a fit left
    out, also beside a network of weight 0. A run of experts and a network of another weight has neither. The AUROC
    on the test pictures, with its 95% interval, is from the last `report` of each run.

    "trained on" names the rows that a run used: all, or what --where, --hold-out and --validate-on left. Compare only
    runs with the same "trained on" and "measured on". A column "store" is added if the runs have different stores.

    \b
    Examples:
      train list
      train list elsewhere/runs --json
    """
    from train.run.listing import list_runs, name_stores  # loads PyTorch, slow to import

    listed = list_runs(runs)
    if as_json:
        print_json([one.to_dict() for one in listed])
        return
    columns = {
        "run": [str(one.run) for one in listed],
        "created (UTC)": [(one.created or "")[:16].replace("T", " ") for one in listed],
        "model": [one.network for one in listed],
        "side": [one.side for one in listed],
        "epochs": [one.epochs for one in listed],
        "loss": ["-" if one.loss is None else f"{one.loss:.4f}" for one in listed],
        "accuracy": ["-" if one.accuracy is None else f"{one.accuracy:.1%}" for one in listed],
        "measured on": [one.measured_on or "-" for one in listed],
        "test AUROC": ["{:.3f} ({:.3f} to {:.3f})".format(*one.test_auroc) if one.test_auroc else "" for one in listed],
        "state": [one.state for one in listed],
        "store": name_stores(listed),
        "trained on": [one.rows for one in listed],
    }
    if len({one.store_fingerprint for one in listed} - {None}) < 2:
        del columns["store"]
    echo(format_table(list(map(list, zip(*columns.values(), strict=True))), list(columns)))
    for one in listed:
        if one.problem is not None:
            echo(one.problem, err=True)


@cli.command("export")
@click.option("--run", metavar="DIR", help="Run folder  [default: the newest usable one under runs/]")
@click.option("--onnx", "file", metavar="FILE", required=True, help="File to write, such as detector.onnx.")
@click.option(
    "--pixels",
    is_flag=True,
    help="The graph takes fitted pictures in place of levels; needs a network that reads no overview.",
)
@click.option("--json", "as_json", is_flag=True, help="Print file, bytes, inputs and largest difference as JSON.")
def export_command(run: str | None, file: str, pixels: bool, as_json: bool) -> None:
    """Write a run's detector as ONNX: features in, calibrated probabilities of "fake" out.

    The features are those of a feature store, for any number of samples: profiles for experts, levels for a network,
    both if a network has weight beside experts. The file is written only if onnxruntime and this program agree. Needs
    the extra "onnx".

    \b
    Examples:
      train export --run runs/001-experts --onnx detector.onnx
      train export --run runs/002-resnet18-1024px --onnx detector.onnx --pixels
    """
    from train.run.export_onnx import export_onnx  # loads PyTorch, slow to import
    from train.run.folder import find_newest_run

    exported = export_onnx(find_newest_run() if run is None else run, file, from_pixels=pixels)
    if as_json:
        print_json({**vars(exported), "file": str(exported.file)})
        return
    echo(
        f"{exported.file}: {format_bytes(exported.bytes)}, reads {' and '.join(exported.inputs)}; "
        f"probabilities differ by at most {exported.difference:.1g} from this program's"
    )


def main() -> None:
    """Run the `train` command."""
    cli(prog_name="train")
