"""`pipeline card`: the card of a store or of a folder of pictures."""

from collections.abc import Sequence
from pathlib import Path

from data_cards.archives.names import strip_suffix
from data_cards.archives.place import split_place
from data_cards.audit.audit import Audit, audit_or_warn
from data_cards.card.contents import compute_card
from data_cards.card.files import read_card_file, read_selections, write_card_files
from data_cards.core.errors import UsageError, UserError
from data_cards.core.files import CARD_FILE, ZARR_METADATA
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.histories import add_histories
from data_cards.dataset.packed import is_archive
from data_cards.dataset.scan import SetAside, scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.simulated import is_simulated
from data_cards.dataset.source_info import read_source_info
from data_cards.dataset.table import Picture
from pipeline.features.settings import MAX_PIXELS
from pipeline.features.versions import get_program_version
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store, partial_name


@converts_arguments
def load_cards(
    places: Sequence[str], *, reading: SetSettings | None = None, max_pixels: int = MAX_PIXELS, cache: bool = True
) -> list[dict]:
    """Return the card of each place: a card.json or the folder of a card, a store, or pictures.

    The options are those of `compute_card_of`, for the places that are pictures.

    Raises
    ------
    UsageError : an option for pictures is given, but no place is pictures
    UserError : a place does not exist, or has no card
    """
    files = [_find_card_file(Path(place)) for place in places]
    with_card = [file is not None or _is_store(place) for place, file in zip(places, files, strict=True)]
    if all(with_card):
        check_not_read(places[0], reading, max_pixels)
    options = {"reading": reading, "max_pixels": max_pixels, "cache": cache}
    return [
        read_card_file(file) if file else compute_card_of(place, **({} if has_card else options))[0]
        for place, file, has_card in zip(places, files, with_card, strict=True)
    ]


def check_not_read(place: str, reading: SetSettings | None, max_pixels: int) -> None:
    """Check that no option for reading pictures is given for a store or a card; raises `UsageError`."""
    (reading or SetSettings()).check_unused(place)
    if max_pixels != MAX_PIXELS:
        raise UsageError(
            f"{place}: has its pictures already; leave out --max-pixels {max_pixels} (in Python: max_pixels)"
        )


def _find_card_file(path: Path) -> Path | None:
    """Return the card.json that a path is or, as the folder of a card, contains; None if it is neither."""
    if _is_card_folder(path):
        path /= CARD_FILE
    return path if path.is_file() and not is_archive(path) else None


def _is_card_folder(path: Path) -> bool:
    """Return whether a folder holds the files of a card alone; that of a subset also holds folders of pictures."""
    return (path / CARD_FILE).is_file() and not any(one.is_dir() for one in path.iterdir())


@converts_arguments
def compute_card_of(
    place: str, *, reading: SetSettings | None = None, max_pixels: int = MAX_PIXELS, cache: bool = True
) -> tuple[dict, Sequence[Picture]]:
    """Return the card of a store, or compute that of a folder of pictures; and the pictures.

    Parameters
    ----------
    place : of a store, or of pictures, as one source of a build
    reading : how folders and tables of the pictures are interpreted
    max_pixels : int, larger pictures are set aside
    cache : bool, see `data_cards.dataset.scan.scan_sources`

    Raises
    ------
    UsageError : an option for pictures is given for a store
    UserError : the place does not exist, or has no card
    """
    name = Path(place.rstrip("/").rpartition("://")[2]).resolve().name
    if _is_store(place):
        check_not_read(place, reading, max_pixels)
        store = open_store(place)
        return {"name": name, **store.card}, store.read_pictures()
    if "=" not in place and not Storage(place).exists() and not split_place(place):
        raise UserError(f"{place}: does not exist; expected a feature store, or a folder or archive of pictures")
    return compute_card_of_set([place], reading, max_pixels=max_pixels, cache=cache)


@converts_arguments
def compute_card_of_set(
    sources: Sequence[str],
    reading: SetSettings | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
) -> tuple[dict, Sequence[Picture]]:
    """Compute the card of a set of pictures, named after the first of its folders; and the pictures.

    Parameters
    ----------
    sources : of str, picture folders, as for a build
    reading : how folders and tables of the pictures are interpreted
    max_pixels : int, larger pictures are set aside
    cache : bool, see `data_cards.dataset.scan.scan_sources`

    Raises
    ------
    UserError : no usable picture
    """
    found = scan_sources(sources, reading, max_pixels=max_pixels, cache=cache)
    add_histories(found.pictures, max_pixels=max_pixels, cache=cache)
    name = strip_suffix(Path(found.pictures[0].file.root).name)
    return _compute_set_card(name, found.pictures, found.set_aside, audit_or_warn(found.pictures), []), found.pictures


def write_set_card(
    folder: Path,
    name: str,
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    audit: Audit,
    selection: dict,
    places: Sequence[str],
) -> None:
    """Write the card of a subset into its folder; its selection follows those of the sets that it was drawn from."""
    write_card_files(folder, _compute_set_card(name, pictures, set_aside, audit, [selection]), pictures, places)


def _compute_set_card(
    name: str,
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    audit: Audit,
    selections: Sequence[dict],
) -> dict:
    roots = sorted({picture.file.root for picture in pictures})
    card = compute_card(
        pictures,
        set_aside,
        read_source_info(pictures),
        audit,
        selections=[*read_selections(roots), *selections],
        versions={"program": get_program_version()},
        simulated=any(map(is_simulated, roots)),
    )
    return {"name": name, **card}


def _is_store(place: str) -> bool:
    """Return whether a place is a store, or the name of one whose build has not ended; `open_store` then says so."""
    storage = Storage(place)
    if storage.exists(ZARR_METADATA):
        return True
    return "=" not in place and not storage.exists() and Storage(partial_name(place)).exists()
