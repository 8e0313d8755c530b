"""Checks of a build's output path: whether a build can start or resume there, and which shards are missing."""

import hashlib
import os
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote

from data_cards.core.console import note
from data_cards.core.errors import DAMAGE, StoreError, UserError, format_error
from data_cards.core.files import PARTIAL, ZARR_METADATA, is_temporary
from data_cards.core.options import NO_VALUE
from data_cards.core.text import escape_undecodable, is_unicode
from data_cards.dataset.scan import SetAside
from data_cards.dataset.table import PictureTable
from pipeline.builder.metadata import compute_attributes
from pipeline.builder.plan import Plan, compute_identity
from pipeline.features.settings import PICTURES, PLANES
from pipeline.store.arrays import StoredArrays
from pipeline.store.attributes import are_set_aside
from pipeline.store.attributes import read_attributes as read_group_attributes
from pipeline.store.digests import find_damage
from pipeline.store.filesystem import Storage
from pipeline.store.lock import is_locked, locked_error
from pipeline.store.manifest import PLANNED_MANIFEST, decode_manifest, read_manifest
from pipeline.store.reader import partial_name
from pipeline.store.schema import DEFAULT_STORE, FORMAT_VERSION, PROVENANCE, READ_VERSIONS, Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import (
    RECORD_FOLDER,
    ShardRecord,
    list_shards,
    read_checksums,
    read_shard_records,
    write_shard_record,
)

_OTHER_OUT = "choose another --out (in Python: out)"


def check_place(path: str) -> None:
    """Raise `UserError` if a path cannot be the path of a store."""
    if "://" in path:
        return
    if os.path.basename(path) in ("", ".", "..") or os.path.ismount(path):
        raise UserError(
            f"--out {path or repr(path)} (in Python: out): expected a folder that can be created and renamed; "
            f"give a path inside it, such as {os.path.join(path, DEFAULT_STORE)}"
        )
    if not is_unicode(path) or "::" in path:
        raise UserError(
            f"--out {escape_undecodable(path)} (in Python: out): the name is not UTF-8, or holds '::'; choose another"
        )
    if os.path.lexists(path) and not os.path.isdir(path):
        what = "a file" if os.path.exists(path) else "a broken link"
        raise UserError(f"{path}: is {what}; expected a folder or a new name; {_OTHER_OUT}")
    parent = _find_parent(path)
    if not parent.is_dir():
        raise UserError(f"{parent}: is a file; expected a folder; {_OTHER_OUT}")


def check_writable(path: str, *, dry_run: bool = False) -> None:
    """Raise `UserError` if the path of a store is not writable; a dry run does not check object storage."""
    if "://" in path:
        if not dry_run:
            Storage(path).check_writable()
        return
    parent = _find_parent(path)
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{parent}: no permission to write there; {_OTHER_OUT}")


def _find_parent(path: str) -> Path:
    """Return the nearest folder above a path that exists."""
    parent = Path(path).absolute().parent
    while not parent.exists():
        parent = parent.parent
    return parent


def find_store(path: str) -> Storage:
    """Return the store under its own name if it exists, else under its partial name, even if neither exists."""
    storage, partial = Storage(path), Storage(partial_name(path))
    return storage if storage.exists() else partial


def read_attributes(storage: Storage) -> dict:
    """Read the attributes of a complete or partial store; return an empty dict if no store exists."""
    try:
        return read_group_attributes(storage)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise _damage_error(storage, ZARR_METADATA, error) from error


def read_format_version(storage: Storage) -> int:
    """Read the format version of a store; return the present version if none or an unknown one is stored."""
    version = read_attributes(storage).get(Attribute.FORMAT_VERSION)
    return version if version in READ_VERSIONS else FORMAT_VERSION


def compute_state(storage: Storage) -> str:
    """Compute a digest of a store's state; every step of a build changes it."""
    digest = hashlib.sha256()
    for name in (ZARR_METADATA, PLANNED_MANIFEST):
        with suppress(FileNotFoundError):
            for block in storage.read_blocks(name):
                digest.update(block)
        digest.update(b"\n")
    return digest.hexdigest()


