"""Facts of a store, or of a build in progress, as plain values and as text."""

from collections import Counter
from contextlib import suppress
from shlex import quote

import numpy as np
import zarr

from data_cards.core.console import format_table
from data_cards.core.errors import DAMAGE, StoreError, UserError
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import Lines, format_bytes, format_count, join_lines
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.table import count_sources
from pipeline.builder.plan import Plan
from pipeline.builder.resume import list_missing, read_attributes, read_base
from pipeline.features.coarse_levels import count_levels
from pipeline.features.settings import COARSE, PLANES_PER_KIND, SQUARE_KINDS
from pipeline.store.filesystem import Storage
from pipeline.store.reader import ZarrStore, open_store, partial_name
from pipeline.store.schema import PROFILES, Attribute
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import ABSENT, decode_index, index_length, shard_file
from pipeline.store.unfinished import format_builder
from pipeline.store.writer import read_shard_records

_TRIES = 3  # a store may be renamed between the search for it and the search for its build
_INDICES_READ = 8  # shards whose index is read for the compression


@converts_arguments
def inspect_place(path: str) -> tuple[ZarrStore | None, dict]:
    """Return the complete store at a path and its facts; or None and the progress of its build.

    Raises
    ------
    UserError : there is neither a store nor a build
    StoreError : the store is damaged or a link leads out of it, or the build has no plan yet
    """
    for place in (path, partial_name(path)):
        Storage(place).check_links()
    for _ in range(_TRIES - 1 if Storage(path).is_local else 0):
        with suppress(UserError):
            return _inspect_once(path)
    return _inspect_once(path)


def _inspect_once(path: str) -> tuple[ZarrStore | None, dict]:
    try:
        store = open_store(path)
        return store, store_to_dict(store)
    except StoreError:
        progress = progress_to_dict(path)
        if progress is None:
            raise
        return None, progress


def store_to_dict(store: ZarrStore) -> dict:
    """Return the facts of a store, ready for JSON."""
    columns = store.columns
    pictures = np.unique(columns["picture"], return_index=True)[1]
    size = Storage(store.path).count_bytes()
    return {
        "store": str(store.path),
        "complete": True,
        "simulated": store.is_simulated,
        "format_version": store.attributes[Attribute.FORMAT_VERSION],
        "fingerprint": store.fingerprint,
        "settings": store.attributes[Attribute.SETTINGS],
        "versions": {"program": store.attributes[Attribute.PROGRAM], **store.attributes[Attribute.VERSIONS]},
        "levels": store.settings.features.levels,
        "samples": len(store),
        **_array_to_dict(store.features),
        "profiles": _array_to_dict(store.profiles),
        "pictures": count_sources(
            (columns["split"][row], CLASS_NAMES[columns["label"][row]], columns["source"][row]) for row in pictures
        ),
        "variants": dict(sorted(Counter(columns["variant"].tolist()).items())),
        "upsampled": int((columns["scale"][pictures] > 1).sum()),
        "set_aside": store.attributes[Attribute.SET_ASIDE],
        "roots": list(store.roots),
        "bytes": size,
        "bytes_per_sample": round(size / len(store)),
        "compression": {kind: round(share, 3) for kind, share in measure_compression(store).items()},
    }


def _array_to_dict(array: zarr.Array | None) -> dict:
    """Return dtype, shape, chunks and shards of an array; each is None if the store lacks the array."""
    if array is None:
        return dict.fromkeys(("dtype", "shape", "chunks", "shards"))
    sides = {"shape": array.shape, "chunks": array.chunks, "shards": array.shards or array.chunks}
    return {"dtype": str(array.dtype), **{name: list(values) for name, values in sides.items()}}


def measure_compression(store: ZarrStore) -> dict[str, float]:
    """Return stored size over raw size of each kind of plane and of the profiles, measured on a few shards."""
    shares = {}
    storage, features = Storage(store.path), store.settings.features
    # Averaged planes hold the coherency in place of the phase.
    kinds = [kind if features.patch is None else kind.replace("phase", "coherency") for kind in features.kinds]
    if store.has_planes:
        rows, _, height, width = store.features.shards
        stored = np.concatenate([read_chunk_sizes(storage, one, rows, len(kinds)) for one in _few_shards(store, rows)])
        raw = np.count_nonzero(stored[:, 0]) * height * width * PLANES_PER_KIND * store.features.dtype.itemsize
        shares = dict(zip(kinds, (stored.sum(axis=0) / raw).tolist(), strict=True))
    if store.has_profiles:
        rows, values = store.profiles.chunks
        few = _few_shards(store, rows)
        raw = sum(min(rows, len(store) - rows * one) for one in few) * values * store.profiles.dtype.itemsize
        shares[PROFILES] = sum(_read_size(storage, one) for one in few) / raw
    return shares


