"""Making again what `pipeline verify` found damaged: shards from the source pictures, all else from the store's list.

What is made again replaces damaged files one by one, each whole, and only by what was written
before: killed at any moment, a repair leaves a store no worse, and the next one goes on.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress

import zarr

from data_cards.console import progress, warn
from data_cards.errors import PictureError, UserError
from data_cards.files import read_unchanged
from pipeline.card import make_build_card, write_card
from pipeline.checksum import checksum
from pipeline.lock import lock_folder
from pipeline.plan import Plan
from pipeline.provenance import ARRAY as PICTURES
from pipeline.provenance import pack_pictures, write_provenance
from pipeline.shard import make_shard, make_task
from pipeline.signing import ATTRIBUTES, is_signed, list_arrays, sign
from pipeline.standing import read_attributes
from pipeline.storage import Storage
from pipeline.store import CARD, COLUMNS
from pipeline.tables import write_plan_columns, write_plan_statistics
from pipeline.verify import Verification
from pipeline.versions import feature_versions
from pipeline.writer import (
    create_arrays,
    make_record_folder,
    read_checksums,
    remove_temporary,
    set_attributes,
    shard_file,
    write_checksums,
)

_CHECKSUMS, _FEATURES = "checksums", "features"
_NAMED = 20  # lost pictures of a shard


def repair_store(found: Verification) -> list[str]:
    """Make what is damaged again, in so far as it comes out as it was.

    Returns
    -------
    What could not be repaired, a line each; none when all was.

    Raises
    ------
    UserError : a build or another repair writes there, or has since the check
    """
    if found.sound:
        return []
    if found.plan is None or ATTRIBUTES in found.damage:
        name = ATTRIBUTES if ATTRIBUTES in found.damage else PICTURES
        return [f"{name}: says what the store was made of, and cannot be made again; put it back from a copy"]
    storage = Storage(found.path)
    with lock_folder(storage):
        if read_attributes(storage) != found.attributes:
            with suppress(OSError):  # made for the lock, where a build has moved the store
                os.rmdir(storage.path())
            raise UserError(f"{found.path}: was changed by a build since it was checked; run this again")
        with tempfile.TemporaryDirectory(prefix="repair-") as folder:
            return list(_repair(found, storage, folder))


def _repair(found: Verification, storage: Storage, folder: str) -> Iterator[str]:
    damage, bad, problems = set(found.damage), found.bad, []
    scratch, arrays = Storage(f"{folder}/shards"), Storage(f"{folder}/arrays")
    make_record_folder(scratch)
    create_arrays(arrays, found.plan.rows, found.plan.shard_rows, found.plan.settings)
    try:
        if _CHECKSUMS in damage and not _repair_checksums(found, storage, arrays):
            damage, bad = damage - {_CHECKSUMS}, ()  # then all shards are sound, whatever the damaged list said of them
        checksums = read_checksums(storage)
        for one in progress(bad, what="repair", unit="shards"):
            if one.shard >= found.plan.shards:  # of a damaged list
                continue
            problem = _repair_shard(found, storage, scratch, one.shard, checksums[one.shard])
            if problem:
                problems.append(f"shard {one.shard}: {problem}")
        if _CHECKSUMS in damage:
            problem = _repair_checksums(found, storage, arrays)
            problems = [*problems, problem] if problem else []
        yield from problems
        yield from _repair_arrays(found, damage - {_CHECKSUMS}, storage, arrays, readable=not problems)
        remove_temporary(storage)
    except OSError as error:  # a full disk and the like
        yield _explain(error)


def _repair_checksums(found: Verification, storage: Storage, scratch: Storage) -> str | None:
    """Replace the list of checksums by that of the shards as they are, if it is the one that was signed."""
    write_checksums(scratch, [_checksum_shard(storage, shard) for shard in range(found.plan.shards)])
    if not is_signed(scratch, found.attributes, _CHECKSUMS):
        return f"{_CHECKSUMS}: a shard is damaged too, and it cannot be told which; build the store anew"
    return _replace(found, storage, scratch, _CHECKSUMS)


def _repair_shard(found: Verification, storage: Storage, scratch: Storage, shard: int, wanted: str) -> str | None:
    """Replace one shard's file; what stood in the way, if anything did."""
    try:
        record = make_shard(make_task(found.plan, scratch, shard))
        if record.checksum != wanted:
            return _say_another(found)
        _copy(scratch, storage, shard_file(shard))
    except UserError as error:
        lost = _list_lost(found.plan, shard)
        if not lost:
            return str(error)
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        return f"needs pictures that are gone or have changed: {', '.join(lost[:_NAMED])}{more}"
    except OSError as error:
        return _explain(error)
    finally:
        scratch.remove(shard_file(shard))
    return None


