"""Concatenated stores: several feature stores read as one, with statistics over all of them.

A picture of two stores is one picture, and near-duplicates across stores form one group. Splits may not share them: the
same file in two splits is an error; a near-duplicate of another store's test picture is excluded from training and
validation, and one of a validation picture from training.
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

from data_cards.core.errors import UsageError, UserError
from data_cards.core.labels import CLASS_NAMES, TEST, TRAIN, VAL
from data_cards.core.text import format_count
from data_cards.core.value_types import converts_arguments
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.store.columns import check_rows
from pipeline.store.reader import FeatureStore, ZarrStore, open_store
from pipeline.store.schema import SAMPLE_COLUMNS
from pipeline.store.settings import BuildSettings

LEFT_OUT = "left out"  # split of rows that are near-duplicates of another store's held-out pictures


class ConcatenatedFeatures:
    """Features of several stores, (N, planes, H, W), read one row at a time.

    Attributes
    ----------
    shape, dtype : as of a Zarr array
    chunks, shards : of the first store
    """

    def __init__(self, store: "ConcatenatedStore"):
        parts, first = store.parts, store.parts[0].features
        self._locate = store.locate
        self.shape = (sum(map(len, parts)), *first.shape[1:])
        self.dtype, self.chunks, self.shards = first.dtype, first.chunks, first.shards

    def __getitem__(self, key: int | tuple) -> np.ndarray:
        row, *rest = key if isinstance(key, tuple) else (key,)
        part, own = self._locate(row)
        return part.features[(own, *rest)]


@dataclass(frozen=True)
class ConcatenatedStore(FeatureStore):
    """Stores with equal feature settings, read as one (`open_stores`); `settings` are those of the first store."""

    parts: tuple[ZarrStore, ...]

    @property
    def path(self) -> str:
        return " + ".join(part.path for part in self.parts)

    @cached_property
    def features(self) -> ConcatenatedFeatures | None:
        return ConcatenatedFeatures(self) if self.parts[0].has_planes else None

    @property
    def has_profiles(self) -> bool:
        return all(part.has_profiles for part in self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def settings(self) -> BuildSettings:
        return self.parts[0].settings

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps([part.fingerprint for part in self.parts]).encode()).hexdigest()

    @cached_property
    def roots(self) -> tuple[str, ...]:
        return tuple(root for part in self.parts for root in part.roots)

    @property
    def is_simulated(self) -> bool:
        return any(part.is_simulated for part in self.parts)

    @property
    def cards(self) -> tuple[dict, ...]:
        return tuple(card for part in self.parts for card in part.cards)

    @cached_property
    def perceptual_hashes(self) -> np.ndarray:
        return np.concatenate([part.perceptual_hashes for part in self.parts])

    @cached_property
    def _offsets(self) -> list[int]:
        """First row of each store."""
        return [0, *accumulate(map(len, self.parts))][:-1]

    def locate(self, row: int) -> tuple[ZarrStore, int]:
        number = bisect_right(self._offsets, row) - 1
        return self.parts[number], row - self._offsets[number]

    def read_profiles(self, rows: np.ndarray) -> np.ndarray:
        rows = check_rows(rows, len(self))
        profiles = np.empty((len(rows), PROFILE_LENGTH), np.float32)
        of_store = np.searchsorted(self._offsets, rows, side="right") - 1
        for number, part in enumerate(self.parts):
            here = of_store == number
            profiles[here] = part.read_profiles(rows[here] - self._offsets[number])
        return profiles

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """All per-sample columns, each of length N; pictures, groups and roots are numbered across all stores."""
        parts = self.parts
        columns = {name: np.concatenate([part.columns[name] for part in parts]) for name in SAMPLE_COLUMNS}
        of_store = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        roots = [0, *accumulate(len(part.roots) for part in parts)]
        columns["root"] = columns["root"] + np.array(roots[:-1], dtype=np.uint16)[of_store]
        columns["picture"] = _number_pictures(parts, columns["sha256"], of_store).astype(np.int32)
        columns["group"] = self._number_groups(columns["picture"]).astype(np.int32)
        columns["split"] = _exclude_near_duplicates(columns["split"], columns["group"], of_store)
        return columns

    def _number_groups(self, pictures: np.ndarray) -> np.ndarray:
        """Number the groups, int64 (N,); groups that share a picture or a near-duplicate are merged."""
        # Imported here, because it loads transforms, which a run on one store does not need.
        from data_cards.image.perceptual_hash import group_near_duplicates

        groups = _offset_numbers([part.columns["group"] for part in self.parts])
        _, first, same = np.unique(pictures, return_index=True, return_inverse=True)
        # The group of each picture of each store, in the order of their hashes.
        _, own_first = np.unique(_offset_numbers([part.columns["picture"] for part in self.parts]), return_index=True)
        of_hash = groups[own_first]
        similar = of_hash[group_near_duplicates(self.perceptual_hashes)]
        edges = np.concatenate([np.stack([groups, groups[first[same]]]), np.stack([of_hash, similar])], axis=1)
        count = int(groups.max(initial=0)) + 1
        graph = coo_array((np.ones(edges.shape[1]), tuple(edges)), (count, count))
        return connected_components(graph, directed=False)[1][groups]

    @cached_property
    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        # Each store's statistics cover its training rows; their number is the store's weight.
        counts = np.array([len(part.rows(TRAIN)) for part in self.parts], dtype=np.float64)
        shares = (counts / max(counts.sum(), 1))[:, None, None, None]
        means = np.stack([part.mean for part in self.parts]).astype(np.float64)
        mean = (shares * means).sum(axis=0)
        squares = np.stack([part.std for part in self.parts]).astype(np.float64) ** 2 + (means - mean) ** 2
        return mean.astype(np.float32), np.sqrt((shares * squares).sum(axis=0)).astype(np.float32)

    @property
    def mean(self) -> np.ndarray:
        """Mean of the training rows, from each store's statistics: float32 (planes, H, W), in levels."""
        return self._statistics[0]

    @property
    def std(self) -> np.ndarray:
        """Standard deviation of the training rows, by the law of total variance: float32 (planes, H, W), in levels."""
        return self._statistics[1]


