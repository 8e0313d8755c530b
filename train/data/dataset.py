"""A feature store as a map-style dataset of PyTorch, for training loops of one's own."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from data_cards.core.errors import StoreError, UsageError, UserError
from data_cards.core.value_types import convert_value, converts_arguments
from pipeline.features.settings import KINDS
from pipeline.store.concatenated import open_stores
from pipeline.store.reader import FeatureStore, missing_profiles_error
from pipeline.store.schema import BUILD_PLANES
from train.data.row_reader import RowReader

PROFILE, LEVELS = "profile", "levels"


class FeatureDataset(Dataset):
    """Samples of a feature store, or of several as one, as pairs of features and label.

    An item is `(features, label)`. `features` is a tensor: float32 (755,) for "profile", or uint8 (planes, H, W),
    levels 0 to 255, for "levels". `label` is an int: 0 real, 1 fake. `docs/store.md` explains both features.

    A dataset may be pickled, and shared by the workers of a `DataLoader`: each process opens the store itself, when it
    reads its first item.

    Parameters
    ----------
    store : str or path-like, or a sequence of them
        Folder or URL of a complete feature store. Several stores are read as one; their feature settings must agree.
    split : {"train", "val", "test"} or None
        Use the samples of this split alone; None uses all.
    features : {"profile", "levels"}
        What an item holds.
    variant : str or None
        Use this variant of each picture alone, such as "clean"; None uses all variants.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Row of each item in the store, ascending.
    labels : ndarray of int64, shape (n,)
        Label of each item: 0 real, 1 fake.

    Raises
    ------
    UsageError : an argument has another type or value
    UserError : the store does not exist, or lacks the features or the variant
    StoreError : the store is incomplete or damaged; when an item is read, the message names its picture
    """

    @converts_arguments
    def __init__(
        self,
        store: str | os.PathLike | Sequence[str | os.PathLike],
        split: str | None = "train",
        features: str = PROFILE,
        variant: str | None = None,
    ):
        if features not in (PROFILE, LEVELS):
            raise UsageError(f"features {features}: expected {PROFILE} or {LEVELS}")
        self._paths = [os.fspath(one) for one in ([store] if isinstance(store, str | os.PathLike) else store)]
        self._features = features
        opened = self.store
        if features == PROFILE and not opened.has_profiles:
            raise missing_profiles_error(opened.path)
        if features == LEVELS and not opened.has_planes:
            raise UserError(
                f"{opened.path}: has no planes; use the features {PROFILE}, or build a store: {BUILD_PLANES}"
            )
        self.rows = opened.rows(split, variant)
        self.labels = opened.columns["label"][self.rows].astype(np.int64)

    @property
    def store(self) -> FeatureStore:
        """The store, opened by this process; `store.columns` holds the facts of every row."""
        if getattr(self, "_process", None) != os.getpid():  # new, unpickled, or in a forked worker
            self._store = open_stores(self._paths)
            before = self.__dict__.setdefault("_fingerprint", self._store.fingerprint)
            if self._store.fingerprint != before:
                raise StoreError(f"{self._store.path}: was changed since the dataset was made; make the dataset again")
            self._reader = None
            if self._features == LEVELS and self._store.has_planes:
                kinds = self._store.settings.features.kinds
                self._reader = RowReader(self._store, [KINDS.index(kind) for kind in kinds])
                self._reader.check_complete(skip=False)
                self._reader.detect_layout(np.arange(len(self._store)))
            self._process = os.getpid()
        return self._store

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name not in ("_store", "_reader", "_process")}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> tuple[torch.Tensor, int]:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[tuple[torch.Tensor, int]]:
        """Read several items at once, as a `DataLoader` asks for a batch: each file of the store is read once."""
        items = np.array([convert_value("item", one, int) for one in items], dtype=np.int64)
        rows, store = self.rows[items], self.store
        if self._features == PROFILE:
            values = torch.from_numpy(store.read_profiles(rows))
        else:
            values = self._reader.allocate_levels(len(rows), pinned=False)
            self._reader.read(rows.tolist(), values, 0, skip=False)
        return list(zip(values, self.labels[items].tolist(), strict=True))
