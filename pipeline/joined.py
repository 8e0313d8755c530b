"""Several feature stores read as one: rows one store after the other, statistics over all of them.

A picture that two stores hold is one picture, and near-duplicates are one group, whichever store
they are in. No split may share them: the same file in two splits is refused, and a near-duplicate
of another store's test picture leaves training and validation, one of a validation picture leaves
training.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_cards.errors import UserError
from data_cards.labels import CLASS_NAMES
from pipeline.store import COLUMNS, FeatureStore, open_store

LEFT_OUT = "left out"  # the split of rows that are near-duplicates of another store's held-out pictures


class JoinedFeatures:
    """Features of several stores: (N, planes, H, W), read one row at a time.

    Attributes
    ----------
    shape, dtype : as of a Zarr array
    chunks, shards : of the first store
    """

    def __init__(self, parts: Sequence[FeatureStore]):
        first = parts[0].features
        self._parts = parts
        self.starts = _starts(parts)
        self.shape = (sum(map(len, parts)), *first.shape[1:])
        self.dtype, self.chunks, self.shards = first.dtype, first.chunks, first.shards

    def __getitem__(self, key: int | tuple) -> np.ndarray:
        row, *rest = key if isinstance(key, tuple) else (key,)
        part = self.find_part(row)
        return self._parts[part].features[(row - self.starts[part], *rest)]

    def find_part(self, row: int) -> int:
        """Number of the store that a row is in."""
        return bisect_right(self.starts, row) - 1


@dataclass(frozen=True)
class JoinedStore(FeatureStore):
    """Stores that were built alike, read as one; made by `open_stores`.

    `settings` and `attributes` are the first store's, but for the roots, which are those of all, and
    `simulated`, which is true if any is. There is no `group` and no `card` of all: `parts` have theirs.
    """

    members: tuple[FeatureStore, ...]

    @property
    def parts(self) -> tuple[FeatureStore, ...]:
        """The stores, in the order of their rows."""
        return self.members

    @property
    def card(self) -> None:
        """None: each of `parts` has its own."""

    def locate(self, row: int) -> tuple[FeatureStore, int]:
        """The store that a row is in, and its number there."""
        part = self.features.find_part(row)
        return self.members[part], row - self.features.starts[part]

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Every per-sample column, each of length N; numbers of pictures, groups and roots are those of all stores."""
        parts = self.members
        joined = {name: np.concatenate([part.columns[name] for part in parts]) for name in COLUMNS}
        of_store = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        roots = [0, *accumulate(len(part.attributes.get("roots", [])) for part in parts)]
        joined["root"] = joined["root"] + np.array(roots[:-1], dtype=np.uint16)[of_store]
        joined["picture"] = _number_pictures(parts, joined["sha256"], of_store).astype(np.int32)
        joined["group"] = _number_groups(parts, joined["picture"]).astype(np.int32)
        joined["split"] = _leave_out(joined["split"], joined["group"], of_store)
        return joined

    @cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        # Each store's are those of its training rows, so they count as much as it has of them.
        counts = np.array([len(part.rows("train")) for part in self.members], dtype=np.float64)
        shares = (counts / max(counts.sum(), 1))[:, None, None, None]
        means = np.stack([part.mean for part in self.members]).astype(np.float64)
        mean = (shares * means).sum(axis=0)
        squares = np.stack([part.std for part in self.members]).astype(np.float64) ** 2 + (means - mean) ** 2
        return mean.astype(np.float32), np.sqrt((shares * squares).sum(axis=0)).astype(np.float32)

    @property
    def mean(self) -> np.ndarray:
        """float32 (planes, H, W), in levels: mean of the training rows, of each store as its statistics tell it."""
        return self._statistics[0]

    @property
    def std(self) -> np.ndarray:
        """float32 (planes, H, W), in levels: their standard deviation, by the law of total variance."""
        return self._statistics[1]


def open_stores(paths: Sequence[str]) -> FeatureStore:
    """Open one store, or several as one.

    Raises
    ------
    UserError : one is not there, the same is named twice, they were built differently, or they disagree on a
        picture's split or class
    StoreError : as `pipeline.store.open_store`
    """
    parts = tuple(open_store(path) for path in paths)
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for number, part in enumerate(parts):
        if part.fingerprint in (before.fingerprint for before in parts[:number]):
            raise UserError(f"{part.path}: named twice with --store, or a copy of another; leave it out")
        mine, others = asdict(first.settings.features), asdict(part.settings.features)
        differing = [f"{name} {others[name]} instead of {mine[name]}" for name in mine if others[name] != mine[name]]
        if differing:
            raise UserError(
                f"{part.path}: built with {', '.join(differing)}, so it cannot be joined with {first.path}; "
                "build it as that one was, or leave it out"
            )
    _check_same_pictures(parts)
    return JoinedStore(
        path=" + ".join(part.path for part in parts),
        group=None,
        features=JoinedFeatures(parts),
        settings=first.settings,
        fingerprint=hashlib.sha256(json.dumps([part.fingerprint for part in parts]).encode()).hexdigest(),
        attributes={
            **first.attributes,
            "roots": [root for part in parts for root in part.attributes.get("roots", [])],
            "simulated": any(bool(part.attributes.get("simulated")) for part in parts),
        },
        members=parts,
    )


