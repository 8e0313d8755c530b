"""Verification of a store: the files that differ from what the build wrote."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from data_cards.core.console import progress_bar
from data_cards.core.errors import UserError
from data_cards.core.files import ZARR_METADATA
from data_cards.dataset.scan import SetAside
from pipeline.builder.plan import Plan, compute_fingerprint
from pipeline.store.arrays import StoredArrays
from pipeline.store.digests import find_damage
from pipeline.store.filesystem import Storage
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import open_stored_arrays
from pipeline.store.schema import FEATURES, PROVENANCE, Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import checksum_file, read_checksums


class Damage(Enum):
    """The kinds of damage to a shard's file."""

    MISSING = "its file is missing"
    UNREADABLE = "its file cannot be read"
    DIFFERS = "its checksum differs"


@dataclass(frozen=True)
class BadShard:
    """A damaged shard.

    Attributes
    ----------
    shard : int, its number
    damage : Damage
    rows : tuple of int, unreadable rows; all rows of the shard where the damage cannot be located
    details : str, the system's error, e.g. "Input/output error"; empty except for `Damage.UNREADABLE`
    """

    shard: int
    damage: Damage
    rows: tuple[int, ...]
    details: str = ""


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes
    ----------
    path : str, of the store
    attributes : dict, of the store's group
    plan : Plan of the store's build; None where the list of its pictures is damaged
    shards : int, number of verified shards
    bad : tuple of BadShard
    damage : names of other arrays and groups that are, `ZARR_METADATA` for the store's own attributes
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
        """Format a row with the picture and variant of its sample."""
        if self.plan is None:
            return f"row {row}"
        number, variant = divmod(row, self.plan.variants)
        picture, settings = self.plan.pictures[number], self.plan.settings
        name = settings.draw_variants(picture.facts.sha256)[variant].name
        return f"row {row}: {picture.file.path} ({name})"


def verify_store(path: str) -> Verification:
    """Compare every shard's file with its recorded checksum, and all other files with the recorded digests.

    Raises
    ------
    StoreError, UserError : there is no complete store at the path, or a link leads out of it
    """
    arrays = open_stored_arrays(path)
    storage, attributes = arrays.storage, arrays.attrs
    storage.check_links()
    damage = find_damage(storage, attributes)
    plan = None
    try:
        plan = read_plan(arrays)
    except Exception as error:  # decoders raise many types for damaged data
        if isinstance(error, UserError) and not damage:  # undamaged, but built with a setting that was removed
            raise UserError(f"{storage.url}: {error}") from error
        damage = damage or [PROVENANCE]
    else:
        identity = {name: attributes.get(name) for name in plan.identity}
        if not damage and compute_fingerprint(identity, plan.pictures) != attributes.get(Attribute.FINGERPRINT):
            damage = [ZARR_METADATA]
    checksums = read_checksums(storage)
    bad = []
    for shard in progress_bar(range(len(checksums)), what="verify", unit="shards"):
        damaged, details = _check_file(storage, shard, checksums[shard])
        if damaged:
            bad.append(BadShard(shard, damaged, tuple(_find_bad_rows(arrays, storage, shard)), details))
    return Verification(storage.url, attributes, plan, len(checksums), tuple(bad), tuple(damage))


def read_plan(arrays: StoredArrays) -> Plan:
    """Read the plan of a complete store's build from its manifest."""
    set_aside = [SetAside(**one) for one in arrays.attrs[Attribute.SET_ASIDE]]
    return Plan(read_manifest(arrays), set_aside, BuildSettings.from_dict(arrays.attrs[Attribute.SETTINGS]))


def _check_file(storage: Storage, shard: int, wanted: str) -> tuple[Damage | None, str]:
    """Return the damage to a shard's file, None where there is none, and the system's error."""
    try:
        checksum = checksum_file(storage, shard_file(shard))
    except FileNotFoundError:
        return Damage.MISSING, ""
    except OSError as error:
        return Damage.UNREADABLE, error.strerror or str(error)
    return None if checksum == wanted else Damage.DIFFERS, ""


def _find_bad_rows(arrays: StoredArrays, storage: Storage, shard: int) -> Iterator[int]:
    """Yield the rows of a damaged shard whose chunks cannot be decoded; all its rows where every chunk can."""
    try:
        features = arrays[FEATURES]
        rows = features.shards[0]
    except Exception:  # the array's metadata is damaged too
        return
    everything = range(shard * rows, min((shard + 1) * rows, features.shape[0]))
    unreadable = []
    for row in everything if storage.exists(shard_file(shard)) else ():
        try:
            features[row]
        except Exception:  # decoders raise many types for damaged data
            unreadable.append(row)
    yield from unreadable or everything
