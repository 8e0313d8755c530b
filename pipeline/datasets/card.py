"""`pipeline card`: the card of a store or of a folder of pictures."""

from collections.abc import Sequence
from pathlib import Path

from data_cards.audit.audit import Audit, audit_pictures
from data_cards.card.contents import compute_card
from data_cards.card.files import read_card_file, read_selections, write_card_files
from data_cards.dataset.scan import SetAside, scan_sources
from data_cards.dataset.simulated import is_simulated
from data_cards.dataset.source_info import read_source_info
from data_cards.dataset.table import Picture
from pipeline.features.settings import MAX_PIXELS
from pipeline.features.versions import program_version
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store


def load_card(place: str, *, max_pixels: int = MAX_PIXELS, cache: bool = True) -> tuple[dict, list[Picture]]:
    """The card of a store, of a folder of pictures, or of a card.json; and its pictures, none of a file's.

    Raises
    ------
    UserError : nothing is there, or something that has no card
    """
    path = Path(place)
    if path.is_file():
        return read_card_file(path), []
    if Storage(place).exists("zarr.json"):
        store = open_store(place)
        return {"name": _name(place), **store.card}, store.read_pictures()
    found = scan_sources([place], max_pixels=max_pixels, cache=cache)
    roots = sorted({picture.file.root for picture in found.pictures})
    card = _make_set_card(_name(place), found.pictures, found.set_aside, None, read_selections(roots))
    return card, found.pictures


def write_set_card(
    folder: Path,
    name: str,
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    audit: Audit,
    selection: dict,
    places: Sequence[str],
) -> None:
    """Write the card of a subset into its folder; its selection stands behind those of the sets it came from."""
    roots = sorted({picture.file.root for picture in pictures})
    card = _make_set_card(name, pictures, set_aside, audit, [*read_selections(roots), selection])
    write_card_files(folder, card, pictures, places)


def _make_set_card(
    name: str,
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    audit: Audit | None,
    selections: Sequence[dict],
) -> dict:
    card = compute_card(
        pictures,
        set_aside,
        read_source_info(pictures),
        audit or audit_pictures(pictures),
        selections=selections,
        versions={"program": program_version()},
        simulated=any(is_simulated(root) for root in {picture.file.root for picture in pictures}),
    )
    return {"name": name, **card}


def _name(place: str) -> str:
    return Path(place.rstrip("/").rpartition("://")[2]).resolve().name
