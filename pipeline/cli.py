"""`pipeline`: pictures to feature store. Parses and prints; the work is in the functions."""

from pathlib import Path

import click

from data_cards.audit import FAIL, WARN
from data_cards.balance import PROPERTIES as BALANCED
from data_cards.console import CommandGroup, print_json
from data_cards.errors import StoreError, UsageError, UserError
from pipeline.amounts import format_bytes
from pipeline.build import build_store
from pipeline.draw import draw_samples
from pipeline.inspection import describe_progress, describe_store, format_progress, format_store
from pipeline.sample import make_sample
from pipeline.settings import DTYPES, FITS, PACKINGS, RESAMPLING_FILTERS, BuildSettings, FeatureSettings
from pipeline.store import open_store
from pipeline.summary import (
    build_as_json,
    describe_build,
    describe_verification,
    verification_as_json,
)
from pipeline.variants import RECIPES
from pipeline.verify import repair_store, verify_store

DEFAULTS = BuildSettings()


class _Memory(click.ParamType):
    """A number of bytes with or without a unit: 8GB, 512MiB."""

    name = "size"

    def convert(self, value, param, ctx):
        from dask.utils import parse_bytes

        try:
            return value if isinstance(value, int) else parse_bytes(value)
        except ValueError:
            self.fail(f"{value!r} is no size; expected a number of bytes such as 8GB", param, ctx)


MEMORY = _Memory()

_cache = click.option(
    "--cache/--no-cache", default=True, help="Remember what files are, so that the next scan need not read them."
)


@click.group(cls=CommandGroup, context_settings={"show_default": True})
def main() -> None:
    """Turn pictures into a store of spectral features, once, for many trainings."""


@main.command()
@click.option(
    "--src",
    "sources",
    multiple=True,
    required=True,
    metavar="FOLDER|CLASS=FOLDER",
    help="Pictures as SPLIT/CLASS/[SOURCE/]... or CLASS/[SOURCE/]..., or one unlabelled folder of a "
    "class, such as real=my_photos or test/fake=pictures. May be repeated.",
)
@click.option("--out", default="features.zarr", help="The store to write: a folder, or s3://bucket/name.")
@click.option("--size", type=int, default=DEFAULTS.features.size, help="Side of the square planes, in pixels.")
@click.option(
    "--fit",
    type=click.Choice(FITS),
    default=DEFAULTS.features.fit,
    help="cover: short side to size, centre crop; stretch: both sides to size; "
    "crop: centre crop of the native pixels, never resampled.",
)
@click.option(
    "--resample", type=click.Choice(RESAMPLING_FILTERS), default=DEFAULTS.features.resample, help="Resampling filter."
)
@click.option(
    "--variants",
    type=click.Choice(list(RECIPES)),
    default=DEFAULTS.variants,
    help="train: the picture and three JPEG draws; clean: the picture alone; stress: test pictures in 22 conditions.",
)
@click.option("--seed", type=int, default=DEFAULTS.seed, help="Of the variants, the split and the order.")
@click.option(
    "--val-fraction",
    type=float,
    default=DEFAULTS.val_fraction,
    help="Share of the training pictures drawn for validation where the source has none.",
)
@click.option("--max-pixels", type=int, default=DEFAULTS.max_pixels, help="Larger pictures are set aside.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DEFAULTS.features.dtype,
    help="float16 keeps levels between the 256 whole ones, at three times the disk.",
)
@click.option(
    "--packing",
    type=click.Choice(PACKINGS),
    default=DEFAULTS.packing,
    help="mirror: half of each DFT plane, read with this package; none: all, for any Zarr v3 reader.",
)
@click.option(
    "--workers",
    type=int,
    default=None,
    show_default="one a core",
    help="Dask worker processes; 0 works in this process.",
)
@click.option("--max-memory", type=MEMORY, default=None, help="Of all workers together, such as 8GB.")
@click.option("--scheduler", default=None, metavar="ADDRESS", help="A running Dask scheduler to use instead.")
@click.option("--dry-run", is_flag=True, help="Only say what the build would cost.")
@click.option(
    "--allow-leakage", is_flag=True, help="Build though near-duplicate pictures stand in more than one split."
)
@_cache
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def build(
    sources,
    out,
    size,
    fit,
    resample,
    variants,
    seed,
    val_fraction,
    max_pixels,
    dtype,
    packing,
    workers,
    max_memory,
    scheduler,
    dry_run,
    allow_leakage,
    cache,
    as_json,
) -> None:
    """Make a feature store from folders of pictures.

    A build that was stopped goes on where it was when the same command is run again; with more
    pictures or another --src it adds those.

    \b
    Examples:
      pipeline build --src kaggle_dir --size 1024
      pipeline build --src kaggle_dir --src real=my_photos --size 512 --out mine.zarr
    """
    settings = BuildSettings(
        FeatureSettings(size, fit, resample, dtype), variants, seed, val_fraction, max_pixels, packing
    )
    summary = build_store(
        sources,
        out,
        settings,
        workers=workers,
        scheduler=scheduler,
        max_memory=max_memory,
        dry_run=dry_run,
        allow_leakage=allow_leakage,
        cache=cache,
    )
    if as_json:
        print_json(build_as_json(summary))
    elif dry_run:
        click.echo(summary.estimate.describe() if summary.estimate else "nothing to do: the store is up to date")
    else:
        click.echo(describe_build(summary))