def _few_shards(store: ZarrStore, rows: int) -> list[int]:
    """Return the numbers of a few evenly spaced shards, of `rows` rows each."""
    count = -(-len(store) // rows)
    return np.unique(np.linspace(0, count - 1, _INDICES_READ).astype(int)).tolist()


def _read_size(storage: Storage, shard: int) -> int:
    """Return the size in bytes of the file of a shard's profiles; raises `StoreError` if it is missing."""
    try:
        return storage.size(shard_file(shard, PROFILES))
    except FileNotFoundError as error:
        raise _damage_error(storage, shard) from error


def read_chunk_sizes(storage: Storage, shard: int, rows: int, kinds: int) -> np.ndarray:
    """Read the stored bytes of every chunk of a shard from its index.

    Returns
    -------
    ndarray of int64, shape (rows, kinds); 0 for rows after the store's last

    Raises
    ------
    StoreError : the file has no index
    """
    (tail,) = storage.read_ends([shard_file(shard)], index_length(rows * kinds))
    index = decode_index(tail, rows * kinds)
    if index is None:
        raise _damage_error(storage, shard)
    sizes = index.reshape(rows, kinds, 2)[..., 1]
    return np.where(sizes == ABSENT, 0, sizes).astype(np.int64)


def _damage_error(storage: Storage, shard: int) -> StoreError:
    return StoreError(
        f"{storage.url}: the store is damaged (shard {shard}); run `pipeline verify {quote(storage.url)} --repair`"
    )


def progress_to_dict(path: str) -> dict | None:
    """Return the progress of the build of store `path`, ready for JSON; None without a build or its plan."""
    storage = Storage(partial_name(path))
    try:
        records, size = read_shard_records(storage), storage.count_bytes()
        # Read after the records, which a build removes once the attributes say that the store is complete.
        attributes = read_attributes(storage)
        settings, complete = BuildSettings.from_dict(attributes[Attribute.SETTINGS]), attributes[Attribute.COMPLETE]
        plan = Plan(read_base(storage), [], settings, format_version=attributes[Attribute.FORMAT_VERSION])
    except (FileNotFoundError, UserError, *DAMAGE):  # files appear during a build, and vanish when the store is renamed
        return None
    if not plan.rows:
        return None
    missing = [] if complete else list_missing(plan, records)
    return {
        "store": path,
        "complete": False,
        "settings": settings.to_dict(),
        "fingerprint": plan.fingerprint,
        "versions": dict(attributes[Attribute.VERSIONS]),
        "pictures": len(plan.pictures),
        "samples": plan.rows,
        "shards": plan.shards,
        "shards_done": plan.shards - len(missing),
        "shards_missing": missing,
        "bytes": size,
        "builder": format_builder(storage),
    }


def format_progress(facts: dict) -> Lines:
    """Format the values of `progress_to_dict`."""
    missing = facts["shards_missing"]
    named = ", ".join(map(str, missing[:20])) + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    return join_lines(
        [
            f"{facts['store']}: the build is not finished; {facts['shards_done']} of {facts['shards']} shards are "
            f"done, {format_bytes(facts['bytes'])}",
            f"{facts['pictures']} pictures, {facts['samples']} samples, fingerprint {facts['fingerprint']}",
            f"missing shards: {named or 'none'}",
            facts["builder"],
        ]
    )


def _format_planes(features: dict) -> str:
    """Format the estimator of planes with these settings."""
    parts = [features["estimator"]]
    if features["patch"] is not None:
        parts[0] += f" over patches of {features['patch']} px"
    if features["overview"] is not None:
        parts.append(f"and of the whole picture at {features['overview']} px")
    return ", ".join(parts)


def _format_levels(facts: dict) -> str:
    """Format the levels of the planes."""
    if facts["levels"] != COARSE:
        return f"{facts['levels']}, 256 of each kind"
    counts = zip(SQUARE_KINDS, count_levels(facts["settings"]["features"]["size"]), strict=True)
    return f"{COARSE}, of 256: " + ", ".join(f"{kind} {count}" for kind, count in counts)


def _format_array(array: dict) -> str:
    """Format the values of `_array_to_dict`."""
    if array["shape"] is None:
        return "none"
    sample = " x ".join(map(str, array["shape"][1:]))
    return f"{sample}, {array['dtype']}; chunk {array['chunks']}, shard {array['shards']}"


def format_store(facts: dict) -> Lines:
    """Format the values of `store_to_dict`."""
    settings = facts["settings"]
    features = settings["features"]
    rows = [[*one.values()] for one in facts["pictures"]]
    planes = features["fit"] is not None
    named = [
        ["samples", facts["samples"]],
        ["planes", _format_array(facts)],
        ["profiles", _format_array(facts["profiles"])],
        ["size on disk", f"{format_bytes(facts['bytes'])}, {format_bytes(facts['bytes_per_sample'])} a sample"],
        [
            "compression",
            ", ".join(f"{kind} {share:.2f}" for kind, share in facts["compression"].items()) + " of the raw size",
        ],
        *([["estimator", _format_planes(features)]] if planes else []),
        *([["fit", f"{features['fit']} to {features['size']} px, {features['resample']}"]] if planes else []),
        *([["levels", _format_levels(facts)]] if planes else []),
        ["variants", f"{settings['variants']}: " + ", ".join(f"{k} ({n})" for k, n in facts["variants"].items())],
        *([["upsampled", format_count(facts["upsampled"], "picture")]] if planes else []),
        ["set aside", format_count(len(facts["set_aside"]), "file")],
        ["seed", settings["seed"]],
        ["versions", ", ".join(f"{name} {value}" for name, value in facts["versions"].items())],
        ["fingerprint", facts["fingerprint"]],
        ["made from", ", ".join(facts["roots"])],
    ]
    head = ["simulation: made-up sample pictures"] if facts["simulated"] else []
    table = format_table(rows, ["split", "class", "source", "pictures"])
    return join_lines([*head, table, join_lines(f"{name:13} {value}" for name, value in named)], "\n\n")