def _number_pictures(parts: Sequence[FeatureStore], sha256: np.ndarray, of_store: np.ndarray) -> np.ndarray:
    """int64 (N,): numbers of the pictures; a file that several stores hold has the first one's."""
    numbers = _number_on([part.columns["picture"] for part in parts])
    files, of_file = np.unique(sha256.astype(str), return_inverse=True)
    first, first_store, last_store = (np.full(len(files), start) for start in (len(numbers) + numbers.max(), 2**31, -1))
    for least, values in ((first, numbers), (first_store, of_store)):
        np.minimum.at(least, of_file, values)
    np.maximum.at(last_store, of_file, of_store)
    return np.where((first_store < last_store)[of_file], first[of_file], numbers)


def _number_groups(parts: Sequence[FeatureStore], pictures: np.ndarray) -> np.ndarray:
    """int64 (N,): numbers of the groups; two groups with a picture, or a near-duplicate, in common are one."""
    # Here, because they load transforms, which a run on one store has no use for.
    from data_cards.hashes import group_near_duplicates
    from pipeline.provenance import ARRAY, read_provenance

    groups = _number_on([part.columns["group"] for part in parts])
    _, first, same = np.unique(pictures, return_index=True, return_inverse=True)
    pairs = [np.stack([groups, groups[first[same]]])]
    if all(ARRAY in part.group for part in parts):
        tables = [read_provenance(part.group) for part in parts]
        alike = group_near_duplicates(np.concatenate([table.phashes for table in tables]))
        # The group of each picture in these tables, -1 where it has no row.
        known = []
        for part, table, start in zip(parts, tables, _starts(parts), strict=True):
            of_picture = np.full(len(table), -1)
            of_picture[part.columns["picture"]] = groups[start : start + len(part)]
            known.append(of_picture)
        known = np.concatenate(known)
        both = (known >= 0) & (known[alike] >= 0)
        pairs.append(np.stack([known[both], known[alike][both]]))
    one, other = np.concatenate(pairs, axis=1)
    count = int(groups.max(initial=0)) + 1
    return connected_components(coo_array((np.ones(len(one)), (one, other)), (count, count)), directed=False)[1][groups]


def _leave_out(split: np.ndarray, group: np.ndarray, of_store: np.ndarray) -> np.ndarray:
    """The splits, with `LEFT_OUT` for rows that have a near-duplicate further from training in another store."""
    left = split.copy()
    for store in np.unique(of_store):
        for name, further in (("train", ("val", "test")), ("val", ("test",))):
            held = np.unique(group[(of_store != store) & np.isin(split, further)])
            left[(of_store == store) & (split == name) & np.isin(group, held)] = LEFT_OUT
    return left


def _check_same_pictures(parts: Sequence[FeatureStore]) -> None:
    """Raise `UserError` where a file is in different splits, or classes, of two stores."""
    for number, part in enumerate(parts):
        for other in parts[:number]:
            _, mine, theirs = np.intersect1d(
                part.columns["sha256"].astype(str), other.columns["sha256"].astype(str), return_indices=True
            )
            for name, what in (("split", str), ("label", CLASS_NAMES.__getitem__)):
                here, there = part.columns[name][mine], other.columns[name][theirs]
                differing = np.flatnonzero(here != there)
                if len(differing):
                    one = differing[0]
                    raise UserError(
                        f"{part.path}: {part.columns['image'][mine[one]]} is {what(here[one])} here, but "
                        f"{what(there[one])} in {other.path} ({len(differing)} in all); "
                        "build one of the stores without them"
                    )


def _starts(parts: Sequence[FeatureStore]) -> list[int]:
    return [0, *accumulate(map(len, parts))][:-1]


def _number_on(columns: Sequence[np.ndarray]) -> np.ndarray:
    """int64: the numbers of each store behind those of the one before."""
    numbered, start = [], 0
    for values in columns:
        numbered.append(values.astype(np.int64) + start)
        start = int(numbered[-1].max(initial=start - 1)) + 1
    return np.concatenate(numbered)
