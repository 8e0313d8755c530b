"""Is a store what the build wrote? And making again what is not, from the pictures it came from.

What is made again replaces damaged files one by one, each whole: killed at any moment, a repair
leaves a store no worse than before, and the next one goes on.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import zarr

from data_cards.console import progress
from data_cards.scan import SetAside
from pipeline.card import make_build_card, write_card
from pipeline.checksum import checksum
from pipeline.executor import run_tasks
from pipeline.lock import lock_folder
from pipeline.plan import Plan, take_fingerprint
from pipeline.provenance import ARRAY as PICTURES
from pipeline.provenance import pack_pictures, read_provenance, write_provenance
from pipeline.settings import BuildSettings
from pipeline.shard import make_shard, make_task
from pipeline.signing import ATTRIBUTES, find_damage, is_signed, list_arrays, sign
from pipeline.storage import Storage
from pipeline.store import CARD, COLUMNS, open_group
from pipeline.tables import write_plan_columns, write_plan_statistics
from pipeline.variants import draw_variants
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

_CHECKSUMS = "checksums"


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
    """What a check found.

    Attributes
    ----------
    path : of the store
    attributes : of its group
    plan : what it was built by; None where its list of pictures is damaged
    shards : number of shards that were checked
    bad : those that are damaged
    damage : names of other arrays and groups that are, `ATTRIBUTES` for the store's own attributes
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

    def describe_row(self, row: int) -> str:
        """A row and the picture that it came from."""
        if self.plan is None:
            return f"row {row}"
        number, variant = divmod(row, self.plan.variants)
        picture, settings = self.plan.pictures[number], self.plan.settings
        name = draw_variants(settings.variants, settings.seed, picture.facts.sha256)[variant].name
        return f"row {row}: {picture.file.path} ({name})"


def verify_store(path: str) -> Verification:
    """Hold every shard's file against its recorded checksum, and all else against the store's signature.

    Raises
    ------
    StoreError, UserError : nothing is there, or what is there is no complete store
    """
    group, storage = open_group(path), Storage(path)
    attributes = dict(group.attrs)
    damage = find_damage(storage, attributes)
    plan = None
    try:
        plan = recall_plan(group)
    except Exception:  # what a damaged file's decoder finds
        damage = damage or [PICTURES]
    else:
        identity = {name: attributes.get(name) for name in plan.identity}
        if not damage and take_fingerprint(identity, plan.pictures) != attributes.get("fingerprint"):
            damage = [ATTRIBUTES]
    checksums = read_checksums(storage)
    bad = []
    for shard in progress(range(len(checksums)), what="verify", unit="shards"):
        reason = _check_file(storage, shard, checksums[shard])
        if reason:
            bad.append(BadShard(shard, reason, tuple(_find_bad_rows(group, storage, shard))))
    return Verification(storage.url, attributes, plan, len(checksums), tuple(bad), tuple(damage))


def repair_store(found: Verification) -> list[str]:
    """Make what is damaged again, shards from the source pictures and all else from the store's list of them.

    A shard is replaced only by one with the recorded checksum.

    Returns
    -------
    What could not be repaired, a line each; none when all was.
    """
    if found.sound:
        return []
    if found.plan is None or ATTRIBUTES in found.damage:
        name = PICTURES if found.plan is None else ATTRIBUTES
        return [f"{name}: says what the store was made of, and cannot be made again; put it back from a copy"]
    storage = Storage(found.path)
    with lock_folder(storage), tempfile.TemporaryDirectory(prefix="repair-") as folder:
        problems = list(_repair_shards(found, storage, Storage(f"{folder}/shards")))
        problems += _repair_arrays(found, storage, Storage(f"{folder}/arrays"), readable=not problems)
        remove_temporary(storage)
    return problems


def recall_plan(group: zarr.Group) -> Plan:
    """The plan that a complete store was built by, from its recorded provenance."""
    set_aside = [SetAside(**one) for one in group.attrs.get("set_aside", [])]
    return Plan(read_provenance(group), set_aside, BuildSettings.from_json(group.attrs["settings"]))


def _repair_shards(found: Verification, storage: Storage, scratch: Storage) -> Iterator[str]:
    now = feature_versions()
    made = found.attributes["versions"]
    differing = [f"{name} {then} then, {now[name]} now" for name, then in made.items() if now.get(name) != then]
    checksums = read_checksums(storage)
    make_record_folder(scratch)
    for bad in found.bad:
        file = shard_file(bad.shard)
        ((_, result),) = run_tasks(make_shard, [make_task(found.plan, scratch, bad.shard)], workers=0)
        if isinstance(result, Exception):
            yield f"shard {bad.shard}: {result}"
        elif result.checksum != checksums[bad.shard]:
            why = f" ({'; '.join(differing)})" if differing else ""
            yield f"shard {bad.shard}: made again it is another{why}; left as it was"
        else:
            _copy(scratch, storage, file)
        scratch.remove(file)


def _repair_arrays(found: Verification, storage: Storage, scratch: Storage, *, readable: bool) -> Iterator[str]:
    """Repair all but shards; `readable` says whether those are sound."""
    plan, damage = found.plan, set(found.damage)
    statistics = {name for name in damage if name.startswith("statistics")}
    if statistics and not readable:
        yield f"{', '.join(sorted(statistics))}: cannot be measured while shards are damaged"
        damage -= statistics
    create_arrays(scratch, plan.rows, plan.shard_rows, plan.settings)
    group = zarr.open_group(scratch.url, mode="r+")
    if "features" in damage:
        _copy(scratch, storage, "features/zarr.json")
    if _CHECKSUMS in damage:
        write_checksums(scratch, [_checksum_shard(storage, shard) for shard in range(plan.shards)])
        if not is_signed(scratch, found.attributes, _CHECKSUMS):
            yield f"{_CHECKSUMS}: a shard is damaged too, and it cannot be told which; build the store anew"
            damage -= {_CHECKSUMS}
    if damage & set(COLUMNS):
        write_plan_columns(plan, scratch)
    if damage & statistics:
        write_plan_statistics(plan, scratch, zarr.open_array(f"{storage.url}/features", mode="r"))
    if PICTURES in damage:
        write_provenance(group, pack_pictures(plan.pictures))
    if CARD in damage:
        write_card(group, make_build_card(plan, found.attributes["simulated"]))
    made = list_arrays(scratch)
    for name in damage:
        for file in set(list_arrays(storage).get(name, [])) - set(made[name]):
            storage.remove(file)
        for file in made[name]:
            _copy(scratch, storage, file)
    # A card that says less than the one before, as source folders are gone, is signed too.
    if signed := {name for name in damage if not is_signed(storage, found.attributes, name)}:
        set_attributes(storage, sign(storage, found.attributes, signed))


def _copy(scratch: Storage, storage: Storage, file: str) -> None:
    storage.make_folder(file.rpartition("/")[0])
    storage.write(file, scratch.read(file))


def _checksum_shard(storage: Storage, shard: int) -> str:
    try:
        return checksum([storage.read(shard_file(shard))])
    except OSError:
        return bytes(32).hex()


def _check_file(storage: Storage, shard: int, wanted: str) -> str | None:
    try:
        data = storage.read(shard_file(shard))
    except FileNotFoundError:
        return "its file is missing"
    except OSError as error:
        return f"its file cannot be read ({error.strerror or error})"
    return None if checksum([data]) == wanted else "its checksum differs"


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
