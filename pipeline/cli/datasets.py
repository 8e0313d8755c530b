"""The commands on sets of pictures, `pipeline audit`, `subset` and `card`: options in, text out."""

from pathlib import Path

import click

from data_cards.audit.audit import FAIL, WARN
from data_cards.core.console import echo, print_json
from data_cards.core.errors import UsageError
from data_cards.core.files import PAGE_FILE
from data_cards.core.options import GroupedCommand, GroupedOption, add_options, option_names
from data_cards.core.split_paths import format_split_paths
from data_cards.core.text import format_count
from data_cards.dataset.settings import FILES, SetSettings
from data_cards.selection.matching import PROPERTIES as BALANCED
from data_cards.selection.subset import Selection
from pipeline.features.settings import MAX_PIXELS, PICTURES

cache_option = click.option(
    "--cache/--no-cache",
    cls=GroupedOption,
    group="Machine",
    default=True,
    help="Remember the facts of files for the next scan.",
)


def source_option(**properties: object):
    """Return the option `--src` of every command that reads a set."""
    return click.option(
        "--src",
        "sources",
        cls=GroupedOption,
        group=FILES,
        multiple=True,
        metavar="FOLDER|CLASS=FOLDER",
        **properties,
    )


def take_set_settings(given: dict) -> SetSettings:
    """Remove the options of `SetSettings` from those of a command; return them as settings."""
    return SetSettings(**{name: given.pop(name) for name in option_names(SetSettings)})


max_pixels_option = click.option(
    "--max-pixels",
    type=int,
    default=MAX_PIXELS,
    cls=GroupedOption,
    group=PICTURES,
    help="Set aside pictures with more pixels (width times height).",
)


_where_option = click.option(
    "--where",
    multiple=True,
    cls=GroupedOption,
    group=PICTURES,
    metavar="CONDITION",
    help="Use only pictures with this property: width>=512, source=coco,ffhq. May be repeated.",
)


@click.command(cls=GroupedCommand)
@source_option(help="Pictures, as for build. May be repeated.")
@add_options(SetSettings)
@click.option(
    "--store",
    cls=GroupedOption,
    group=FILES,
    metavar="STORE",
    help="Audit the pictures that this feature store was built from, with the splits of their folders.",
)
@_where_option
@click.option("--warn", type=float, default=WARN, help="Lowest AUROC of a warning.")
@click.option("--fail", type=float, default=FAIL, help="Highest AUROC of a warning; above it the verdict is fail.")
@click.option(
    "--strict", is_flag=True, help="Exit with 1 if a verdict is fail, or if near-duplicates span splits or classes."
)
@click.option(
    "--contact-sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="PNG file to write, with the near-duplicates across splits and classes, if there are any.",
)
@max_pixels_option
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def audit(
    context, sources, store, where, warn, fail, strict, contact_sheet, max_pixels, cache, as_json, **given
) -> None:
    """Measure how well trivial properties alone separate the classes, and list near-duplicate leakage.

    Five classifiers see only trivial properties: file facts, size and aspect, an 8 x 8 thumbnail, the lowest
    frequencies, and traces of earlier processing. They are scored on pictures, and on sources, to which they were not
    fitted. An AUROC of 0.5 is guessing. The nearer it is to 1, the less a detector needs to learn about generators to
    score well on this set.

    \b
    Examples:
      pipeline audit --src kaggle_dir
      pipeline audit --store features.zarr --strict --json
      pipeline audit --src kaggle_dir --contact-sheet duplicates.png
    """
    from data_cards.audit.audit import Limits
    from pipeline.datasets.audit import audit_dataset, format_audit_result

    result = audit_dataset(
        sources,
        store,
        reading=take_set_settings(given),
        limits=Limits(warn, fail),
        where=where,
        contact_sheet=contact_sheet,
        max_pixels=max_pixels,
        cache=cache,
    )
    print_json(result.to_dict()) if as_json else echo(format_audit_result(result))
    if strict and not result.passes:
        context.exit(1)


