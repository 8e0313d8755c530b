"""Earlier state of a store that has grown, recognised by its fingerprint.

A build adds new pictures after those of the store. So the earlier state is the store's first pictures, and the
fingerprint of these alone proves it.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from pipeline.store.fingerprint import iterate_fingerprints
from pipeline.store.reader import ZarrStore
from pipeline.store.schema import Attribute
from pipeline.store.settings import BuildSettings


@dataclass(frozen=True)
class EarlierStore(ZarrStore):
    """First pictures of a store, with the fingerprint that it had before others were added, and without a data card.

    `mean` and `std` are those of the grown store.

    Attributes
    ----------
    pictures : int, number of pictures that the store had
    added : int, number of pictures that were added since
    """

    pictures: int
    added: int

    def __len__(self) -> int:
        return len(self.columns["picture"])

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        columns = super().columns
        rows = int(np.count_nonzero(columns["picture"] < self.pictures))
        return {name: values[:rows] for name, values in columns.items()}

    @cached_property
    def perceptual_hashes(self) -> np.ndarray:
        return super().perceptual_hashes[: self.pictures]

    @property
    def cards(self) -> tuple[dict, ...]:
        """An empty tuple: the data card describes the grown store."""
        return ()


def find_earlier(store: ZarrStore, fingerprint: str, settings: BuildSettings) -> ZarrStore | None:
    """Find the state of a store that had a fingerprint: the store itself, or its first pictures.

    Parameters
    ----------
    settings : BuildSettings that the earlier state was built with; with others than the store's, the state has no
        planes, because those of the store differ

    Returns
    -------
    None if no number of first pictures has this fingerprint, for instance because pictures were removed.
    """
    if store.fingerprint == fingerprint:
        return store
    names = (Attribute.FORMAT_VERSION, Attribute.SETTINGS, Attribute.VERSIONS)
    identity = {name: store.attributes[name] for name in names}
    pictures = store.read_pictures()
    for built, planes in ((identity, store.features), (identity | {Attribute.SETTINGS: settings.to_dict()}, None)):
        for count, found in enumerate(iterate_fingerprints(built, pictures)):
            if found == fingerprint:
                own = {field.name: getattr(store, field.name) for field in fields(store)}
                own |= {"fingerprint": fingerprint, "features": planes}
                return EarlierStore(**own, pictures=count, added=len(pictures) - count)
    return None
