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
from data_cards.core.bounded_json import parse_json
from data_cards.dataset.source_info import read_source_info
from pipeline.builder.plan import Plan
from pipeline.features.versions import get_feature_versions, get_program_version
from pipeline.store.arrays import StoredArrays, name_dimensions, read_values
from pipeline.store.attributes import read_attributes
from pipeline.store.filesystem import Storage
from pipeline.store.schema import CARD, FORMAT_VERSION, Attribute
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
    for one in (before or {}).get("sources", []):
        key = one["class"], one["source"]
        if key in said:
            said[key] = {name: value or one["provenance"].get(name) for name, value in said[key].items()}
    names = [variant.name for variant in settings.draw_variants(bytes(32))]
    return compute_card(
        plan.pictures,
        plan.set_aside,
        said,
        audit or audit_or_warn(plan.pictures),
        selections=read_selections(plan.roots) or (before or {}).get("selections", []),
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
    with suppress(FileNotFoundError, KeyError, RuntimeError, ValueError):  # an unreadable card is not saved
        card = read_values(StoredArrays(storage, {}), CARD).tobytes()
        parse_json(card)
        storage.write(SAVED_CARD, card)


def read_previous_card(storage: Storage) -> dict | None:
    """Read the card that a store had before this build or repair; None for a new store.

    The card of an unfinished build may be incomplete, so it is not used.
    """
    if storage.exists(SAVED_CARD):
        return parse_json(storage.read(SAVED_CARD))
    arrays = StoredArrays(storage, read_attributes(storage))
    is_whole = arrays.attrs.get(Attribute.COMPLETE) and CARD in arrays
    return parse_json(read_values(arrays, CARD).tobytes()) if is_whole else None


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
