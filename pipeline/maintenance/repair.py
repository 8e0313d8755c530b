"""Repair of a damaged store: shards are rebuilt from the source pictures, all else from the store's manifest.

Rebuilt files replace damaged ones one at a time, each atomically, and only if their bytes are those that were written
originally. A repair that is killed leaves the store no worse, and the next repair continues.
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from data_cards.archives.place import read_unchanged
from data_cards.core.console import progress_bar, warn
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import ZARR_METADATA
from pipeline.builder.card import compute_build_card, write_card
from pipeline.builder.metadata import write_plan_columns, write_plan_coordinates, write_plan_statistics
from pipeline.builder.plan import Plan
from pipeline.builder.resume import read_attributes
from pipeline.builder.shard_task import build_shard, create_task
from pipeline.maintenance.verify import Verification
from pipeline.store.arrays import StoredArrays
from pipeline.store.checksum import CHECKSUM_BYTES
from pipeline.store.digests import add_digests, is_digest_valid, list_array_files
from pipeline.store.filesystem import Storage
from pipeline.store.lock import writer_lock
from pipeline.store.manifest import encode_manifest, write_manifest
from pipeline.store.schema import CARD, CHECKSUMS, FEATURES, PROVENANCE, SAMPLE_COLUMNS, STATISTICS, Attribute
from pipeline.store.shard_format import shard_file
from pipeline.store.writer import (
    checksum_shard,
    create_arrays,
    create_record_folder,
    read_checksums,
    remove_partial_files,
    write_attributes,
    write_checksums,
)


class Cause(Enum):
    """The reasons why a part of a store cannot be repaired."""

    IS_ORIGINAL = "is original"  # it records what the store was built from
    DIFFERS = "differs"  # its rebuilt bytes differ from those written originally; details: libraries of other versions
    LOST_PICTURES = "lost pictures"  # details: paths of pictures that are gone or have changed
    UNKNOWN_SHARD = "unknown shard"  # the checksums are lost, so it is unknown which shards are damaged too
    DAMAGED_SHARDS = "damaged shards"  # it is computed from shards that are damaged
    FAILED = "failed"  # details: the error


@dataclass(frozen=True)
class Problem:
    """A part of a store that could not be repaired.

    Attributes
    ----------
    part : str, name of an array, a group or a shard
    cause : Cause
    details : tuple of str, see `Cause`
    """

    part: str
    cause: Cause
    details: tuple[str, ...] = ()


class _UnrepairableError(Exception):
    """Error of a part that cannot be repaired, with the cause and details of a `Problem`."""

    def __init__(self, cause: Cause, details: tuple[str, ...] = ()):
        super().__init__(cause, details)
        self.cause, self.details = cause, details


def repair_store(found: Verification) -> list[Problem]:
    """Rebuild the damaged parts of a store, and replace those whose rebuilt bytes equal the original ones.

    Parameters
    ----------
    found : Verification of the store

    Returns
    -------
    list of Problem, the parts that could not be repaired

    Raises
    ------
    UserError : a build or another repair is writing to the store, or has changed it since the verification
    """
    if found.sound:
        return []
    if found.plan is None or ZARR_METADATA in found.damage:
        return [Problem(ZARR_METADATA if ZARR_METADATA in found.damage else PROVENANCE, Cause.IS_ORIGINAL)]
    storage = Storage(found.path)
    with writer_lock(storage):
        storage.check_links()
        if read_attributes(storage) != found.attributes:
            with suppress(OSError):  # the folder was created for the lock, after a build had moved the store
                os.rmdir(storage.path())
            raise UserError(f"{found.path}: a build changed the store since it was checked; run the same command again")
        with tempfile.TemporaryDirectory(prefix="repair-") as folder:
            repair = _Repair(found, found.plan, storage, Storage(f"{folder}/shards"), Storage(f"{folder}/arrays"))
            return list(repair.run())


@dataclass(frozen=True)
class _Repair:
    """A repair in progress.

    Attributes
    ----------
    found : Verification, with the damage
    plan : Plan of the store's build
    storage : Storage of the store
    shards, arrays : Storage, temporary, of rebuilt shards and of rebuilt arrays
    """

    found: Verification
    plan: Plan
    storage: Storage
    shards: Storage
    arrays: Storage

    def run(self) -> Iterator[Problem]:
        """Repair all damaged parts; yield those that could not be repaired."""
        damage, bad = set(self.found.damage), self.found.bad
        if failed := _attempt("temporary files", self.create_temporary_stores):
            yield from failed
            return
        # If only the checksums are damaged, all shards are sound, and `bad` is wrong.
        if CHECKSUMS in damage and not _attempt(CHECKSUMS, self.repair_checksums):
            damage, bad = damage - {CHECKSUMS}, ()
        problems = []
        files = defaultdict(list)
        for one in bad:
            files[one.shard].append(one.name)
        for shard, names in progress_bar(files.items(), what="repair", unit="shards"):
            if shard < self.plan.shards:  # damaged checksums may list more shards
                problems += _attempt(f"shard {shard}", self.repair_shard, shard, names)
        if CHECKSUMS in damage:  # more reliable than problems of shards that were compared with damaged checksums
            problems = _attempt(CHECKSUMS, self.repair_checksums)
        yield from problems
        damage = damage - {CHECKSUMS}
        for array in sorted(
            damage & set(self.plan.shard_arrays)
        ):  # before the statistics, which are computed from them
            problems += (failed := _attempt(array, self.replace, array))
            yield from failed
            damage = damage - {array}
        statistics = {name for name in damage if name.startswith(STATISTICS)}
        if statistics and problems:
            yield Problem(", ".join(sorted(statistics)), Cause.DAMAGED_SHARDS)
            damage, statistics = damage - statistics, set()
        if failed := _attempt("temporary files", self.rebuild_arrays, damage, bool(statistics)):
            yield from failed
            return
        for name in sorted(damage):
            yield from _attempt(name, self.replace, name)
        yield from _attempt("temporary files", remove_partial_files, self.storage)

    def create_temporary_stores(self) -> None:
        """Create the temporary stores for rebuilt shards and arrays."""
        create_record_folder(self.shards)
        plan = self.plan
        create_arrays(self.arrays, plan.rows, plan.shard_rows, plan.settings, plan.shard_arrays, plan.format_version)

    def repair_checksums(self) -> None:
        """Replace the checksums by those of the present shards, if their digest equals the recorded one."""
        checksums = [self.checksum_shard(shard) for shard in range(self.plan.shards)]
        write_checksums(self.arrays, checksums, self.plan.format_version)
        if not is_digest_valid(self.arrays, self.found.attributes, CHECKSUMS):
            raise _UnrepairableError(Cause.UNKNOWN_SHARD)
        self.replace(CHECKSUMS)

    def checksum_shard(self, shard: int) -> str:
        """Compute the checksum of a shard; zeros if a file is missing."""
        arrays = self.plan.shard_arrays
        try:
            return checksum_shard(self.storage, shard, arrays)
        except OSError:
            return "00" * CHECKSUM_BYTES * len(arrays)

    def repair_shard(self, shard: int, names: list[str]) -> None:
        """Rebuild a shard, and replace the files in `names`."""
        try:
            record = build_shard(create_task(self.plan, self.shards, shard))
            if record.checksum != read_checksums(self.storage)[shard]:
                raise self.differs_error()
            for name in names:
                _copy(self.shards, self.storage, name)
        except UserError as error:
            lost = _list_lost(self.plan, shard)
            if lost:
                raise _UnrepairableError(Cause.LOST_PICTURES, lost) from error
            raise
        finally:
            for array in self.plan.shard_arrays:
                self.shards.remove(shard_file(shard, array))

    def rebuild_arrays(self, damage: set[str], statistics: bool) -> None:
        """Rebuild damaged arrays other than shards and checksums in the temporary store."""
        if statistics:
            features = StoredArrays(self.storage, self.found.attributes)[FEATURES]
            write_plan_statistics(self.plan, self.arrays, features)
        if damage & set(SAMPLE_COLUMNS):
            write_plan_columns(self.plan, self.arrays)
        write_plan_coordinates(self.plan, self.arrays)
        group = self.arrays.open_group("r+")
        if PROVENANCE in damage:
            write_manifest(group, encode_manifest(self.plan.pictures), self.plan.format_version)
        if CARD in damage:
            card = compute_build_card(self.plan, self.found.attributes[Attribute.SIMULATED])
            write_card(group, card, self.plan.format_version)

    def replace(self, name: str) -> None:
        """Replace the files of an array or group by the rebuilt ones."""
        same = is_digest_valid(self.arrays, self.found.attributes, name)
        if name != CARD and not same:
            raise self.differs_error()
        files = list_array_files(self.arrays)[name]
        for file in set(list_array_files(self.storage).get(name, [])) - set(files):
            self.storage.remove(file)
        for file in files:
            _copy(self.arrays, self.storage, file)
        if not same:  # the folders' descriptions of their sources have changed, or are gone
            warn(f"{name}: differs from the original after the repair, because the source folders have changed")
            write_attributes(self.storage, add_digests(self.storage, self.found.attributes, {name}))

    def differs_error(self) -> _UnrepairableError:
        """Return the error for rebuilt bytes that differ; its details name the libraries whose versions differ."""
        now, made = self.plan.identity[Attribute.VERSIONS], self.found.attributes[Attribute.VERSIONS]
        return _UnrepairableError(
            Cause.DIFFERS,
            tuple(
                f"{name} {made.get(name, 'of an earlier version')} then, {version} now"
                for name, version in now.items()
                if made.get(name) != version
            ),
        )


def _attempt(part: str, repair: Callable, *arguments: object) -> list[Problem]:
    """Run one step of a repair; return its problem in a list, or an empty list."""
    try:
        repair(*arguments)
    except _UnrepairableError as error:
        return [Problem(part, error.cause, error.details)]
    except UserError as error:
        return [Problem(part, Cause.FAILED, (str(error),))]
    except OSError as error:  # such as a full disk
        return [Problem(part, Cause.FAILED, (f"{error.filename or 'writing'}: {error.strerror or error}",))]
    return []


def _list_lost(plan: Plan, shard: int) -> tuple[str, ...]:
    """Return the paths of a shard's source pictures that are gone or have changed."""
    lost = []
    for picture, _, _ in plan.shard_pictures(shard):
        try:
            read_unchanged(picture.file.path, picture.facts.sha256)
        except PictureError:
            lost.append(str(picture.file.path))
    return tuple(lost)


def _copy(scratch: Storage, storage: Storage, file: str) -> None:
    storage.create_folder(file.rpartition("/")[0])
    storage.write_stream(file, scratch.read_blocks(file))
