"""Mean radial spectra of photographs and of generated pictures, with which a picture is compared.

They are computed from a bounded number of the run's validation pictures (training pictures if it has none), never from
test pictures. The run folder keeps them as `profiles.json`, so that a verdict needs no store.
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_cards.core.bounded_json import read_json
from data_cards.core.errors import DAMAGE, UserError
from data_cards.core.files import write_json
from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from data_cards.core.seeding import FIXED_SEED, draw_key
from pipeline.features.frequencies import MAX_FREQUENCY, compute_frequencies
from pipeline.features.periodogram import LEVELS
from pipeline.features.settings import KINDS, plane_slice
from pipeline.features.variants import CLEAN
from pipeline.store.reader import FeatureStore
from train.run.folder import Run

PROFILES = "profiles.json"
PICTURES_PER_CLASS = 200
MOST_BINS = 96

_VERSION = 1
_MOST_BYTES = 2**20  # a hundred times the size of such a file
_MAGNITUDES = plane_slice(KINDS.index("magnitude"))


@dataclass(frozen=True)
class ClassSpectra:
    """Mean radial spectra of both classes.

    Attributes
    ----------
    frequencies : ndarray of float64, shape (P,), middles of the bins, in cycles per pixel
    mean, deviation : dict of str to ndarray of float64, shape (P,), of `compute_radial_profile` by class
    pictures : dict of str to int, number of pictures by class
    split : str, of the pictures
    """

    frequencies: np.ndarray
    mean: dict[str, np.ndarray]
    deviation: dict[str, np.ndarray]
    pictures: dict[str, int]
    split: str

    def to_dict(self) -> dict:
        """Return JSON values, lists for arrays."""
        return {
            "frequencies": self.frequencies.tolist(),
            "mean": {name: values.tolist() for name, values in self.mean.items()},
            "deviation": {name: values.tolist() for name, values in self.deviation.items()},
            "pictures": self.pictures,
            "split": self.split,
        }


def compute_radial_profile(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean strength of each frequency over directions and colours.

    Parameters
    ----------
    levels : ndarray of uint8, shape (planes, H, W), features of a picture; the magnitude planes are read

    Returns
    -------
    frequencies : ndarray of float64, shape (P,), middles of the bins, in cycles per pixel
    profile : ndarray of float64, shape (P,), mean in each bin without the zero frequency; logarithmic, 0 to 1
    """
    height, width = levels.shape[1:]
    bins = min(MOST_BINS, max(2, math.floor(MAX_FREQUENCY * min(height, width))))
    radius = compute_frequencies("magnitude", height, width).ravel()
    number = np.minimum((radius * (bins / MAX_FREQUENCY)).astype(int), bins - 1)
    number[radius == 0] = bins  # the mean brightness is not texture
    magnitude = levels[_MAGNITUDES].astype(np.float64).mean(axis=0).ravel() / (LEVELS - 1)
    counts = np.bincount(number, minlength=bins + 1)[:bins]
    sums = np.bincount(number, magnitude, minlength=bins + 1)[:bins]
    there = counts > 0  # a small picture may have no bin of some frequency
    return ((np.arange(bins) + 0.5) * (MAX_FREQUENCY / bins))[there], sums[there] / counts[there]


def compute_class_spectra(store: FeatureStore, per_class: int = PICTURES_PER_CLASS) -> ClassSpectra | None:
    """Compute the spectra of both classes from a store's validation pictures, else from its training pictures.

    Parameters
    ----------
    per_class : int, maximum number of clean pictures per class, drawn by seed and the files' hashes

    Returns
    -------
    None if neither split has both classes.
    """
    split = next((split for split in (VAL, TRAIN) if _has_both(store, split)), None)
    if split is None:
        return None
    mean, deviation, pictures, frequencies = {}, {}, {}, np.zeros(0)
    for label, name in enumerate(CLASS_NAMES):
        rows = store.rows(split, CLEAN.name)
        rows = rows[store.columns["label"][rows] == label]
        keys = [draw_key(FIXED_SEED, bytes.fromhex(store.columns["sha256"][row]), "profiles") for row in rows]
        chosen = sorted(rows[np.argsort(np.array(keys, np.uint64), kind="stable")[:per_class]])
        found = [compute_radial_profile(store.features[int(row), _MAGNITUDES]) for row in chosen]
        frequencies = found[0][0]
        profiles = np.stack([profile for _, profile in found])
        mean[name], deviation[name], pictures[name] = profiles.mean(axis=0), profiles.std(axis=0), len(chosen)
    return ClassSpectra(frequencies, mean, deviation, pictures, split)


def load_class_spectra(run: Run, store: FeatureStore | None = None) -> ClassSpectra | None:
    """Load the spectra of a run from its folder, else compute them from its store and keep them in the folder.

    Parameters
    ----------
    store : FeatureStore or None, the training store if it is already open; None opens it

    Returns
    -------
    None if the folder has none and the store is missing or has changed since the training.

    Raises
    ------
    UserError : the file in the run folder is damaged
    """
    file = run.path / PROFILES
    if file.is_file():
        return _read(file)
    if store is None:
        try:
            store = run.open_stores()
        except UserError:
            return None
    if store.fingerprint != run.store_fingerprint or not store.has_planes:
        return None
    profiles = compute_class_spectra(store)
    if profiles is not None:
        with suppress(OSError):  # a read-only run folder: they are computed again next time
            write_json(file, {"version": _VERSION, **profiles.to_dict()})
    return profiles


def _has_both(store: FeatureStore, split: str) -> bool:
    clean = store.rows(split)[store.columns["variant"][store.rows(split)] == CLEAN.name]  # a store may have none
    return len(np.unique(store.columns["label"][clean])) == len(CLASS_NAMES)


def _read(file: Path) -> ClassSpectra:
    try:
        record = read_json(file.parent, file.name, _MOST_BYTES)
        frequencies = np.array(record["frequencies"], dtype=np.float64)
        both = [
            {name: np.array(record[which][name], dtype=np.float64) for name in CLASS_NAMES}
            for which in ("mean", "deviation")
        ]
        curves = [values for one in both for values in one.values()]
        right = all(values.shape == frequencies.shape == (len(frequencies),) for values in curves)
        if record["version"] != _VERSION or not right or not all(np.isfinite(values).all() for values in curves):
            raise ValueError("its numbers do not fit together")
        pictures = {name: int(record["pictures"][name]) for name in CLASS_NAMES}
        return ClassSpectra(frequencies, *both, pictures, str(record["split"]))
    except DAMAGE as error:
        raise UserError(f"{file}: damaged ({error!r}); delete it, and it is computed again from the store") from error
