"""Feature store reader: the interface of one or several stores, and a single store (`pipeline.store.schema`)."""

import errno
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from data_cards.core.errors import DAMAGE, StoreError, UnsafeFileError, UsageError, UserError, format_error
from data_cards.core.files import PARTIAL, ZARR_METADATA
from data_cards.core.kind import Kind, find_kind
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.store.arrays import PLANE_AXES, StoredArrays, read_values
from pipeline.store.attributes import check_attributes, read_attributes
from pipeline.store.columns import check_columns, check_rows, choose_rows
from pipeline.store.filesystem import Storage
from pipeline.store.schema import (
    CARD,
    FEATURES,
    MEAN,
    PROFILES,
    PROVENANCE,
    READ_VERSIONS,
    SAMPLE_COLUMNS,
    STD,
    Attribute,
    list_shard_arrays,
)
from pipeline.store.settings import BuildSettings
from pipeline.store.shard_format import decode_profiles, longest_profiles, shard_file
from pipeline.store.stored_card import parse_stored_card
from pipeline.store.unfinished import unfinished_error

if TYPE_CHECKING:
    from data_cards.dataset.table import PictureTable


# Errors of a damaged file; other errors, such as a missing permission, concern the system and not a row.
_DAMAGE = (errno.ENOENT, errno.EIO, errno.EISDIR, errno.ENOTDIR)


class FeatureStore(ABC):
    """A complete feature store, opened for reading: a `ZarrStore`, or several as a `ConcatenatedStore`.

    Attributes
    ----------
    path : str, the store's absolute folder or its URL
    features : zarr array, or an object that reads one row at a time; uint8 (N, planes, H, W), in levels; None in a
        store without planes
    has_profiles : bool, whether every sample has a profile, which `read_profiles` reads
    settings : BuildSettings of the build
    fingerprint : str, hexadecimal sha256 of settings, format version and input hashes
    parts : tuple of ZarrStore, the single stores in the order of their rows
    """

    path: str
    features: zarr.Array | None
    has_profiles: bool
    settings: BuildSettings
    fingerprint: str
    parts: tuple["ZarrStore", ...]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of rows."""

    @property
    def has_planes(self) -> bool:
        """Whether every sample has planes, the levels of `features`."""
        return self.features is not None

    @abstractmethod
    def read_profiles(self, rows: np.ndarray) -> np.ndarray:
        """Read the profiles of rows, in any order.

        Parameters
        ----------
        rows : ndarray of int, shape (n,)

        Returns
        -------
        ndarray of float32, shape (n, 755); see `pipeline.features.profiles`

        Raises
        ------
        StoreError : a profile cannot be read; the message names the sample
        UserError : the store has no profiles
        IndexError : a row does not exist
        """

    @property
    @abstractmethod
    def columns(self) -> dict[str, np.ndarray]:
        """All per-sample columns (`SAMPLE_COLUMNS`), each of length N; texts are arrays of str objects."""

    @property
    @abstractmethod
    def mean(self) -> np.ndarray:
        """Mean of the training rows: float32 (planes, H, W), in levels 0 to 255."""

    @property
    @abstractmethod
    def std(self) -> np.ndarray:
        """Standard deviation of the training rows: float32 (planes, H, W), in levels; may contain zeros."""

    @property
    @abstractmethod
    def roots(self) -> tuple[str, ...]:
        """Folders of the pictures; the column `root` holds indices into them."""

    @property
    @abstractmethod
    def is_simulated(self) -> bool:
        """Whether any picture is simulated."""

    @property
    @abstractmethod
    def cards(self) -> tuple[dict, ...]:
        """Data card (`data_cards.card.contents`) of each single store."""

    @property
    @abstractmethod
    def perceptual_hashes(self) -> np.ndarray:
        """Hash of every picture, by its number in the column `picture`: uint8 (pictures, bytes)."""

    @abstractmethod
    def locate(self, row: int) -> tuple["ZarrStore", int]:
        """Return the single store of a row, and the row's number there."""

    def rows(self, split: str | None, variant: str | None = None) -> np.ndarray:
        """Return the row numbers (int64, ascending) of a split, or of all (None); of one variant, or of all (None).

        Raises `UsageError` for an unknown split, and `UserError` for a variant that the store does not have.
        """
        return choose_rows(self.path, self.columns, split, variant)

    def picture_path(self, row: int) -> Path:
        """Return the path of a row's picture file at the time of the build."""
        return Path(self.roots[self.columns["root"][row]], self.columns["image"][row])