@converts_arguments
def open_stores(paths: Sequence[str]) -> FeatureStore:
    """Open one store, or several as one.

    Raises
    ------
    UserError : a store is missing or named twice, their feature settings differ, or they disagree on a picture's
        split or class
    StoreError : as `pipeline.store.reader.open_store`
    """
    if not paths:
        raise UsageError("no feature store is given; give one that `pipeline build` wrote")
    parts = tuple(open_store(path) for path in paths)
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for number, part in enumerate(parts):
        if part.fingerprint in (before.fingerprint for before in parts[:number]):
            raise UserError(f"{part.path}: named twice with --store, or a copy of another store; leave it out")
        mine, others = asdict(first.settings.features), asdict(part.settings.features)
        differing = [f"{name} {others[name]} instead of {mine[name]}" for name in mine if others[name] != mine[name]]
        if differing:
            raise UserError(
                f"{part.path}: built with {', '.join(differing)}, so it cannot be joined with {first.path}; "
                "build it with the same settings, or leave it out"
            )
    _check_same_pictures(parts)
    return ConcatenatedStore(parts)


def _number_pictures(parts: Sequence[ZarrStore], sha256: np.ndarray, of_store: np.ndarray) -> np.ndarray:
    """Number the pictures, int64 (N,); a file of several stores keeps its number from the first store."""
    numbers = _offset_numbers([part.columns["picture"] for part in parts])
    files, of_file = np.unique(sha256.astype(str), return_inverse=True)
    first, first_store, last_store = (np.full(len(files), start) for start in (len(numbers) + numbers.max(), 2**31, -1))
    for least, values in ((first, numbers), (first_store, of_store)):
        np.minimum.at(least, of_file, values)
    np.maximum.at(last_store, of_file, of_store)
    return np.where((first_store < last_store)[of_file], first[of_file], numbers)


def _exclude_near_duplicates(split: np.ndarray, group: np.ndarray, of_store: np.ndarray) -> np.ndarray:
    """Return the splits, with `LEFT_OUT` for rows that leak a held-out picture of another store."""
    left = split.copy()
    for store in np.unique(of_store):
        for name, further in ((TRAIN, (VAL, TEST)), (VAL, (TEST,))):
            held = np.unique(group[(of_store != store) & np.isin(split, further)])
            left[(of_store == store) & (split == name) & np.isin(group, held)] = LEFT_OUT
    return left


def format_left_out(store: FeatureStore) -> list[str]:
    """Format the pictures of each store that neither training nor validation may use, one line for each store."""
    rows = np.flatnonzero(store.columns["split"] == LEFT_OUT)
    places = [store.locate(row) for row in rows.tolist()]
    lines = []
    for part in store.parts:
        own = [row for of, row in places if of is part]
        if own:
            pictures = format_count(len(np.unique(part.columns["picture"][own])), "picture")
            lines.append(
                f"{part.path}: {pictures} ({format_count(len(own), 'sample')}) left out: near-duplicates of validation "
                "or test pictures of another store"
            )
    return lines


def _check_same_pictures(parts: Sequence[ZarrStore]) -> None:
    """Raise `UserError` if a file is in different splits or classes of two stores."""
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


def _offset_numbers(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate the numbers of all stores, each offset behind the previous store's: int64 (N,)."""
    numbered, start = [], 0
    for values in columns:
        numbered.append(values.astype(np.int64) + start)
        start = int(numbered[-1].max(initial=start - 1)) + 1
    return np.concatenate(numbered)