def _list_lost(plan: Plan, shard: int) -> list[str]:
    """A shard's source pictures that are no longer there as they were."""
    lost = []
    for picture, _, _ in plan.shard_pictures(shard):
        try:
            read_unchanged(picture.file.path, picture.facts.sha256)
        except PictureError:
            lost.append(str(picture.file.path))
    return lost


def _repair_arrays(
    found: Verification, damage: set[str], storage: Storage, scratch: Storage, *, readable: bool
) -> Iterator[str]:
    """Repair all but shards and their checksums; `readable` says whether those are sound."""
    plan = found.plan
    if _FEATURES in damage:  # before what is measured with it
        problem = _replace(found, storage, scratch, _FEATURES)
        if problem:
            yield problem
            readable = False
        damage = damage - {_FEATURES}
    statistics = {name for name in damage if name.startswith("statistics")}
    if statistics and not readable:
        yield f"{', '.join(sorted(statistics))}: cannot be measured while shards are damaged"
        damage = damage - statistics
    elif statistics:
        write_plan_statistics(plan, scratch, zarr.open_array(f"{storage.url}/{_FEATURES}", mode="r"))
    if damage & set(COLUMNS):
        write_plan_columns(plan, scratch)
    group = zarr.open_group(scratch.url, mode="r+")
    if PICTURES in damage:
        write_provenance(group, pack_pictures(plan.pictures))
    if CARD in damage:
        write_card(group, make_build_card(plan, found.attributes["simulated"]))
    for name in sorted(damage):
        problem = _replace(found, storage, scratch, name)
        if problem:
            yield problem


def _replace(found: Verification, storage: Storage, scratch: Storage, name: str) -> str | None:
    """Put one array's or group's files, made again, in the place of those that are there; why not, if not."""
    same = is_signed(scratch, found.attributes, name)
    if name != CARD and not same:
        return f"{name}: {_say_another(found)}"
    files = list_arrays(scratch)[name]
    try:
        for file in set(list_arrays(storage).get(name, [])) - set(files):
            storage.remove(file)
        for file in files:
            _copy(scratch, storage, file)
        if not same:  # the source folders say something else of themselves now, or are gone
            warn(f"{name}: made again it is another, because of what is in the source folders now")
            set_attributes(storage, sign(storage, found.attributes, {name}))
    except OSError as error:
        return f"{name}: {_explain(error)}"
    return None


def _say_another(found: Verification) -> str:
    now, made = feature_versions(), found.attributes["versions"]
    differing = [f"{name} {then} then, {now.get(name)} now" for name, then in made.items() if now.get(name) != then]
    why = f" ({'; '.join(differing)})" if differing else ""
    return f"made again it is another{why}; left as it was"


def _copy(scratch: Storage, storage: Storage, file: str) -> None:
    storage.make_folder(file.rpartition("/")[0])
    storage.write(file, scratch.read(file))


def _checksum_shard(storage: Storage, shard: int) -> str:
    try:
        return checksum(storage.read(shard_file(shard)))
    except OSError:
        return bytes(32).hex()


def _explain(error: OSError) -> str:
    return f"{error.filename or 'writing'}: {error.strerror or error}"
