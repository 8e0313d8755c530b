"""The metadata of a store: columns, checksums, statistics, provenance, data card, attributes.

The metadata depends only on the plan, the shards, and the data card.
"""

from dataclasses import asdict

import numpy as np
import zarr

from data_cards.core.console import progress_bar
from data_cards.core.labels import CLASS_NAMES, TRAIN
from data_cards.dataset.simulated import is_simulated
from pipeline.builder.card import write_card
from pipeline.builder.plan import Plan
from pipeline.features.extract import name_planes
from pipeline.features.versions import get_program_version
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.schema import FEATURES, Attribute, list_coordinates
from pipeline.store.statistics import compute_statistics
from pipeline.store.writer import write_checksums, write_columns, write_coordinates, write_statistics

_COLUMN_BLOCK = 16_384  # pictures for which columns are computed at a time


def write_metadata(plan: Plan, storage: Storage, checksums: list[str], card: dict) -> None:
    """Write all arrays except those in shards, for a store whose shards are complete."""
    write_plan_columns(plan, storage)
    write_plan_coordinates(plan, storage)
    write_checksums(storage, checksums, plan.format_version)
    group = storage.open_group("r+")
    if plan.settings.features.planes:
        write_plan_statistics(plan, storage, group[FEATURES])
    write_manifest(group, encode_manifest(plan.pictures), plan.format_version)
    write_card(group, card, plan.format_version)


def write_plan_columns(plan: Plan, storage: Storage) -> None:
    """Write the per-sample columns."""
    count = len(plan.pictures)
    blocks = (
        plan.columns(first, min(first + _COLUMN_BLOCK, count))
        for first in progress_bar(range(0, count, _COLUMN_BLOCK), what="columns", unit="blocks")
    )
    write_columns(storage, plan.rows, blocks)


def write_plan_coordinates(plan: Plan, storage: Storage) -> None:
    """Write the names of planes and classes as coordinates."""
    write_coordinates(storage, list_coordinates(name_planes(plan.settings.features), plan.format_version))


def write_plan_statistics(plan: Plan, storage: Storage, features: zarr.Array) -> None:
    """Compute and write the mean and standard deviation of the training rows."""
    # Uses the plan, because the column `split` may hold four million strings.
    count = len(plan.pictures)
    is_training = np.fromiter((picture.file.split == TRAIN for picture in plan.pictures), bool, count)
    training = np.repeat(is_training, plan.variants).nonzero()[0]
    write_statistics(storage, *compute_statistics(features, training), plan.format_version)


def compute_attributes(plan: Plan) -> dict:
    """Return the attributes of a store's group, except `complete` and the digests."""
    return {
        **plan.identity,
        Attribute.PROGRAM: get_program_version(),
        Attribute.FINGERPRINT: plan.fingerprint,
        Attribute.CLASS_NAMES: list(CLASS_NAMES),
        Attribute.PLANES: list(name_planes(plan.settings.features)),
        Attribute.ROOTS: plan.roots,
        Attribute.SET_ASIDE: [asdict(one) for one in plan.set_aside],
        Attribute.SIMULATED: any(is_simulated(root) for root in plan.roots),
    }
