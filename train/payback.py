"""After how many epochs building the store has paid for itself, against features made in the training loop.

A store does not record how long its build took, as two builds of the same pictures are the same to the last byte.
So both costs are measured here, on a few of the store's pictures where they still lie where they were: a sample
made once for the store, and a sample made in each epoch anew, decoding included.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.amounts import format_seconds
from pipeline.executor import count_cores
from pipeline.store import FeatureStore

_PICTURES = 6  # that are measured


@dataclass(frozen=True)
class Payback:
    """What a store saves, about; seconds are those of all cores of this machine together.

    Attributes
    ----------
    build : seconds that building the store took
    features : seconds that features made in the loop take an epoch, validation included
    slower : seconds that an epoch takes longer with them
    """

    build: float
    features: float
    slower: float

    @property
    def epochs(self) -> float | None:
        """After which building the store has paid for itself; None where an epoch would be no slower without it."""
        return self.build / self.slower if self.slower > 0 else None

    def describe(self) -> str:
        """The same in words."""
        made = f"features made in the loop would take about {format_seconds(self.features)} an epoch"
        if self.epochs is None:
            return f"by speed never: {made}, while the device computes longer"
        return f"after about {self.epochs:.1f} epochs: {made}"


def measure_payback(store: FeatureStore, samples: int, device: str, seconds: float) -> Payback | None:
    """What a store saves a run, measured in about four seconds at most; None where its pictures cannot be found.

    Parameters
    ----------
    samples : that an epoch trains and validates on
    device : "cpu", whose cores would do both, or a GPU, beside which the cores make features
    seconds : that an epoch takes now
    """
    built, made, rows = 0.0, 0.0, 0
    for part in store.parts:
        pictures = _find_pictures(part)
        if not pictures:
            return None
        from pipeline.estimate import measure_samples  # loads the transforms, which nothing else in training needs

        _, once = measure_samples(pictures, part.settings)
        _, anew = measure_samples(pictures, part.settings, in_the_loop=True)
        built, made, rows = built + once * len(part), made + anew * len(part), rows + len(part)
    return compute_payback(built, made / rows * samples, device, seconds, count_cores())


def compute_payback(build: float, features: float, device: str, seconds: float, cores: int) -> Payback:
    """From the seconds of one core that a build and an epoch's features take; the others as `measure_payback`."""
    build, features = build / cores, features / cores
    return Payback(build, features, features if device == "cpu" else max(features - seconds, 0.0))


def _find_pictures(part: FeatureStore) -> list[tuple[Path, bytes]]:
    """Path and sha256 of a few pictures of a store, spread over it, whose files are still the same."""
    roots, columns = part.attributes.get("roots", []), part.columns
    found = []
    for row in np.unique(np.linspace(0, len(part) - 1, _PICTURES).astype(int)):
        root, sha256 = columns["root"][row], columns["sha256"][row]
        path = Path(roots[root], columns["image"][row]) if root < len(roots) else Path()
        with suppress(OSError):  # gone, or not for us to read
            same_size = path.is_file() and path.stat().st_size == columns["bytes"][row]
            if same_size and hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
                found.append((path, bytes.fromhex(sha256)))
    return found
