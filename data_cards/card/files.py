"""Files of a data card in a folder: write them together, and read the card that a set contains."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from data_cards.archives.place import is_file, read_start
from data_cards.card.contents import CARD_VERSION
from data_cards.card.croissant import MANIFEST_COLUMNS, compute_croissant
from data_cards.card.html import format_html
from data_cards.card.markdown import format_markdown
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import (
    CARD_FILE,
    CARD_FILES,
    CROISSANT_FILE,
    MANIFEST,
    MARKDOWN_FILE,
    PAGE_FILE,
    whole_file,
)
from data_cards.core.text import dump_json, escape_cell, replace_surrogates
from data_cards.dataset.table import Picture

_MOST_BYTES = 50_000_000


def check_card_folder(folder: Path) -> None:
    """Check that a folder's files of these names, if there are any, are those of a card; raises `UserError`."""
    found = [name for name in CARD_FILES if (folder / name).exists()]
    if not found:
        return
    try:
        _load_card(folder / CARD_FILE)
    except (PictureError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{folder}: contains {', '.join(found)}, which would be replaced; expected a new folder, or that of a data "
            "card; name another folder with --out (in Python: folder)"
        ) from error


def write_card_files(
    folder: Path, card: dict, pictures: Sequence[Picture], places: Sequence[str] | None = None
) -> None:
    """Write card.json, README.md, croissant.json, card.html and manifest.csv, each atomically.

    Parameters
    ----------
    folder : created if it does not exist; see `check_card_folder`
    card : see `data_cards.card.contents.compute_card`, and the set's `name`
    pictures : of the set
    places : of str, each picture's path for the manifest; None for the paths below their roots

    Raises
    ------
    UserError : the folder has other files of these names
    """
    check_card_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _format_manifest(pictures, places or [picture.file.image for picture in pictures])
    croissant = compute_croissant(card, hashlib.sha256(manifest).hexdigest())
    for name, text in (
        (CARD_FILE, dump_json(card, indent=1) + "\n"),  # first: it shows that the other files are a card's
        (MANIFEST, manifest),
        (CROISSANT_FILE, dump_json(croissant, indent=1) + "\n"),
        (MARKDOWN_FILE, format_markdown(card)),
        (PAGE_FILE, format_html(card)),
    ):
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", errors="replace"))


def read_card_file(path: Path) -> dict:
    """Read a card.json; raises `UserError` if the file is not a card, or has another version."""
    try:
        card = _load_card(path)
        if card["card_version"] != CARD_VERSION:
            raise UserError(f"{path}: a card of another version; expected {CARD_VERSION}, got {card['card_version']}")
        for name in ("sources", "audit", "selections", "near_duplicates"):
            card[name]
        return card
    except PictureError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a data card; expected one that `pipeline card` or `subset` wrote") from error


def _load_card(path: Path) -> dict:
    """Load the JSON of a card of any version; raises `PictureError`, or other errors if it is not a card."""
    data = read_start(path, _MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError("too large")
    card = json.loads(data)
    card["card_version"]
    return card


def read_selections(roots: Sequence[str]) -> list[dict]:
    """Read the selections of the sets in these folders that are subsets with a card."""
    selections = []
    for root in roots:
        path = Path(root) / CARD_FILE
        if is_file(path):
            read = [_normalise_selection(path, one) for one in read_card_file(path)["selections"]]
            selections += [one for one in read if one not in selections]
    return selections


def _normalise_selection(path: Path, values: dict) -> dict:
    """Check a selection of an untrusted card, and keep only the known fields."""
    try:
        return {
            "where": [_read_text(one) for one in values["where"]],
            "max_per_source": values["max_per_source"] and int(values["max_per_source"]),
            "fraction": float(values["fraction"]),
            "balance": [_read_text(one) for one in values["balance"]],
            "seed": int(values["seed"]),
            "from": [_read_text(one) for one in values["from"]],
            "steps": [{"step": _read_text(one["step"]), "pictures": int(one["pictures"])} for one in values["steps"]],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its selection is damaged ({error!r}); draw the subset again") from error


def _read_text(value: object) -> str:
    return replace_surrogates(str(value))


def _format_manifest(pictures: Sequence[Picture], places: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(MANIFEST_COLUMNS)
    for picture, place in sorted(zip(pictures, places, strict=True), key=lambda one: (one[1], one[0].file.root)):
        file, facts = picture.file, picture.facts
        cells = [
            place, file.split, file.label, file.source, facts.sha256.hex(), facts.bytes, facts.format, facts.width,
            facts.height, facts.quality, picture.group,
        ]  # fmt: skip
        rows.writerow(map(escape_cell, cells))
    return text.getvalue().encode("utf-8", errors="replace")
