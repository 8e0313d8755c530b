"""Features of a set's pictures in the conditions of the study, computed once and kept in a folder."""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detection_prototype import compute_prototype

from data_cards.archives.place import read_unchanged
from data_cards.core.console import progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.files import whole_file
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.table import Picture
from data_cards.image.decode import decode_picture
from pipeline.features.degradations import apply_steps
from pipeline.features.profiles import compute_profile
from pipeline.features.settings import MAX_PIXELS
from pipeline.features.variants import CONDITIONS, SHRUNK, draw_variants

VIEWS = (*CONDITIONS, SHRUNK)
VERSION = 3  # raise it when a vector changes: cached features are then computed again


@dataclass(frozen=True)
class StudySet:
    """N pictures, in order of path, and their features.

    Attributes
    ----------
    label : int (N,), 1 for generated pictures
    source : str (N,), names of sources
    near_duplicates : int (N,), number of the near-duplicate group
    facts : float64 (N, 6), known without reading pixels: see `_list_facts`
    quality : float64 (N,), estimated JPEG quality; -1 for other formats
    features : by view and name, float32 (N, length)
    """

    label: np.ndarray
    source: np.ndarray
    near_duplicates: np.ndarray
    facts: np.ndarray
    quality: np.ndarray
    features: dict[str, dict[str, np.ndarray]]


def read_set(src: Path, out: Path, workers: int | None = None) -> StudySet:
    """Scan a set and compute the features of its pictures, or take those kept in `out`; splits do not count."""
    pictures = list(scan_sources([str(src)], max_pixels=MAX_PIXELS).pictures)
    folder = out / f"features-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [one for one in pictures if not _name_file(folder, one).exists()]
    with ProcessPoolExecutor(workers or count_cores()) as pool:
        made = pool.map(_keep_features, missing, [folder] * len(missing), chunksize=4)
        for _ in progress_bar(made, what="features", unit="pictures", total=len(missing)):
            pass
    return StudySet(
        label=np.array([int(one.file.label == "fake") for one in pictures]),
        source=np.array([one.file.source for one in pictures]),
        near_duplicates=np.array([one.group for one in pictures]),
        facts=np.array([_list_facts(one) for one in pictures]),
        quality=np.array([one.facts.quality for one in pictures], float),
        features=_stack([_read_features(_name_file(folder, one)) for one in pictures]),
    )


def _list_facts(picture: Picture) -> list[float]:
    """List log width, log height, log aspect, whether JPEG or PNG, and JPEG quality (85 for other formats)."""
    facts = picture.facts
    width, height = np.log(facts.width), np.log(facts.height)
    quality = facts.quality if facts.quality >= 0 else 85
    return [width, height, width - height, facts.format == "JPEG", facts.format == "PNG", quality]


def _name_file(folder: Path, picture: Picture) -> Path:
    return folder / f"{picture.facts.sha256.hex()}.npz"


def _keep_features(picture: Picture, folder: Path) -> None:
    """Compute all features of a picture and write them to its file."""
    decoded = decode_picture(read_unchanged(picture.file.path, picture.facts.sha256), MAX_PIXELS)
    vectors = {}
    for variant in draw_variants("views", 0, picture.facts.sha256):
        changed = apply_steps(decoded, variant.steps)
        found = {"profile": compute_profile(changed)}
        if variant.name != SHRUNK:
            found |= compute_prototype(changed)
        vectors |= {f"{variant.name}/{name}": vector for name, vector in found.items()}
    with whole_file(_name_file(folder, picture)) as temporary, open(temporary, "wb") as file:
        np.savez(file, **vectors)


def _read_features(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as kept:
        return dict(kept)


def _stack(pictures: Iterable[dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    pictures = list(pictures)
    stacked: dict[str, dict[str, np.ndarray]] = {view: {} for view in VIEWS}
    for key in pictures[0]:
        view, name = key.split("/")
        stacked[view][name] = np.stack([one[key] for one in pictures])
    return stacked