def check_unchanged(storage: Storage, path: str, state: str) -> None:
    """Raise `UserError` if another build changed the store since `state`: the plan would remove its pictures."""
    if find_store(path).url == storage.url and compute_state(storage) == state:
        partial = Storage(partial_name(path))
        if storage.url == path and storage.is_local and partial.exists():
            if is_locked(partial):
                raise locked_error(partial)
            raise UserError(
                f"{partial.url}: an unfinished build is beside the store; remove this build, or the store {path}"
            )
        return
    if storage.is_local:
        with suppress(OSError):
            os.rmdir(storage.path())  # created for the lock after the other build renamed the store
    raise UserError(
        f"{path}: another build changed the store while this one read the pictures; run the same command again"
    )


def read_base(storage: Storage) -> PictureTable:
    """Read the pictures of a complete or partial store; return an empty table for a new store."""
    attributes = read_attributes(storage)
    for name, read in (
        (PLANNED_MANIFEST, lambda: decode_manifest(storage.read(PLANNED_MANIFEST))),
        (
            PROVENANCE,
            lambda: read_manifest(StoredArrays(storage, {})),
        ),
    ):
        if storage.exists(name) or (name == PROVENANCE and attributes.get(Attribute.COMPLETE)):
            if Attribute.SETTINGS not in attributes:
                raise _damage_error(storage, ZARR_METADATA, "the settings are missing")
            try:
                return read()
            except Exception as error:  # decoders raise many types for damaged data
                raise _damage_error(storage, name, error) from error
    # A build that was killed at its start leaves a group without pictures, or temporary files under the partial name.
    begun = attributes.get(Attribute.COMPLETE) is False
    left = is_temporary if storage.url.endswith(PARTIAL) else lambda name: False
    if not begun and not all(left(name) for name in storage.list_files()):
        raise UserError(f"{storage.url}: exists but is not a feature store; {_OTHER_OUT}")
    return PictureTable()


def read_set_aside(storage: Storage) -> list[SetAside]:
    """Read the files that the builds of a complete or partial store set aside; none if the record is damaged."""
    stored = read_attributes(storage).get(Attribute.SET_ASIDE)
    return [SetAside(**one) for one in stored] if are_set_aside(stored) else []


def choose_settings(storage: Storage, asked: BuildSettings | None) -> BuildSettings:
    """Return the settings of a build: `asked`, else those of the existing store, else the defaults.

    Raises
    ------
    UserError : the existing store has other settings than `asked`, or was made with other versions of libraries
    """
    attributes = read_attributes(storage)
    if Attribute.SETTINGS not in attributes:
        return asked or BuildSettings()
    own = _read_settings(storage, attributes)
    settings = asked or own
    if settings != own:
        differing = [
            f"{name} is {_show(before)}, {_show(now)} was asked for"
            for name, before, now in _list_differences(asdict(own), asdict(settings))
        ]
        options = " ".join(own.list_options())
        raise UserError(
            f"{storage.url}: was built with other settings: {'; '.join(differing)}; to add to it, leave out every "
            f"option under {PLANES} and {PICTURES}{f', or give {options}' if options else ''}; for other settings, "
            f"{_OTHER_OUT}"
        )
    identity = compute_identity(settings, read_format_version(storage))
    stored = {name: attributes.get(name) for name in identity}
    if differing := _list_differences(stored, identity):
        made = ", ".join(f"{name} {'of an earlier version' if old is None else old}" for name, old, _ in differing)
        present = ", ".join(f"{name} {now}" for name, _, now in differing)
        raise UserError(
            f"{storage.url}: was made with {made}; this program has {present}, whose values can differ; to add to the "
            "store, install the versions that it was made with; or build all pictures again with another --out "
            "(in Python: out)"
        )
    if asked is None and own != BuildSettings():
        note(f"{storage.url}: keeps its settings, {' '.join(own.list_options())}")
    return settings


