"""Verification of a store: which files are not what the build wrote. `pipeline.maintenance.repair` rebuilds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import zarr

from data_cards.core.console import progress
from data_cards.core.errors import UserError
from data_cards.dataset.scan import SetAside
from pipeline.builder.plan import Plan, compute_fingerprint
from pipeline.store.checksum import compute_checksum
from pipeline.store.digests import ROOT_METADATA, find_damage
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import MANIFEST_ARRAY as PICTURES
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import open_store_group
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import read_checksums


class Damage(Enum):
    """What is wrong with a shard's file."""

    MISSING = "its file is missing"
    UNREADABLE = "its file cannot be read"
    DIFFERS = "its checksum differs"


@dataclass(frozen=True)
class BadShard:
    """A shard that is not what was written.

    Attributes
    ----------
    shard : its number
    damage : what is wrong with its file
    rows : rows that cannot be read any more, or that may be wrong; all where the file as a whole is damaged
    """

    shard: int
    damage: Damage
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What a check found.

    Attributes
    ----------
    path : of the store
    attributes : of its group
    plan : what it was built by; None where its list of pictures is damaged
    shards : number of shards that were checked
    bad : those that are damaged
    damage : names of other arrays and groups that are, `ROOT_METADATA` for the store's own attributes
    """

    path: str
    attributes: dict
    plan: Plan | None
    shards: int
    bad: tuple[BadShard, ...]
    damage: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.bad and not self.damage

    def format_row(self, row: int) -> str:
        """A row and the picture that it came from."""
        if self.plan is None:
            return f"row {row}"
        number, variant = divmod(row, self.plan.variants)
        picture, settings = self.plan.pictures[number], self.plan.settings
        name = settings.draw_variants(picture.facts.sha256)[variant].name
        return f"row {row}: {picture.file.path} ({name})"


def verify_store(path: str) -> Verification:
    """Hold every shard's file against its recorded checksum, and all else against the store's signature.

    Raises
    ------
    StoreError, UserError : nothing is there, or what is there is no complete store
    """
    group, storage = open_store_group(path), Storage(path)
    attributes = dict(group.attrs)
    damage = find_damage(storage, attributes)
    plan = None
    try:
        plan = read_plan(group)
    except Exception as error:  # what a damaged file's decoder finds
        if isinstance(error, UserError) and not damage:  # sound, but of settings that are no longer made
            raise UserError(f"{storage.url}: {error}") from error
        damage = damage or [PICTURES]
    else:
        identity = {name: attributes.get(name) for name in plan.identity}
        if not damage and compute_fingerprint(identity, plan.pictures) != attributes.get("fingerprint"):
            damage = [ROOT_METADATA]
    checksums = read_checksums(storage)
    bad = []
    for shard in progress(range(len(checksums)), what="verify", unit="shards"):
        if wrong := _check_file(storage, shard, checksums[shard]):
            bad.append(BadShard(shard, wrong, tuple(_find_bad_rows(group, storage, shard))))
    return Verification(storage.url, attributes, plan, len(checksums), tuple(bad), tuple(damage))


def read_plan(group: zarr.Group) -> Plan:
    """The plan that a complete store was built by, from its recorded provenance."""
    set_aside = [SetAside(**one) for one in group.attrs["set_aside"]]
    return Plan(read_manifest(group), set_aside, BuildSettings.from_dict(group.attrs["settings"]))


def _check_file(storage: Storage, shard: int, wanted: str) -> Damage | None:
    try:
        data = storage.read(shard_file(shard))
    except FileNotFoundError:
        return Damage.MISSING
    except OSError:
        return Damage.UNREADABLE
    return None if compute_checksum(data) == wanted else Damage.DIFFERS


def _find_bad_rows(group: zarr.Group, storage: Storage, shard: int) -> Iterator[int]:
    """Rows of a bad shard whose chunks fail their own checksums; all rows where none does."""
    try:
        features = group["features"]
        rows = features.shards[0]
    except Exception:  # its description is damaged too
        return
    everything = range(shard * rows, min((shard + 1) * rows, features.shape[0]))
    unreadable = []
    for row in everything if storage.exists(shard_file(shard)) else ():
        try:
            features[row]
        except Exception:  # a damaged chunk raises whatever its decoder finds
            unreadable.append(row)
    yield from unreadable or everything
