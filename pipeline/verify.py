"""Is a store what the build wrote? And making again what is not, from the pictures it came from."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import zarr

from data_cards.console import progress
from data_cards.errors import StoreError
from data_cards.scan import SetAside
from pipeline.build import write_tables
from pipeline.executor import run_tasks
from pipeline.lock import lock_folder
from pipeline.plan import Plan
from pipeline.provenance import read_provenance
from pipeline.shard import make_shard, make_task
from pipeline.storage import Storage
from pipeline.store import FeatureStore, open_store
from pipeline.versions import feature_versions
from pipeline.writer import RECORDS, make_record_folder, shard_file


@dataclass(frozen=True)
class BadShard:
    """A shard that is not what was written.

    Attributes
    ----------
    shard : its number
    reason : what is wrong with its file
    rows : rows that cannot be read any more, or that may be wrong; all where the file as a whole is damaged
    """

    shard: int
    reason: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Verification:
    """What a check found: `damage` names columns and statistics that cannot be read."""

    store: FeatureStore
    shards: int
    bad: tuple[BadShard, ...]
    damage: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return not self.bad and not self.damage

    def describe_row(self, row: int) -> str:
        """A row and the picture that it came from."""
        columns = self.store.columns
        root = self.store.attributes["roots"][columns["root"][row]]
        return f"row {row}: {root}/{columns['image'][row]} ({columns['variant'][row]})"


def verify_store(path: str) -> Verification:
    """Hold every shard's file against its recorded sha256, and read every other array.

    Raises
    ------
    StoreError, UserError : as `open_store`
    """
    store = open_store(path)
    storage = Storage(path)
    damage = tuple(_find_damaged_arrays(store))
    if any(name == "checksums" for name in damage):
        raise StoreError(f"{path}: the checksums are damaged, so nothing can be verified; build the store again")
    checksums = store.group["checksums"][:]
    bad = []
    for shard in progress(range(len(checksums)), what="verify", unit="shards"):
        reason = _check_file(storage, shard, checksums[shard].tobytes())
        if reason:
            bad.append(BadShard(shard, reason, _find_bad_rows(store, shard)))
    return Verification(store, len(checksums), tuple(bad), damage)


def repair_store(verification: Verification) -> list[str]:
    """Make bad shards again from the source pictures.

    A shard is replaced only by one with the recorded checksum.

    Returns
    -------
    Why shards could not be repaired, a line each; none when all were.
    """
    store = verification.store
    storage = Storage(store.path)
    plan = recall_plan(store)
    now = feature_versions()
    differing = [
        f"{name} {made} then, {now[name]} now"
        for name, made in store.attributes["versions"].items()
        if now.get(name) != made
    ]
    problems = []
    checksums = store.group["checksums"][:]
    with lock_folder(storage):
        make_record_folder(storage)
        for bad in verification.bad:
            path, kept = shard_file(bad.shard), None
            if storage.exists(path):
                kept = storage.read(path)
            ((_, result),) = run_tasks(make_shard, [make_task(plan, storage, bad.shard)], workers=0)
            if isinstance(result, Exception):
                problems.append(f"shard {bad.shard}: {result}")
            elif result.sha256 != checksums[bad.shard].tobytes().hex():
                why = f" ({'; '.join(differing)})" if differing else ""
                problems.append(f"shard {bad.shard}: made again it is another{why}; left as it was")
            else:
                continue
            if kept is not None:
                storage.write(path, kept)
        if verification.damage:
            write_tables(plan, storage, [checksum.tobytes().hex() for checksum in checksums])
        storage.remove(RECORDS)
    return problems


def recall_plan(store: FeatureStore) -> Plan:
    """The plan that a complete store was built by, from its recorded provenance."""
    set_aside = [SetAside(**one) for one in store.attributes.get("set_aside", [])]
    return Plan(read_provenance(store.group), set_aside, store.settings)


def _check_file(storage: Storage, shard: int, sha256: bytes) -> str | None:
    try:
        data = storage.read(shard_file(shard))
    except FileNotFoundError:
        return "its file is missing"
    except OSError as error:
        return f"its file cannot be read ({error.strerror or error})"
    return None if hashlib.sha256(data).digest() == sha256 else "its checksum differs"


def _find_bad_rows(store: FeatureStore, shard: int) -> tuple[int, ...]:
    """Rows of a bad shard whose chunks fail their own checksums; all rows where none does."""
    rows = store.features.shards[0]
    everything = tuple(range(shard * rows, min((shard + 1) * rows, len(store))))
    if not Storage(store.path).exists(shard_file(shard)):
        return everything
    unreadable = []
    for row in everything:
        try:
            store.features[row]
        except Exception:  # a damaged chunk raises whatever its decoder finds
            unreadable.append(row)
    return tuple(unreadable) or everything


def _find_damaged_arrays(store: FeatureStore) -> Iterator[str]:
    for name, array in _small_arrays(store.group):
        try:
            array[...]
            # Zarr reads a missing file as zeros, without a word.
            if array.nchunks_initialized < array.nchunks:
                yield name
        except Exception:
            yield name


def _small_arrays(group: zarr.Group) -> Iterator[tuple[str, zarr.Array]]:
    for name, array in group.arrays():
        if name != "features":
            yield name, array
    for name, array in group["statistics"].arrays():
        yield f"statistics/{name}", array
