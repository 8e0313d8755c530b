"""A store's signature: by it damage to any file but shards is found; shards have the array `checksums`.

The attribute `arrays` holds a sha256 over all files of each array and group, the attribute `digest`
one over all other attributes. Both are written with `complete`, in one file.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection

from data_cards.core.files import PARTIAL
from pipeline.store.filesystem import Storage
from pipeline.store.writer import RECORD_FOLDER

ROOT_METADATA = "zarr.json"  # how damage to the attributes themselves is named
_ARRAYS, _DIGEST = "arrays", "digest"
_SHARDED = "features"


def add_digests(storage: Storage, attributes: dict, names: Collection[str] | None = None) -> dict:
    """The attributes with the signature of the arrays that stand there; if named, of those alone anew."""
    hashes = {
        name: _hash_files(storage, files)
        for name, files in list_array_files(storage).items()
        if names is None or name in names
    }
    signed = {**attributes, _ARRAYS: hashes if names is None else attributes[_ARRAYS] | hashes}
    return {**signed, _DIGEST: _hash_attributes(signed)}


def find_damage(storage: Storage, attributes: dict) -> list[str]:
    """Names of arrays and groups that are not what was signed, or not there; `ROOT_METADATA` for those of the root."""
    if attributes.get(_DIGEST) != _hash_attributes(attributes) or not _is_framed(storage):
        return [ROOT_METADATA]
    files = list_array_files(storage)
    return [name for name, wanted in attributes[_ARRAYS].items() if _hash_files(storage, files.get(name, [])) != wanted]


def is_digest_valid(storage: Storage, attributes: dict, name: str) -> bool:
    """Whether one array is what was signed."""
    return attributes[_ARRAYS].get(name) == _hash_files(storage, list_array_files(storage).get(name, []))


def list_array_files(storage: Storage) -> dict[str, list[str]]:
    """Files of each array and group below the root, by its name, sorted; without shards."""
    arrays = defaultdict(list)
    for folder in set(storage.list_entries("")) - {RECORD_FOLDER}:
        for name in [f"{_SHARDED}/zarr.json"] if folder == _SHARDED else storage.list_files(folder):
            if "/" in name and not name.endswith(PARTIAL):
                arrays[name.split("/c/")[0].removesuffix("/zarr.json")].append(name)
    return dict(sorted(arrays.items()))


def _hash_files(storage: Storage, files: list[str]) -> str:
    digest = hashlib.sha256()
    for name in files:
        try:
            data = storage.read(name)
        except OSError:  # gone, or on a sector that cannot be read
            return ""
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def _is_framed(storage: Storage) -> bool:
    """Whether around the attributes stands what belongs there; Zarr's own reader does without."""
    metadata = json.loads(storage.read(ROOT_METADATA))
    return (metadata.get("zarr_format"), metadata.get("node_type")) == (3, "group")


def _hash_attributes(attributes: dict) -> str:
    signed = {name: value for name, value in attributes.items() if name != _DIGEST}
    return hashlib.sha256(json.dumps(signed, sort_keys=True).encode()).hexdigest()
