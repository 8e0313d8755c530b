"""Verification of a store: the files that differ from what the build wrote."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from data_cards.core.console import progress_bar
from data_cards.core.errors import UserError
from data_cards.core.files import ZARR_METADATA
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.scan import SetAside
from pipeline.builder.plan import Plan
from pipeline.store.arrays import StoredArrays
from pipeline.store.checksum import CHECKSUM_BYTES
from pipeline.store.digests import find_damage
from pipeline.store.filesystem import Storage
from pipeline.store.fingerprint import compute_fingerprint
from pipeline.store.manifest import read_manifest
from pipeline.store.reader import open_stored_arrays
from pipeline.store.schema import FEATURES, PROVENANCE, Attribute, list_shard_arrays
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import checksum_file, read_checksums


class Damage(Enum):
    """Kinds of damage to a file of a shard."""

    MISSING = "its file is missing"
    UNREADABLE = "its file cannot be read"
    DIFFERS = "its checksum differs"


@dataclass(frozen=True)
class BadFile:
    """A damaged file of a shard.

    Attributes
    ----------
    shard : int, number of the shard
    name : str, of the file, relative to the store
    damage : Damage
    rows : tuple of int, unreadable rows; all rows of the shard if the damage cannot be located
    details : str, the system's error, e.g. "Input/output error"; empty except for `Damage.UNREADABLE`
    """

    shard: int
    name: str
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
    plan : Plan of the store's build; None if the manifest of its pictures is damaged
    shards : int, number of verified shards
    bad : tuple of BadFile
    damage : tuple of str, names of other damaged arrays and groups; `ZARR_METADATA` for the store's own attributes
    """

    path: str
    attributes: dict
    plan: Plan | None
    shards: int
    bad: tuple[BadFile, ...]
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


@converts_arguments
def verify_store(path: str) -> Verification:
    """Compare every file of every shard with its recorded checksum, and all other files with the recorded digests.

    Raises
    ------
    StoreError, UserError : the path has no complete store, or a link leads out of it
    """
    arrays = open_stored_arrays(path)
    storage, attributes = arrays.storage, arrays.attrs
    storage.check_links()
    damage = find_damage(storage, attributes)
    plan = None
    try:
        plan = read_plan(arrays)
    except Exception as error:  # decoders raise many types for damaged data
        if isinstance(error, UserError) and not damage:  # the store is sound, but was built with a removed setting
            raise UserError(f"{storage.url}: {error}") from error
        damage = damage or [PROVENANCE]
    else:
        identity = {name: attributes.get(name) for name in plan.identity}
        if not damage and compute_fingerprint(identity, plan.pictures) != attributes.get(Attribute.FINGERPRINT):
            damage = [ZARR_METADATA]
    checksums, bad = read_checksums(storage), []
    in_shards = list_shard_arrays(attributes.get(Attribute.PLANES, ()), attributes[Attribute.FORMAT_VERSION])
    for shard in progress_bar(range(len(checksums)), what="verify", unit="shards"):
        for number, array in enumerate(in_shards):
            own = slice(2 * CHECKSUM_BYTES * number, 2 * CHECKSUM_BYTES * (number + 1))
            name = shard_file(shard, array)
            damaged, details = _check_file(storage, name, checksums[shard][own])
            if damaged:
                rows = tuple(_find_bad_rows(arrays, storage, shard, array))
                bad.append(BadFile(shard, name, damaged, rows, details))
    return Verification(storage.url, attributes, plan, len(checksums), tuple(bad), tuple(damage))


def read_plan(arrays: StoredArrays) -> Plan:
    """Read the plan of a complete store's build from its manifest."""
    set_aside = [SetAside(**one) for one in arrays.attrs[Attribute.SET_ASIDE]]
    settings = BuildSettings.from_dict(arrays.attrs[Attribute.SETTINGS])
    version = arrays.attrs[Attribute.FORMAT_VERSION]
    return Plan(read_manifest(arrays), set_aside, settings, format_version=version)


def _check_file(storage: Storage, name: str, wanted: str) -> tuple[Damage | None, str]:
    """Return the damage to a shard's file (None if it is sound) and the system's error."""
    try:
        checksum = checksum_file(storage, name)
    except FileNotFoundError:
        return Damage.MISSING, ""
    except OSError as error:
        return Damage.UNREADABLE, error.strerror or str(error)
    return None if checksum == wanted else Damage.DIFFERS, ""


def _find_bad_rows(arrays: StoredArrays, storage: Storage, shard: int, name: str) -> Iterator[int]:
    """Yield the rows of a shard whose chunks in a damaged file cannot be decoded; if all can, yield all its rows.

    The profiles of a shard are one chunk.
    """
    try:
        array = arrays[name]
        rows = (array.shards or array.chunks)[0]
    except Exception:  # the array's metadata is damaged too
        return
    everything = range(shard * rows, min((shard + 1) * rows, array.shape[0]))
    unreadable = []
    for row in everything if name == FEATURES and storage.exists(shard_file(shard)) else ():
        try:
            array[row]
        except Exception:  # decoders raise many types for damaged data
            unreadable.append(row)
    yield from unreadable or everything