@click.command(cls=GroupedCommand)
@source_option(help="Pictures, as for build. May be repeated.")
@add_options(SetSettings)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    required=True,
    cls=GroupedOption,
    group=FILES,
    help="New or empty folder to write.",
)
@click.option(
    "--fraction",
    type=float,
    default=Selection.fraction,
    cls=GroupedOption,
    group=PICTURES,
    help="Share to keep of every split, class and source, above 0, at most 1.",
)
@click.option("--seed", type=int, default=Selection.seed, cls=GroupedOption, group=PICTURES, help="Seed of the draw.")
@_where_option
@click.option(
    "--max-per-source",
    type=int,
    cls=GroupedOption,
    group=PICTURES,
    help="Maximum number of pictures per source in each split.  [default: all]",
)
@click.option(
    "--balance",
    default="",
    show_default="none",
    cls=GroupedOption,
    group=PICTURES,
    metavar="NAMES",
    help=f"Keep pictures so that the classes match in these properties, one or more of {','.join(BALANCED)}.",
)
@click.option("--links", is_flag=True, help="Write symbolic links instead of copies.")
@max_pixels_option
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def subset(
    sources, out, fraction, seed, where, max_per_source, balance, links, max_pixels, cache, as_json, **given
) -> None:
    """Copy a subset of a set of pictures, byte for byte, to a new folder with its data card.

    The steps are applied in this order: --where, --max-per-source, --fraction, --balance.

    \b
    Examples:
      pipeline subset --src kaggle_dir --fraction 0.1 --seed 7 --out tenth
      pipeline subset --src kaggle_dir --balance size,format,quality --out balanced
      pipeline subset --src kaggle_dir --where format=JPEG --where "short>=512" --out large --links
    """
    from pipeline.datasets.subset import format_subset, write_subset

    names = tuple(name.strip() for name in balance.split(",")) if balance else ()
    selection, reading = Selection(where, max_per_source, fraction, names, seed), take_set_settings(given)
    summary = write_subset(sources, out, selection, reading=reading, links=links, max_pixels=max_pixels, cache=cache)
    print_json(summary.to_dict()) if as_json else echo(format_subset(summary))


@click.command(cls=GroupedCommand)
@click.argument("places", nargs=-1, metavar="[STORE|FOLDER...]")
@source_option(help="Pictures, as for build. May be repeated.")
@add_options(SetSettings)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    cls=GroupedOption,
    group=FILES,
    help="Folder of the card's files.  [default: NAME-card]",
)
@click.option("--diff", is_flag=True, help="Compare two cards: of stores, of folders, or written before.")
@max_pixels_option
@cache_option
@click.option("--json", "as_json", is_flag=True, help="Print the card, or the differences, as JSON.")
def card(places, sources, out, diff, max_pixels, cache, as_json, **given) -> None:
    """Write the data card of a store or of a folder of pictures.

    Writes card.html (a page with plots), README.md (with a Hugging Face header), croissant.json
    (with Responsible-AI fields), manifest.csv (every picture's hash) and card.json.

    \b
    Examples:
      pipeline card features.zarr
      pipeline card kaggle_dir --out card
      pipeline card --diff kaggle_dir balanced
    """
    from data_cards.card.diff import compare_cards, format_comparison
    from data_cards.card.files import check_card_folder, write_card_files
    from data_cards.dataset.packed import is_archive
    from pipeline.datasets.card import compute_card_of, compute_card_of_set, load_cards

    reading = take_set_settings(given)
    of_set = bool(sources or reading.labels) and not places
    split = format_split_paths([*sources, *places])
    if split or (sources and places) or (len(places) != (2 if diff else 1) and not (of_set and not diff)):
        expected = (
            "two stores, folders or cards after --diff" if diff else "one store or folder, or pictures with --src"
        )
        found = format_count(len(sources) + len(places), "place")
        raise UsageError("; ".join([f"expected {expected}, got {found}", *split, "see `pipeline card --help`"]))
    options = {"reading": reading, "max_pixels": max_pixels, "cache": cache}
    if diff:
        if out:
            raise UsageError(f"--out {out}: a comparison writes no files; leave it out, or leave out --diff")
        differences = compare_cards(*load_cards(places, **options))
        print_json(differences) if as_json else echo(format_comparison(differences, *places))
        return
    if not of_set and Path(places[0]).is_file() and not is_archive(places[0]):
        raise UsageError(f"{places[0]}: is a file; expected a store, or a folder or archive of pictures")
    if out:
        check_card_folder(out)  # before the work
    contents, pictures = compute_card_of_set(sources, **options) if of_set else compute_card_of(places[0], **options)
    folder = out or Path(f"{contents['name']}-card")
    write_card_files(folder, contents, pictures)
    print_json(contents) if as_json else echo(
        f"{folder / PAGE_FILE}: card of {format_count(contents['pictures'], 'picture')}"
    )