@dataclass(frozen=True)
class ZarrStore(FeatureStore):
    """A single feature store.

    Attributes
    ----------
    arrays : StoredArrays, all arrays of the store by name
    profiles : zarr array, float32 (N, 755); None in a store of format version 2
    attributes : dict, attributes of the store's group
    path, features, settings, fingerprint : see `FeatureStore`
    """

    path: str
    arrays: StoredArrays
    features: zarr.Array | None
    profiles: zarr.Array | None
    settings: BuildSettings
    fingerprint: str
    attributes: dict

    def __len__(self) -> int:
        return (self.profiles if self.features is None else self.features).shape[0]

    @property
    def has_profiles(self) -> bool:
        return self.profiles is not None

    @property
    def parts(self) -> tuple["ZarrStore", ...]:
        """A tuple of the store itself."""
        return (self,)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        return {
            name: self._read(name).astype(object if kind == "string" else kind)
            for name, (kind, _) in SAMPLE_COLUMNS.items()
        }

    @cached_property
    def mean(self) -> np.ndarray:
        return self._read(MEAN) if self.has_planes else np.zeros((0, 0, 0), np.float32)

    @cached_property
    def std(self) -> np.ndarray:
        return self._read(STD) if self.has_planes else np.zeros((0, 0, 0), np.float32)

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(self.attributes[Attribute.ROOTS])

    @property
    def is_simulated(self) -> bool:
        return self.attributes[Attribute.SIMULATED]

    @cached_property
    def card(self) -> dict:
        """Data card of the pictures (`data_cards.card.contents`)."""
        return self._read(CARD, parse_stored_card)

    @property
    def cards(self) -> tuple[dict, ...]:
        return (self.card,)

    @cached_property
    def perceptual_hashes(self) -> np.ndarray:
        return self.read_pictures().phashes

    def read_pictures(self) -> "PictureTable":
        """Read the pictures of the store, in the order of their rows."""
        # Imported here, because it loads transforms, which training does not need.
        from pipeline.store.manifest import decode_manifest

        return self._read(PROVENANCE, decode_manifest)

    def locate(self, row: int) -> tuple["ZarrStore", int]:
        return self, row

    def read_profiles(self, rows: np.ndarray) -> np.ndarray:
        if self.profiles is None:
            raise missing_profiles_error(self.path)
        rows = check_rows(rows, len(self))
        storage, shard_rows = Storage(self.path), self.profiles.chunks[0]
        profiles = np.empty((len(rows), PROFILE_LENGTH), np.float32)
        shards = rows // shard_rows
        for shard in np.unique(shards).tolist():  # each file is read whole, once
            here = np.flatnonzero(shards == shard)
            try:
                data = storage.read(shard_file(shard, PROFILES), longest_profiles(shard_rows))
                profiles[here] = decode_profiles(data, shard_rows)[rows[here] - shard * shard_rows]
            except UnsafeFileError:
                raise
            except Exception as error:  # decoders and storages raise many types
                raise row_error(self, int(rows[here[0]]), error) from error
        return profiles

    def _read(self, name: str, parse: Callable[[bytes], Any] | None = None) -> Any:
        """Read an array's values, or their bytes parsed by `parse`."""
        try:
            values = read_values(self.arrays, name)
            return values if parse is None else parse(values.tobytes())
        except PermissionError as error:
            raise _permission_error(self.path, error) from error
        except UnsafeFileError:
            raise
        except Exception as error:  # decoders raise many types
            self.arrays.storage.check_links()  # Zarr reports a file behind a link as missing
            raise _damage_error(self.path, name, error) from error


def row_error(store: ZarrStore, row: int, error: Exception) -> StoreError:
    """Return the error for a row that cannot be read."""
    reason = re.sub(r"\bb(['\"])(.*)\1", r"\2", format_error(error))  # numcodecs puts bytes into its messages
    image = store.columns["image"][row]
    advice = "fix the cause and resume"
    if is_damage(error):
        advice = f"the store is damaged; `pipeline verify {quote(store.path)} --repair` rebuilds it"
    return StoreError(f"{store.path}: row {row} ({image}) cannot be read ({reason}); {advice}")


def is_damage(error: Exception) -> bool:
    """Return whether a read error comes from a damaged file, and not from the system, such as a missing permission."""
    return not isinstance(error, OSError) or error.errno in _DAMAGE


def missing_profiles_error(path: str) -> UserError:
    """Return the error for a store of an earlier version, which has no profiles."""
    return UserError(f"{path}: has no profiles, because an earlier version of this program built it; build it again")


def partial_name(path: str | os.PathLike) -> str:
    """Return the path of a store during its build: with a suffix locally, unchanged in object storage."""
    name = os.fspath(path).rstrip("/")
    return name if "://" in name else name + PARTIAL


