"""`pipeline card`: the card of a store or a folder, as files; and the card that every store carries.

A store holds its card as the array `card`: JSON as bytes, without a name, because the name is that
of the store and may change.
"""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.audit import Audit, audit_pictures
from data_cards.card import CARD_VERSION, make_card
from data_cards.croissant import COLUMNS, MANIFEST, make_croissant
from data_cards.errors import UserError
from data_cards.markdown import write_markdown
from data_cards.page import render_page
from data_cards.pictures import Picture
from data_cards.provenance import read_sources
from data_cards.scan import SetAside, scan_sources
from data_cards.simulated import is_simulated
from pipeline.plan import Plan
from pipeline.provenance import ARRAY as PICTURES
from pipeline.provenance import read_provenance
from pipeline.settings import MAX_PIXELS
from pipeline.storage import Storage
from pipeline.store import CARD, open_store
from pipeline.variants import draw_variants
from pipeline.versions import feature_versions, program_version
from pipeline.writer import RECORDS

CARD_FILE, MARKDOWN_FILE, CROISSANT_FILE, PAGE_FILE = "card.json", "README.md", "croissant.json", "card.html"
KEPT_CARD = f"{RECORDS}/card.json"  # of a store that is being grown
_MOST_BYTES = 50_000_000


def make_build_card(plan: Plan, simulated: bool, audit: Audit | None = None, before: dict | None = None) -> dict:
    """The card of a build; `before` is that of the store it adds to, whose folders may be gone."""
    settings = plan.settings
    said = read_sources(plan.pictures)
    for one in (before or {}).get("sources", []):
        key = one["class"], one["source"]
        if key in said:
            said[key] = {name: value or one["provenance"].get(name) for name, value in said[key].items()}
    names = [variant.name for variant in draw_variants(settings.variants, settings.seed, bytes(32))]
    return make_card(
        plan.pictures,
        plan.set_aside,
        said,
        audit or audit_pictures(plan.pictures),
        selections=_read_selections(plan.roots) or (before or {}).get("selections", []),
        split_rule=(
            f"as the folders give it; without a val folder {settings.val_fraction:g} of each training class and "
            f"source, whole near-duplicate groups, drawn by seed {settings.seed}"
        ),
        variants={"recipe": settings.variants, "names": names},
        settings=settings.as_json(),
        versions={"program": program_version(), **feature_versions()},
        simulated=simulated,
    )


def keep_card(storage: Storage) -> None:
    """Keep a complete store's card beside the plan of its growth: what it knows of gone folders is nowhere else."""
    with suppress(FileNotFoundError, KeyError, RuntimeError, ValueError):  # one that cannot be read is none
        card = zarr.open_array(f"{storage.url}/{CARD}", mode="r")[:].tobytes()
        json.loads(card)
        storage.write(KEPT_CARD, card)


def read_card_before(storage: Storage, group: zarr.Group) -> dict | None:
    """The card that a store had before it was grown, or has while it is repaired; None for a new one.

    That in the group of an unfinished build may be half-written by one that was killed.
    """
    if storage.exists(KEPT_CARD):
        return json.loads(storage.read(KEPT_CARD))
    return json.loads(group[CARD][:].tobytes()) if group.attrs.get("complete") and CARD in group else None


def write_card(group: zarr.Group, card: dict) -> None:
    """Write a card as an array of a store."""
    data = np.frombuffer(json.dumps(card, ensure_ascii=False).encode(), dtype=np.uint8)
    array = group.create_array(
        CARD,
        shape=data.shape,
        dtype="uint8",
        chunks=data.shape,
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("byte",),
        attributes={"description": "the data card of the store's pictures, as JSON"},
        overwrite=True,
    )
    array[:] = data


