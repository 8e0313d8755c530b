"""SHA-256 digests that detect damage to any file of a store except shards, which have the array `checksums`.

The attribute `arrays` holds a digest of the files of each array and group, and the attribute `digest` one of all other
attributes. Both are written together with `complete`, in one file. Digests have no key: they detect damage, not
forgery.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection

from data_cards.core.files import PARTIAL, ZARR_METADATA
from pipeline.store.attributes import check_attributes
from pipeline.store.filesystem import Storage
from pipeline.store.schema import FEATURES, PROFILES, Attribute
from pipeline.store.writer import RECORD_FOLDER


def add_digests(storage: Storage, attributes: dict, names: Collection[str] | None = None) -> dict:
    """Return the attributes with the digests of all arrays, or with updated digests of the arrays in `names`."""
    hashes = {
        name: _hash_files(storage, files)
        for name, files in list_array_files(storage).items()
        if names is None or name in names
    }
    complete = {**attributes, Attribute.ARRAYS: hashes if names is None else attributes[Attribute.ARRAYS] | hashes}
    return {**complete, Attribute.DIGEST: _hash_attributes(complete)}


def find_damage(storage: Storage, attributes: dict) -> list[str]:
    """List the arrays and groups that are missing or damaged; only `ZARR_METADATA` if that file is damaged."""
    try:
        check_attributes(attributes)
    except ValueError:
        return [ZARR_METADATA]
    if attributes[Attribute.DIGEST] != _hash_attributes(attributes):
        return [ZARR_METADATA]
    files = list_array_files(storage)
    wanted = attributes[Attribute.ARRAYS]
    return [name for name, digest in wanted.items() if _hash_files(storage, files.get(name, [])) != digest]


def is_digest_valid(storage: Storage, attributes: dict, name: str) -> bool:
    """Return whether the files of an array have the recorded digest."""
    return attributes[Attribute.ARRAYS].get(name) == _hash_files(storage, list_array_files(storage).get(name, []))


def list_array_files(storage: Storage) -> dict[str, list[str]]:
    """List the files of each array and group below the root, by name and sorted, without shards."""
    arrays = defaultdict(list)
    for folder in set(storage.list_entries("")) - {RECORD_FOLDER}:
        in_shards = folder in (FEATURES, PROFILES)
        for name in [f"{folder}/{ZARR_METADATA}"] if in_shards else storage.list_files(folder):
            if "/" in name and not name.endswith(PARTIAL):
                arrays[name.split("/c/")[0].removesuffix(f"/{ZARR_METADATA}")].append(name)
    return dict(sorted(arrays.items()))


def _hash_files(storage: Storage, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        try:
            digest.update(f"{name} {storage.size(name)}\n".encode())
            for block in storage.read_blocks(name):
                digest.update(block)
        except OSError:  # removed meanwhile, or on an unreadable sector
            return ""
    return digest.hexdigest()


def _hash_attributes(attributes: dict) -> str:
    hashed = {name: value for name, value in attributes.items() if name != Attribute.DIGEST}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
