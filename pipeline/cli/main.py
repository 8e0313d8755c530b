"""The `pipeline` command: parses options, calls the functions of the other packages, prints their results."""

from pathlib import Path
from shlex import quote

import click
from click.core import ParameterSource

from data_cards.core.console import PROGRAM, CommandGroup, echo, print_json, progress_bar
from data_cards.core.errors import StoreError, UsageError
from data_cards.core.options import GroupedCommand, GroupedOption, add_options, option_names
from data_cards.core.text import format_bytes
from data_cards.dataset.settings import FILES, SetSettings
from pipeline.builder.build import build_store
from pipeline.cli.datasets import (
    audit,
    cache_option,
    card,
    source_option,
    subset,
    take_set_settings,
)
from pipeline.cli.summary import (
    build_to_dict,
    format_build,
    format_dry_run,
    format_verification,
    verification_to_dict,
)
from pipeline.features.settings import PICTURES, FeatureSettings
from pipeline.maintenance.inspect import format_progress, format_store, inspect_place
from pipeline.maintenance.plot_planes import plot_samples
from pipeline.maintenance.repair import Cause, repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.simulate.sample_set import SIZE, TEST_PER_SOURCE, TRAIN_PER_SOURCE, write_sample
from pipeline.store.schema import DEFAULT_STORE
from pipeline.store.settings import BuildSettings


class _Memory(click.ParamType):
    """A number of bytes with or without a unit: 8GB, 512MiB."""

    name = "size"

    def convert(self, value, param, ctx):
        from dask.utils import parse_bytes

        try:
            return value if isinstance(value, int) else parse_bytes(value)
        except ValueError:
            self.fail(f"expected a number of bytes such as 8GB, got {value!r}", param, ctx)


MEMORY = _Memory()


@click.group(cls=CommandGroup, context_settings={"show_default": True, "max_content_width": 110})
@click.version_option(package_name=PROGRAM)
def main() -> None:
    """Build a store of spectral features once, for many training runs; audit, select and describe sets."""


for _command in (audit, subset, card):
    main.add_command(_command)


def _machine(flag: str, **properties: object):
    return click.option(flag, cls=GroupedOption, group="Machine", **properties)