def _read_settings(storage: Storage, attributes: dict) -> BuildSettings:
    try:
        return BuildSettings.from_dict(attributes[Attribute.SETTINGS])
    except UserError as error:
        raise UserError(f"{storage.url}: {error}, with another --out (in Python: out)") from error
    except DAMAGE as error:
        raise _damage_error(storage, ZARR_METADATA, error) from error


def _list_differences(before: dict, now: dict) -> list[tuple[str, object, object]]:
    """Return name, earlier and present value of each entry that differs, also inside entries that are dicts."""
    before, now = _flatten(before), _flatten(now)
    names = [*now, *(name for name in before if name not in now)]
    return [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def _show(value: object) -> object:
    return NO_VALUE if value is None else value


def _flatten(values: dict) -> dict:
    flat = {}
    for name, value in values.items():
        flat |= _flatten(value) if isinstance(value, dict) else {name: value}
    return flat


def _damage_error(storage: Storage, name: str, error: object) -> StoreError:
    why = format_error(error)
    return StoreError(
        f"{storage.url}: {name} is damaged ({why}), so no pictures can be added; restore the file from a backup, or "
        f"{_OTHER_OUT}"
    )


def is_complete(storage: Storage) -> bool:
    """Return whether a store is marked complete."""
    return read_attributes(storage).get(Attribute.COMPLETE) is True


def is_current(storage: Storage, plan: Plan) -> bool:
    """Return whether a store is complete, under its own name, undamaged, and equal to the plan.

    The bytes of shards are not checked here, but by `pipeline verify`. All other files are small and are checked.
    """
    attributes = read_attributes(storage)
    wanted = compute_attributes(plan)
    return (
        attributes.get(Attribute.COMPLETE) is True
        and all(attributes.get(name) == wanted[name] for name in wanted)
        and not storage.exists(RECORD_FOLDER)
        and not storage.url.endswith(PARTIAL)
        and not find_damage(storage, attributes)
        and list_shards(storage, plan.shard_chunks, plan.shard_arrays) == set(range(plan.shards))
    )


def list_missing(plan: Plan, records: dict[int, ShardRecord]) -> list[int]:
    """Return the shards without a record, or with a record of other content."""
    return [
        shard for shard in range(plan.shards) if shard not in records or records[shard].key != plan.shard_key(shard)
    ]


def predict_missing(storage: Storage, plan: Plan, base: PictureTable) -> list[int]:
    """Return the shards that a build must make, without writing; `base` holds the store's present pictures."""
    if not read_attributes(storage).get(Attribute.COMPLETE):
        return list_missing(plan, read_shard_records(storage))
    kept = _list_kept(storage, plan, base)
    return [shard for shard in range(plan.shards) if shard not in kept]


def restore_records(storage: Storage, plan: Plan, base: PictureTable) -> None:
    """Write records for the shards of a complete store that the plan keeps; `base` holds the store's pictures."""
    checksums = read_checksums(storage)
    if not checksums:
        raise StoreError(
            f"{storage.url}: the checksums are damaged, so no shard can be trusted; "
            f"`pipeline verify {quote(storage.url)} --repair` rebuilds them; if it cannot, give another --out"
        )
    for shard, key in _list_kept(storage, plan, base).items():
        if shard < len(checksums):
            write_shard_record(storage, ShardRecord(shard, key, checksums[shard]))


def _list_kept(storage: Storage, plan: Plan, base: PictureTable) -> dict[int, str]:
    """Return the shards of a complete store that the plan keeps, and their keys."""
    old = replace(plan, pictures=base)
    return {
        shard: key
        for shard in sorted(list_shards(storage, old.shard_chunks, old.shard_arrays))
        if shard < min(old.shards, plan.shards) and (key := old.shard_key(shard)) == plan.shard_key(shard)
    }
