"""All of a store but its features: columns, checksums, statistics, provenance, data card, attributes.

They follow from the plan, the shards, and what the source folders say of themselves.
"""

from dataclasses import asdict

import numpy as np
import zarr

from data_cards.audit.audit import Audit
from data_cards.core.console import progress
from data_cards.core.labels import CLASS_NAMES
from data_cards.dataset.simulated import is_simulated
from pipeline.builder.card import make_build_card, read_card_before, write_card
from pipeline.builder.plan import Plan
from pipeline.features.extract import name_planes
from pipeline.features.versions import get_program_version
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.statistics import compute_statistics
from pipeline.store.writer import write_checksums, write_columns, write_statistics

_COLUMN_BLOCK = 16_384  # pictures whose columns are made at a time


def write_tables(plan: Plan, storage: Storage, checksums: list[str], simulated: bool, audit: Audit) -> None:
    """Write all tables of a store whose shards are made."""
    write_plan_columns(plan, storage)
    write_checksums(storage, checksums)
    group = zarr.open_group(storage.url, mode="r+")
    write_plan_statistics(plan, storage, group["features"])
    write_manifest(group, encode_manifest(plan.pictures))
    write_card(group, make_build_card(plan, simulated, audit, read_card_before(storage, group)))


def write_plan_columns(plan: Plan, storage: Storage) -> None:
    """Write the per-sample columns."""
    count = len(plan.pictures)
    blocks = (
        plan.columns(first, min(first + _COLUMN_BLOCK, count))
        for first in progress(range(0, count, _COLUMN_BLOCK), what="columns", unit="blocks")
    )
    write_columns(storage, plan.rows, blocks)


def write_plan_statistics(plan: Plan, storage: Storage, features: zarr.Array) -> None:
    """Measure and write mean and deviation of the training rows."""
    # Of the plan, not of the column: four million texts would be read.
    count = len(plan.pictures)
    is_training = np.fromiter((picture.file.split == "train" for picture in plan.pictures), bool, count)
    training = np.repeat(is_training, plan.variants).nonzero()[0]
    write_statistics(storage, *compute_statistics(features, training))


def make_attributes(plan: Plan) -> dict:
    """Attributes of the store's group, all but `complete` and the signature."""
    return {
        **plan.identity,
        "program": get_program_version(),
        "fingerprint": plan.fingerprint,
        "class_names": list(CLASS_NAMES),
        "planes": list(name_planes(plan.settings.features)),
        "roots": plan.roots,
        "set_aside": [asdict(one) for one in plan.set_aside],
        "simulated": any(is_simulated(root) for root in plan.roots),
    }
