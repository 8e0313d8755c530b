"""Feature store reader: one store, or what several as one share (`pipeline.store.schema` has the format)."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from data_cards.core.bounded_json import parse_json
from data_cards.core.errors import DAMAGE, StoreError, UnsafeFileError, UserError, format_error
from data_cards.core.files import PARTIAL
from pipeline.store.arrays import StoredArrays, read_values
from pipeline.store.attributes import check_attributes, read_attributes
from pipeline.store.filesystem import Storage
from pipeline.store.schema import CARD, FEATURES, FORMAT_VERSION, MEAN, PROVENANCE, SAMPLE_COLUMNS, STD, Attribute
from pipeline.store.settings import BuildSettings

if TYPE_CHECKING:
    from data_cards.dataset.table import PictureTable


class FeatureStore(ABC):
    """A complete feature store, opened to read: a `ZarrStore`, or several as a `ConcatenatedStore`.

    Attributes
    ----------
    path : the store's folder, absolute, or its URL
    features : zarr array, or an object that reads one row at a time like it; uint8 (N, planes, H, W), in levels
    settings : settings of the build
    fingerprint : sha256 over settings, format version and input hashes, hexadecimal
    parts : single stores, in the order of their rows
    """

    path: str
    features: zarr.Array
    settings: BuildSettings
    fingerprint: str
    parts: tuple["ZarrStore", ...]

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    @abstractmethod
    def columns(self) -> dict[str, np.ndarray]:
        """All per-sample columns (`SAMPLE_COLUMNS`), each of length N; texts as arrays of str objects."""

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

    def rows(self, split: str, variant: str | None = None) -> np.ndarray:
        """Return the row numbers (int64, ascending) of a split, or of one variant of it."""
        chosen = self.columns["split"] == split
        if variant is not None:
            chosen &= self.columns["variant"] == variant
        return np.flatnonzero(chosen)

    def picture_path(self, row: int) -> Path:
        """Return the path of a row's picture file, as of the build."""
        return Path(self.roots[self.columns["root"][row]], self.columns["image"][row])


@dataclass(frozen=True)
class ZarrStore(FeatureStore):
    """A single feature store.

    Attributes
    ----------
    arrays : StoredArrays, all arrays of the store by name
    attributes : attributes of the store's group
    path, features, settings, fingerprint : as of `FeatureStore`
    """

    path: str
    arrays: StoredArrays
    features: zarr.Array
    settings: BuildSettings
    fingerprint: str
    attributes: dict

    @property
    def parts(self) -> tuple["ZarrStore", ...]:
        """The store itself, alone."""
        return (self,)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        return {
            name: self._read(name).astype(object if kind == "string" else kind)
            for name, (kind, _) in SAMPLE_COLUMNS.items()
        }

    @cached_property
    def mean(self) -> np.ndarray:
        return self._read(MEAN)

    @cached_property
    def std(self) -> np.ndarray:
        return self._read(STD)

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(self.attributes[Attribute.ROOTS])

    @property
    def is_simulated(self) -> bool:
        return self.attributes[Attribute.SIMULATED]

    @cached_property
    def card(self) -> dict:
        """Data card of the pictures (`data_cards.card.contents`)."""
        return self._read(CARD, parse_json)

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

    def _read(self, name: str, parse: Callable[[bytes], Any] | None = None) -> Any:
        """Read an array's values, or their bytes parsed by `parse`."""
        try:
            values = read_values(self.arrays, name)
            return values if parse is None else parse(values.tobytes())
        except PermissionError as error:
            raise _permission_error(self.path, error) from error
        except UnsafeFileError:
            raise
        except Exception as error:  # decoders raise many kinds
            self.arrays.storage.check_links()  # what is behind a link is not found
            raise _damage_error(self.path, name, error) from error


def partial_name(path: str | os.PathLike) -> str:
    """Return the path of a store during its build: with a suffix locally, unchanged in object storage."""
    name = os.fspath(path).rstrip("/")
    return name if "://" in name else name + PARTIAL


def open_store(path: str | os.PathLike) -> ZarrStore:
    """Open a complete store of this format version, in a local folder or object storage (s3://...).

    Raises
    ------
    UserError : the path does not exist
    StoreError : not a store, or one that is incomplete, damaged or of another format version
    """
    arrays = open_stored_arrays(path)
    storage, attributes = arrays.storage, arrays.attrs
    path = storage.url
    try:
        check_attributes(attributes)
        store = ZarrStore(
            path=os.path.abspath(path) if storage.is_local else path,
            arrays=arrays,
            features=arrays[FEATURES],
            settings=BuildSettings.from_dict(attributes[Attribute.SETTINGS]),
            fingerprint=attributes[Attribute.FINGERPRINT],
            attributes=attributes,
        )
        mismatched = [name for name, values in store.columns.items() if len(values) != len(store)]
    except StoreError:
        raise
    except UserError as error:  # of a removed option
        raise StoreError(f"{path}: {error}") from error
    except PermissionError as error:
        raise _permission_error(path, error) from error
    except Exception as error:
        raise _damage_error(path, FEATURES, error) from error
    if mismatched:
        raise _damage_error(path, ", ".join(mismatched), "length")
    return store


def open_stored_arrays(path: str | os.PathLike) -> StoredArrays:
    """Open the arrays of a complete store, which may be damaged; raises the errors of `open_store`."""
    storage = Storage(path)
    path = storage.url
    if not storage.exists():
        if Storage(partial_name(path)).exists():
            raise StoreError(f"{path}: the build is not finished; run the same `pipeline build` again to resume it")
        raise UserError(f"{path}: no such feature store; make one with `pipeline build --src FOLDER --out {path}`")
    try:
        attributes = read_attributes(storage)
    except PermissionError as error:
        raise _permission_error(path, error) from error
    except UnsafeFileError:
        raise
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: not a feature store, or its zarr.json is damaged ({format_error(error)}); expected a folder that "
            "`pipeline build` wrote"
        ) from error
    version = attributes.get(Attribute.FORMAT_VERSION)
    if version != FORMAT_VERSION and attributes.get(Attribute.COMPLETE) is not False:
        found = "no format version" if version is None else f"format version {version}"
        raise StoreError(f"{path}: has {found}, this program reads {FORMAT_VERSION}; build it again")
    if not attributes.get(Attribute.COMPLETE):
        raise StoreError(f"{path}: the store is incomplete; run the same `pipeline build` again to finish it")
    return StoredArrays(storage, attributes, _known_lengths(attributes))


def _known_lengths(attributes: dict) -> dict[str, int]:
    """Return the lengths of axes that follow from the settings; none from settings that are damaged."""
    try:
        features = BuildSettings.from_dict(attributes[Attribute.SETTINGS]).features
    except (UserError, *DAMAGE):
        return {}
    return {"planes": features.planes, "side": features.side}


def _permission_error(path: str, error: PermissionError) -> StoreError:
    return StoreError(f"{path}: no permission to read {error.filename or 'it'}; change its permissions")


def _damage_error(path: str, name: str, why: object) -> StoreError:
    why = format_error(why) if isinstance(why, Exception) else why
    return StoreError(
        f"{path}: the store is damaged ({name}: {why}); `pipeline verify {path} --repair` rebuilds the damaged parts"
    )