@main.command(cls=GroupedCommand)
@source_option(
    help="Pictures in folders by split, class and source (docs/building.md), or those of one class, such as "
    "real=my_photos or test/fake=pictures; also zip, tar and Parquet files. May be repeated."
)
@add_options(SetSettings)
@click.option(
    "--out",
    cls=GroupedOption,
    group=FILES,
    default=DEFAULT_STORE,
    metavar="STORE",
    help="Store to write; it may be s3://bucket/name.",
)
@add_options(FeatureSettings)
@add_options(BuildSettings)
@click.option(
    "--allow-leakage",
    is_flag=True,
    cls=GroupedOption,
    group=PICTURES,
    help="Build even if near-duplicates are in more than one split.",
)
@_machine("--workers", type=int, show_default="one per core", help="Number of Dask worker processes; 0: this process.")
@_machine("--max-memory", type=MEMORY, help="Limit of the memory of all workers together, such as 8GB.")
@_machine("--scheduler", metavar="ADDRESS", help="Address of a running Dask scheduler, whose workers build the store.")
@cache_option
@click.option("--dry-run", is_flag=True, help="Only scan, audit, list classes and sources, and estimate size and time.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.pass_context
def build(
    context, sources, out, workers, max_memory, scheduler, dry_run, allow_leakage, cache, as_json, **given
) -> None:
    """Build a feature store from pictures, or add pictures to one.

    The store holds a profile (1.5 kB) of every picture and of three changed copies. The recommended detector
    reads these; networks read planes: add --size (periodograms) or --estimator averaged (smaller ones).

    Run the same command again to resume an interrupted build, or with another --src to add its pictures; a store keeps
    its settings.

    \b
    Examples:
      pipeline build --src kaggle_dir
      pipeline build --src kaggle_dir --src real=my_photos --out mine.zarr
      pipeline build --src kaggle_dir --size 1024 --out planes.zarr
    """
    features = FeatureSettings(**{name: given.pop(name) for name in option_names(FeatureSettings)})
    reading = take_set_settings(given)
    settings = BuildSettings(features, **given)
    if not any(
        context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        for name in option_names(FeatureSettings) + option_names(BuildSettings)
    ):
        settings = None  # those of an existing store, else the defaults
    summary = build_store(
        sources,
        out,
        settings,
        reading=reading,
        workers=workers,
        scheduler=scheduler,
        max_memory=max_memory,
        dry_run=dry_run,
        allow_leakage=allow_leakage,
        cache=cache,
    )
    if as_json:
        print_json(build_to_dict(summary))
    elif dry_run:
        echo(format_dry_run(summary))
    else:
        echo(format_build(summary))


@main.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    required=True,
    help="New or empty folder to write.",
)
@click.option(
    "--train-per-source", type=int, default=TRAIN_PER_SOURCE, help="Training pictures of each of the eight sources."
)
@click.option(
    "--test-per-source", type=int, default=TEST_PER_SOURCE, help="Test pictures of each of the eight sources."
)
@click.option("--size", type=int, default=SIZE, help="Shortest side of the smallest pictures, in pixels.")
@click.option("--seed", type=int, default=0, help="Seed of the pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def sample(out, train_per_source, test_per_source, size, seed, as_json) -> None:
    """Simulate a set: pictures from four cameras and four generators.

    Use it to try the program without a download. Scores on it say nothing about real pictures.

    \b
    Example:
      pipeline sample --out sample_set
    """
    made = write_sample(
        out,
        train_per_source=train_per_source,
        test_per_source=test_per_source,
        size=size,
        seed=seed,
        wrap=lambda items, total: progress_bar(items, what="sample", unit="pictures", total=total),
    )
    if as_json:
        print_json({"path": str(made.path), "simulated": True, "pictures": made.total, "bytes": made.bytes})
    else:
        echo(f"{made.path}: {made.total} simulated pictures, {format_bytes(made.bytes)}")


@main.command()
@click.argument("store", default=DEFAULT_STORE)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="PNG file to write, with the planes of samples.",
)
@click.option(
    "--row",
    "rows",
    type=int,
    multiple=True,
    help="Sample to draw into --png, from 0. May be repeated.  [default: one unchanged picture of each class]",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(store, png, rows, as_json) -> None:
    """Show the contents of a feature store, or the progress of its build.

    \b
    Examples:
      pipeline inspect features.zarr
      pipeline inspect planes.zarr --png planes.png --row 0 --row 17
    """
    if rows and not png:
        raise UsageError(f"--row {rows[0]}: samples are drawn into a file; add --png FILE")
    opened, facts = inspect_place(store)
    if png and not opened:
        advice = f"`pipeline inspect {quote(store)}` without --png shows its progress"
        raise StoreError(f"--png {png}: the build of {store} is not finished; expected a complete store; {advice}")
    format_facts = format_store if facts["complete"] else format_progress
    print_json(facts) if as_json else echo(format_facts(facts))
    if png:
        drawn = plot_samples(opened, list(rows) or None, png)
        echo(f"drew rows {', '.join(map(str, drawn))} to {png}", err=True)


@main.command()
@click.argument("store", default=DEFAULT_STORE)
@click.option("--repair", is_flag=True, help="Rebuild damaged files; shards are rebuilt from the source pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(store, repair, as_json) -> None:
    """Compare all files of a store with their checksums. The exit status is 3 if one is damaged.

    \b
    Examples:
      pipeline verify features.zarr
      pipeline verify features.zarr --repair
    """
    found = verify_store(store)
    problems = repair_store(found) if repair else []
    left = verify_store(store) if repair and not found.sound else found
    if as_json:
        print_json(verification_to_dict(found, left, problems))
    else:
        echo(format_verification(found, left, problems))
    if not left.sound:
        advice = f"`pipeline verify {quote(store)} --repair` rebuilds what it can, from the source pictures"
        if repair:
            advice = "see above for what could not be repaired"
        if any(one.cause is Cause.LOST_PICTURES for one in problems):
            rebuild = f"`pipeline build --src FOLDER --out {quote(store)}`"
            advice += f"; if pictures were moved, first run {rebuild} with their new folder, then repair again"
        raise StoreError(f"{store}: the store is damaged; {advice}")


def run() -> None:
    """Run the command under its own name, however it was started."""
    main(prog_name="pipeline")