@main.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder that does not exist yet.")
@click.option("--train-per-source", type=int, default=75, help="Training pictures of each of the four sources.")
@click.option("--test-per-source", type=int, default=25, help="Test pictures of each of the four sources.")
@click.option("--size", type=int, default=128, help="Smallest short side, in pixels.")
@click.option("--seed", type=int, default=0, help="Another seed, other pictures.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def sample(out, train_per_source, test_per_source, size, seed, as_json) -> None:
    """Make a simulated set: pictures of two cameras and two generators.

    For trying the program out, without a download. Scores on it say nothing about real pictures.

    \b
    Example:
      pipeline sample --out sample_set
    """
    made = make_sample(out, train_per_source=train_per_source, test_per_source=test_per_source, size=size, seed=seed)
    if as_json:
        print_json({"path": str(made.path), "simulated": True, "pictures": made.total, "bytes": made.bytes})
    else:
        click.echo(f"{made.path}: {made.total} simulated pictures, {format_bytes(made.bytes)}")


@main.command()
@click.option(
    "--src", "sources", multiple=True, metavar="FOLDER|CLASS=FOLDER", help="Pictures, as for build. May be repeated."
)
@click.option("--store", help="A feature store instead: the pictures that it was made from.")
@click.option("--where", multiple=True, metavar="CONDITION", help="Only such pictures: width>=512, source=coco,ffhq.")
@click.option("--warn", type=float, default=WARN, help="AUROC from which on a family of properties is a warning.")
@click.option("--fail", type=float, default=FAIL, help="AUROC above which it fails.")
@click.option("--strict", is_flag=True, help="Exit status 1 when it fails, or near-duplicates stand across sides.")
@click.option(
    "--contact-sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw near-duplicates across splits and classes to this PNG.",
)
@click.option("--max-pixels", type=int, default=DEFAULTS.max_pixels, help="Larger pictures are set aside.")
@_cache
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def audit(context, sources, store, where, warn, fail, strict, contact_sheet, max_pixels, cache, as_json) -> None:
    """Tell how well trivial properties alone tell the classes apart, and which pictures stand on two sides.

    Classifiers see file facts, an 8 x 8 thumbnail, or the spectrum's lowest frequencies, and are
    scored on pictures (and sources) that they were not fitted on. 0.5 is guessing; the nearer to 1,
    the less a detector trained on this set needs to know of generators.

    \b
    Examples:
      pipeline audit --src kaggle_dir
      pipeline audit --store features.zarr --strict --json
      pipeline audit --src kaggle_dir --contact-sheet duplicates.png
    """
    from data_cards.audit import Limits
    from pipeline.auditing import audit_set

    result = audit_set(
        sources,
        store,
        limits=Limits(warn, fail),
        where=where,
        contact_sheet=contact_sheet,
        max_pixels=max_pixels,
        cache=cache,
    )
    print_json(result.as_json()) if as_json else click.echo(result.describe())
    if strict and not result.passes:
        context.exit(1)


@main.command()
@click.option(
    "--src", "sources", multiple=True, required=True, metavar="FOLDER|CLASS=FOLDER", help="Pictures, as for build."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder that does not exist yet.")
@click.option("--fraction", type=float, default=1.0, help="Share of the pictures of every split, class and source.")
@click.option("--seed", type=int, default=0, help="Another seed, other pictures.")
@click.option("--where", multiple=True, metavar="CONDITION", help="Only such pictures: width>=512, source=coco,ffhq.")
@click.option("--max-per-source", type=int, default=None, help="At most so many of a source in each split.")
@click.option(
    "--balance",
    default="",
    metavar="NAMES",
    help=f"Pick pictures so that the classes match in these: {','.join(BALANCED)}.",
)
@click.option("--links", is_flag=True, help="Symbolic links instead of copies.")
@click.option("--max-pixels", type=int, default=DEFAULTS.max_pixels, help="Larger pictures are set aside.")
@_cache
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def subset(sources, out, fraction, seed, where, max_per_source, balance, links, max_pixels, cache, as_json) -> None:
    """Draw a subset of a set of pictures, byte for byte, with its data card.

    In this order: --where, --max-per-source, --fraction, --balance.

    \b
    Examples:
      pipeline subset --src kaggle_dir --fraction 0.1 --seed 7 --out tenth
      pipeline subset --src kaggle_dir --balance size,format,quality --out balanced
      pipeline subset --src kaggle_dir --where format=JPEG --where "short>=512" --out large --links
    """
    from data_cards.subset import Selection
    from pipeline.subset import describe_subset, make_subset

    names = tuple(name.strip() for name in balance.split(",")) if balance else ()
    selection = Selection(where, max_per_source, fraction, names, seed)
    made = make_subset(sources, out, selection, links=links, max_pixels=max_pixels, cache=cache)
    print_json(made.as_json()) if as_json else click.echo(describe_subset(made))


@main.command()
@click.argument("places", nargs=-1, required=True, metavar="STORE|DIR...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the card's files  [default: NAME-card]")
@click.option("--diff", is_flag=True, help="Compare the cards of two stores, folders or card.json files.")
@click.option("--max-pixels", type=int, default=DEFAULTS.max_pixels, help="Larger pictures are set aside.")
@_cache
@click.option("--json", "as_json", is_flag=True, help="Print the card, or what differs, as JSON.")
def card(places, out, diff, max_pixels, cache, as_json) -> None:
    """Write the data card of a store or of a folder of pictures.

    Writes card.html (a page with plots), README.md (with a Hugging Face header), croissant.json
    (with Responsible-AI fields), manifest.csv (every picture's hash) and card.json.

    \b
    Examples:
      pipeline card features.zarr
      pipeline card kaggle_dir --out card
      pipeline card --diff kaggle_dir balanced
    """
    from data_cards.compare import compare_cards, describe_comparison
    from pipeline.card import PAGE_FILE, find_card, write_card_files

    if len(places) != (2 if diff else 1):
        raise UsageError(f"{len(places)} places: expected {'two, with --diff' if diff else 'one (two with --diff)'}")
    found = [find_card(place, max_pixels=max_pixels, cache=cache) for place in places]
    if diff:
        differences = compare_cards(found[0][0], found[1][0])
        print_json(differences) if as_json else click.echo(describe_comparison(differences, *places))
        return
    made, pictures = found[0]
    if not pictures:
        raise UsageError(f"{places[0]}: is a card already; name the store or folder that it is of")
    folder = out or Path(f"{made['name']}-card")
    write_card_files(folder, made, pictures)
    print_json(made) if as_json else click.echo(f"{folder / PAGE_FILE}: card of {made['pictures']} pictures")


@main.command()
@click.argument("store", default="features.zarr")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw samples' planes to this file.")
@click.option("--row", "rows", type=int, multiple=True, help="A sample to draw; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def inspect(store, png, rows, as_json) -> None:
    """Show what a feature store is, or how far the build of one has come.

    \b
    Examples:
      pipeline inspect features.zarr
      pipeline inspect features.zarr --png planes.png --row 0 --row 17
    """
    try:
        opened = open_store(store)
    except StoreError:
        try:
            progress = describe_progress(store)
        except UserError:
            progress = None
        if progress is None:
            raise
        print_json(progress) if as_json else click.echo(format_progress(progress))
        return
    facts = describe_store(opened)
    print_json(facts) if as_json else click.echo(format_store(facts))
    if png:
        drawn = draw_samples(opened, list(rows) or None, png)
        click.echo(f"drew rows {', '.join(map(str, drawn))} to {png}", err=True)


@main.command()
@click.argument("store", default="features.zarr")
@click.option("--repair", is_flag=True, help="Make bad shards again from the pictures they came from.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def verify(store, repair, as_json) -> None:
    """Check every shard of a store against its checksum. Exit status 3 when something is damaged.

    \b
    Examples:
      pipeline verify features.zarr
      pipeline verify features.zarr --repair
    """
    found = verify_store(store)
    problems = repair_store(found) if repair else []
    left = verify_store(store) if repair and not found.sound else found
    if as_json:
        print_json(verification_as_json(found, left, problems))
    else:
        click.echo(describe_verification(found, left, problems))
    if not left.sound:
        advice = "what is left needs its source pictures as they were" if repair else "--repair makes bad shards again"
        raise StoreError(f"{store}: is damaged; {advice}")
