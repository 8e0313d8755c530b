"""Occlusion of frequencies and planes: the change of the score without each part (Zeiler and Fergus 2014).

A part is all planes of one kind, or a band of frequencies in all planes except those of an overview, in which a pattern
has another frequency than in the picture's own pixels. After the detector's normaliser, the part is replaced by zero,
the network's average input; if the normaliser works by frequency, this is the mean of the training pictures. A loss of
log-odds above 0 means that the part favours "fake", below 0 "real". Parts interact, so the losses need not sum up to
the log-odds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from eval.explain.class_spectra import compute_radial_profile
from pipeline.features.frequencies import MAX_FREQUENCY, NYQUIST, assign_bands
from pipeline.features.settings import is_overview_kind
from train.model.calibration import compute_log_odds
from train.model.plane_detector import PlaneDetector

# Twelve bands of equal width up to the finest pattern along an axis, and one for the corners above.
BAND_EDGES = np.append(np.linspace(0, NYQUIST, 13), MAX_FREQUENCY)

VALUES_AT_ONCE = 9 * 2**20  # of float32: 36 MB a batch before the network


@dataclass(frozen=True)
class Explanation:
    """Contributions of the parts to one picture's score.

    Attributes
    ----------
    log_odds : float, of "fake" against "real": ln(p / (1 - p)), calibrated if the detector is
    edges : ndarray of float64, shape (K + 1,), of the bands, in cycles per pixel
    bands : ndarray of float64, shape (K,), loss of log-odds without each band; above 0 it favours "fake"
    kinds : dict of str to float, the same for each kind of planes of the detector's input
    frequencies : ndarray of float64, shape (P,), middles of the bins of `profile`, in cycles per pixel
    profile : ndarray of float64, shape (P,), as in `eval.explain.class_spectra.compute_radial_profile`
    """

    log_odds: float
    edges: np.ndarray
    bands: np.ndarray
    kinds: dict[str, float]
    frequencies: np.ndarray
    profile: np.ndarray

    def to_dict(self) -> dict:
        """Return JSON values, lists for arrays."""
        return {
            "log_odds": self.log_odds,
            "band_edges": self.edges.tolist(),
            "bands": self.bands.tolist(),
            "kinds": self.kinds,
            "frequencies": self.frequencies.tolist(),
            "profile": self.profile.tolist(),
        }


def explain_levels(detector: PlaneDetector, levels: np.ndarray) -> Explanation:
    """Explain the score of one picture by occlusion.

    Parameters
    ----------
    levels : ndarray of uint8, shape (planes, H, W), features of the picture
    """
    whole, bands, kinds = occlude(detector, levels)
    frequencies, profile = compute_radial_profile(levels)
    return Explanation(
        log_odds=whole,
        edges=BAND_EDGES,
        bands=whole - bands,
        kinds={kind: float(whole - value) for kind, value in zip(detector.kinds, kinds, strict=True)},
        frequencies=frequencies,
        profile=profile,
    )


def occlude(detector: PlaneDetector, levels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Compute the log-odds of "fake" of a picture as it is, without each band and without each kind of planes.

    Parameters
    ----------
    levels : ndarray of uint8, shape (planes, H, W)

    Returns
    -------
    whole : float, of the picture as it is
    bands : ndarray of float64, shape (K,), in the order of `BAND_EDGES`
    kinds : ndarray of float64, shape (len(detector.kinds),)
    """
    detector.eval()
    with torch.inference_mode():
        batch = torch.as_tensor(levels[detector.planes])[None].to(detector.device)
        values = detector.normalise(batch)
        logits = [detector.network(part) for part in _occlude_parts(values, detector.kinds, detector.inputs)]
    log_odds = np.concatenate([compute_log_odds(one).double().cpu().numpy() for one in logits])
    log_odds = log_odds / detector.calibration.temperature
    count = len(BAND_EDGES) - 1
    return float(log_odds[0]), log_odds[1 : 1 + count], log_odds[1 + count :]


def _occlude_parts(values: torch.Tensor, kinds: tuple[str, ...], inputs: tuple[str, ...]) -> Iterator[torch.Tensor]:
    """Yield batches of the normalised sample (1, C, H, W): as it is, then with each part set to zero."""
    height, width = values.shape[2:]
    band_of = _bands_of(height, width, inputs).to(values.device)
    kind_of = torch.tensor([kinds.index(kind) for kind in inputs], device=values.device)[:, None, None]
    masks = [lambda: torch.ones_like(values, dtype=torch.bool)[0]]
    masks += [lambda band=band: band_of != band for band in range(len(BAND_EDGES) - 1)]
    masks += [lambda number=number: (kind_of != number).expand(values.shape[1:]) for number in range(len(kinds))]
    step = max(1, VALUES_AT_ONCE // values[0].numel())
    for start in range(0, len(masks), step):
        kept = torch.stack([mask() for mask in masks[start : start + step]])
        yield torch.where(kept, values, 0).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=4)
def _bands_of(height: int, width: int, inputs: tuple[str, ...]) -> torch.Tensor:
    bands = {
        kind: np.full((height, width), -1) if is_overview_kind(kind) else assign_bands(BAND_EDGES, kind, height, width)
        for kind in set(inputs)
    }
    return torch.from_numpy(np.stack([bands[kind] for kind in inputs]))