def find_card(place: str, *, max_pixels: int = MAX_PIXELS, cache: bool = True) -> tuple[dict, list[Picture]]:
    """The card of a store, of a folder of pictures, or of a card.json; and its pictures, none of a file's.

    Raises
    ------
    UserError : nothing is there, or something that has no card
    """
    path = Path(place)
    if path.is_file():
        return _read_file(path), []
    if Storage(place).exists("zarr.json"):
        store = open_store(place)
        pictures = read_provenance(store.group) if PICTURES in store.group else []
        card = store.card
        if card is None:
            raise UserError(f"{place}: was built before stores carried a card; build it again")
        return {"name": _name(place), **card}, pictures
    found = scan_sources([place], max_pixels=max_pixels, cache=cache)
    roots = sorted({picture.file.root for picture in found.pictures})
    card = _make_set_card(_name(place), found.pictures, found.set_aside, None, _read_selections(roots))
    return card, found.pictures


def write_card_files(
    folder: Path, card: dict, pictures: Sequence[Picture], places: Sequence[str] | None = None
) -> None:
    """Write card.json, README.md, croissant.json, card.html and manifest.csv; `places` are the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _make_manifest(pictures, places or [picture.file.image for picture in pictures])
    croissant = make_croissant(card, hashlib.sha256(manifest).hexdigest())
    (folder / MANIFEST).write_bytes(manifest)
    for name, text in (
        (CARD_FILE, json.dumps(card, indent=1, ensure_ascii=False) + "\n"),
        (CROISSANT_FILE, json.dumps(croissant, indent=1, ensure_ascii=False) + "\n"),
        (MARKDOWN_FILE, write_markdown(card)),
        (PAGE_FILE, render_page(card)),
    ):
        (folder / name).write_text(text, encoding="utf-8", errors="replace")


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
    card = _make_set_card(name, pictures, set_aside, audit, [*_read_selections(roots), selection])
    write_card_files(folder, card, pictures, places)


def _make_set_card(
    name: str,
    pictures: Sequence[Picture],
    set_aside: Sequence[SetAside],
    audit: Audit | None,
    selections: Sequence[dict],
) -> dict:
    card = make_card(
        pictures,
        set_aside,
        read_sources(pictures),
        audit or audit_pictures(pictures),
        selections=selections,
        versions={"program": program_version()},
        simulated=any(is_simulated(root) for root in {picture.file.root for picture in pictures}),
    )
    return {"name": name, **card}


def _make_manifest(pictures: Sequence[Picture], places: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for picture, place in sorted(zip(pictures, places, strict=True), key=lambda one: (one[1], one[0].file.root)):
        file, facts = picture.file, picture.facts
        rows.writerow(
            [place, file.split, file.label, file.source, facts.sha256.hex(), facts.bytes, facts.format, facts.width,
             facts.height, facts.quality, picture.group]
        )  # fmt: skip
    return text.getvalue().encode("utf-8", errors="replace")


def _read_selections(roots: Sequence[str]) -> list[dict]:
    """What made the sets that stand in these folders, where they are subsets with a card."""
    selections = []
    for root in roots:
        path = Path(root) / CARD_FILE
        if path.is_file():
            read = [_tidy_selection(path, one) for one in _read_file(path)["selections"]]
            selections += [one for one in read if one not in selections]
    return selections


def _tidy_selection(path: Path, values: dict) -> dict:
    """A selection of a card that anyone may have written, in the shape that ours have."""
    try:
        return {
            "where": [str(one) for one in values["where"]],
            "max_per_source": values["max_per_source"] and int(values["max_per_source"]),
            "fraction": float(values["fraction"]),
            "balance": [str(one) for one in values["balance"]],
            "seed": int(values["seed"]),
            "from": [str(one) for one in values["from"]],
            "steps": [{"step": str(one["step"]), "pictures": int(one["pictures"])} for one in values["steps"]],
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its selection is damaged ({error!r}); draw the subset again") from error


def _read_file(path: Path) -> dict:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("too large")
        card = json.loads(path.read_text(encoding="utf-8"))
        if card["card_version"] != CARD_VERSION:
            raise UserError(f"{path}: a card of version {card['card_version']}, this program reads {CARD_VERSION}")
        for name in ("sources", "audit", "selections", "near_duplicates"):
            card[name]
        return card
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is no data card; expected one that `pipeline card` or `subset` wrote") from error


def _name(place: str) -> str:
    return Path(place.rstrip("/").rpartition("://")[2]).resolve().name