def open_store(path: str | os.PathLike) -> ZarrStore:
    """Open a complete store in a local folder or object storage (s3://...).

    Raises
    ------
    UserError : the path does not exist
    StoreError : not a store, or incomplete, damaged or of an unknown format version
    """
    arrays = open_stored_arrays(path)
    storage, attributes = arrays.storage, arrays.attrs
    path = storage.url
    try:
        check_attributes(attributes)
        settings = BuildSettings.from_dict(attributes[Attribute.SETTINGS])
    except UserError as error:  # of a removed option
        raise StoreError(f"{path}: {error}") from error
    except DAMAGE as error:
        raise _damage_error(path, ZARR_METADATA, error) from error
    in_shards = list_shard_arrays(attributes[Attribute.PLANES], attributes[Attribute.FORMAT_VERSION])
    if not in_shards:
        raise _damage_error(path, ZARR_METADATA, "neither planes nor profiles")
    opened, name = {}, FEATURES
    try:
        for name in in_shards:
            opened[name] = arrays[name]
        store = ZarrStore(
            path=os.path.abspath(path) if storage.is_local else path,
            arrays=arrays,
            features=opened.get(FEATURES),
            profiles=opened.get(PROFILES),
            settings=settings,
            fingerprint=attributes[Attribute.FINGERPRINT],
            attributes=attributes,
        )
    except UnsafeFileError:
        raise
    except PermissionError as error:
        raise _permission_error(path, error) from error
    except Exception as error:  # storages raise many types
        storage.check_links()
        raise _damage_error(path, name, error) from error
    try:
        check_columns(store.columns, len(store.roots))
    except ValueError as error:
        raise _damage_error(path, "columns", error) from error
    return store


def open_stored_arrays(path: str | os.PathLike) -> StoredArrays:
    """Open the arrays of a complete but possibly damaged store; raises the errors of `open_store`."""
    storage = Storage(path)
    if not os.fspath(path):
        raise UsageError("the path of a feature store is an empty text; give the folder that `pipeline build` wrote")
    path = storage.url
    if not storage.exists():
        partial = Storage(partial_name(path))
        if partial.exists():
            raise unfinished_error(partial, path)
        make = f"make one with `pipeline build --src FOLDER --out {quote(path)}`"
        raise UserError(f"{path}: no such feature store; {make}")
    try:
        attributes = read_attributes(storage)
    except PermissionError as error:
        raise _permission_error(path, error) from error
    except UnsafeFileError:
        raise
    except (OSError, ValueError) as error:
        raise _no_store_error(storage, error) from error
    version = attributes.get(Attribute.FORMAT_VERSION)
    if version not in READ_VERSIONS and attributes.get(Attribute.COMPLETE) is not False:
        found = "no format version" if version is None else f"format version {version}"
        raise StoreError(f"{path}: has {found}, expected {', '.join(map(str, READ_VERSIONS))}; build it again")
    if not attributes.get(Attribute.COMPLETE):
        raise unfinished_error(storage, path.removesuffix(PARTIAL))
    return StoredArrays(storage, attributes, _known_lengths(attributes))


def _no_store_error(storage: Storage, error: Exception) -> StoreError:
    path, expected = storage.url, "expected a folder that `pipeline build` wrote"
    kind = find_kind(Path(storage.path())) if storage.is_local else Kind.FOLDER
    if kind in (Kind.FILE, Kind.EMPTY):
        return StoreError(f"{path}: is {kind}, not a feature store; {expected}")
    if kind is Kind.RUN:
        return StoreError(f"{path}: is {kind}, not a feature store; {expected}; give the store that it was trained on")
    if isinstance(error, FileNotFoundError):
        advice = f"make one from pictures with `pipeline build --src {quote(path)}`"
        return StoreError(f"{path}: not a feature store (it has no {ZARR_METADATA}); {expected}; {advice}")
    why = f"or its {ZARR_METADATA} is damaged: {format_error(error)}"
    return StoreError(f"{path}: not a feature store ({why}); {expected}; restore the file from a backup")


def _known_lengths(attributes: dict) -> dict[str, int]:
    """Return the lengths of axes that follow from the settings; empty if the settings are damaged."""
    try:
        features = BuildSettings.from_dict(attributes[Attribute.SETTINGS]).features
    except (UserError, *DAMAGE):
        return {}
    return {"plane": features.planes, **dict.fromkeys(PLANE_AXES, features.side)}


def _permission_error(path: str, error: PermissionError) -> StoreError:
    return StoreError(f"{path}: no permission to read {error.filename or 'it'}; change its permissions")


def _damage_error(path: str, name: str, why: object) -> StoreError:
    if isinstance(why, Exception):
        why = f"its {ZARR_METADATA} is missing" if isinstance(why, KeyError) else format_error(why)
    advice = f"`pipeline verify {quote(path)} --repair` rebuilds the damaged parts"
    return StoreError(f"{path}: the store is damaged ({name}: {why}); {advice}")
