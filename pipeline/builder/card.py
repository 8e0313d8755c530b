"""The data card that every store carries.

It is the array `card`: JSON as bytes, without a name, because the name is that
of the store and may change.
"""

import json
from contextlib import suppress

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from data_cards.audit.audit import Audit, audit_pictures
from data_cards.card.contents import compute_card
from data_cards.card.files import read_selections
from data_cards.dataset.source_info import read_source_info
from pipeline.builder.plan import Plan
from pipeline.features.versions import get_feature_versions, get_program_version
from pipeline.store.filesystem import Storage
from pipeline.store.reader import CARD
from pipeline.store.writer import RECORD_FOLDER

KEPT_CARD = f"{RECORD_FOLDER}/card.json"  # of a store that is being grown


def make_build_card(plan: Plan, simulated: bool, audit: Audit | None = None, before: dict | None = None) -> dict:
    """The card of a build; `before` is that of the store it adds to, whose folders may be gone."""
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
        audit or audit_pictures(plan.pictures),
        selections=read_selections(plan.roots) or (before or {}).get("selections", []),
        split_rule=(
            f"as the folders give it; without a val folder {settings.val_fraction:g} of each training class and "
            f"source, whole near-duplicate groups, drawn by seed {settings.seed}"
        ),
        variants={"recipe": settings.variants, "names": names},
        settings=settings.to_dict(),
        versions={"program": get_program_version(), **get_feature_versions()},
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
