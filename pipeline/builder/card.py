"""The data card of a store.

The card is the array `card`, which holds JSON as bytes. It does not name the store, because a store may be renamed.
"""

import json
from contextlib import suppress

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.audit.audit import Audit, audit_or_warn
from data_cards.card.contents import compute_card
from data_cards.card.files import read_selections
from data_cards.core.errors import DAMAGE
from data_cards.dataset.source_info import read_source_info
from pipeline.builder.plan import Plan
from pipeline.features.versions import get_feature_versions, get_program_version
from pipeline.store.arrays import StoredArrays, name_dimensions, read_values
from pipeline.store.attributes import read_attributes
from pipeline.store.filesystem import Storage
from pipeline.store.schema import CARD, FORMAT_VERSION, Attribute
from pipeline.store.stored_card import parse_stored_card
from pipeline.store.writer import RECORD_FOLDER

SAVED_CARD = f"{RECORD_FOLDER}/card.json"  # the card of a store to which a build adds pictures


def compute_build_card(plan: Plan, simulated: bool, audit: Audit | None = None, before: dict | None = None) -> dict:
    """Compute the card of a build.

    Parameters
    ----------
    plan : Plan
    simulated : bool, whether any picture is simulated
    audit : Audit of the pictures; None computes it
    before : dict, card of the store to which the build adds pictures; folders of that store may no longer exist
    """
    settings = plan.settings
    said = read_source_info(plan.pictures)
    for one in before["sources"] if before else ():
        key = one["class"], one["source"]
        if key in said:
            said[key] = {name: value or one["provenance"].get(name) for name, value in said[key].items()}
    names = [variant.name for variant in settings.draw_variants(bytes(32))]
    return compute_card(
        plan.pictures,
        plan.set_aside,
        said,
        audit or audit_or_warn(plan.pictures),
        selections=read_selections(plan.roots) or (before["selections"] if before else []),
        split_rule=(
            f"as the folders give it; without a val folder {settings.val_fraction:g} of each training class and "
            f"source, whole near-duplicate groups, drawn by seed {settings.seed}"
        ),
        variants={"recipe": settings.variants, "names": names},
        settings=settings.to_dict(),
        versions={"program": get_program_version(), **get_feature_versions(profiles=False)},
        simulated=simulated,
    )


def save_card(storage: Storage) -> None:
    """Save a complete store's card before pictures are added, because only it describes folders that were removed."""
    with suppress(FileNotFoundError, RuntimeError, *DAMAGE):  # an unreadable card is not saved
        card = read_values(StoredArrays(storage, {}), CARD).tobytes()
        parse_stored_card(card)
        storage.write(SAVED_CARD, card)


def read_previous_card(storage: Storage) -> dict | None:
    """Read the card that a store had before this build; None for a new store, or if the card is damaged.

    The card of an unfinished build may be incomplete, so the saved one is used.
    """
    with suppress(FileNotFoundError, RuntimeError, *DAMAGE):
        if not read_attributes(storage).get(Attribute.COMPLETE):
            return parse_stored_card(storage.read(SAVED_CARD))
        return parse_stored_card(read_values(StoredArrays(storage, {}), CARD).tobytes())
    return None


def list_descriptions(card: dict) -> tuple[dict, list]:
    """List what a card says that the pictures do not: the stated facts of each source, and the selections."""
    stated = {
        (one["class"], one["source"]): {name: value for name, value in one["provenance"].items() if value}
        for one in card["sources"]
    }
    return stated, card["selections"]


def write_card(group: zarr.Group, card: dict, format_version: int = FORMAT_VERSION) -> None:
    """Write a card as the array `card` of a store."""
    data = np.frombuffer(json.dumps(card, ensure_ascii=False).encode(), dtype=np.uint8)
    array = group.create_array(
        CARD,
        shape=data.shape,
        dtype="uint8",
        chunks=data.shape,
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=name_dimensions(CARD, format_version),
        attributes={"description": "the data card of the store's pictures, as JSON"},
        overwrite=True,
    )
    array[:] = data
