"""Occlusion study of a set: scores without each band of frequencies and each kind of planes.

The number of pictures is bounded, because each is scored once for every occluded part. They are drawn by seed.
"""

import numpy as np
from scipy.special import expit

from data_cards.core.console import progress_bar
from data_cards.core.labels import CLASS_NAMES
from eval.explain.occlusion import BAND_EDGES, occlude
from eval.scores.bootstrap import estimate_difference, estimate_mean
from eval.scores.picture_files import shuffle_by_class
from eval.scores.rows import Scored
from pipeline.features.extract import name_planes
from pipeline.features.settings import KINDS, plane_slice
from pipeline.store.reader import FeatureStore
from train.model.detector import Detector

NO_NETWORK = "the run has no network"
NO_WEIGHT = "the network has weight 0 beside the experts, so no score depends on it"


def compute_occlusion_study(
    scored: Scored,
    store: FeatureStore,
    detector: Detector,
    has_network: bool,
    pictures: int,
    progress: bool = True,
) -> dict:
    """Compute the loss of AUROC without each band of frequencies, and without each kind of planes.

    Parameters
    ----------
    scored : Scored, the headline's rows
    has_network : bool, whether the run has a network, perhaps of weight 0, which the detector then lacks
    pictures : int, maximum number, half of them of each class; 0 and 1 skip the study

    Returns
    -------
    `bands` and `kinds`: for each part `auroc_drop`, the decrease of the AUROC without it, and `log_odds_change` by
    class, the decrease of the mean log-odds of "fake" without it; with intervals. `rows` holds the log-odds of each
    picture, with all parts and without each. Or `reason`, why there is no study.
    """
    if detector.plane_detector is None:
        return {"reason": NO_WEIGHT if has_network else NO_NETWORK}
    if pictures < 2:  # half of them of each class
        return {"reason": f"skipped, as --explain-pictures {pictures} asks"}
    chosen = np.concatenate([order[: pictures // 2] for order in shuffle_by_class(scored, "deciding")])
    part = scored[chosen]
    whole, without = [], []
    with progress_bar(what="explaining", unit="pictures", total=len(chosen), shown=progress) as bar:
        for row in part.rows:
            as_it_is, bands, kinds = occlude(detector.plane_detector, store.features[int(row)])
            whole.append(as_it_is)
            without.append(np.concatenate([bands, kinds]))
            bar.update()
    named = name_planes(store.settings.features)
    firsts = {kind: named[plane_slice(KINDS.index(kind))][0] for kind in detector.kinds}
    titles = {kind: _format_title(first) for kind, first in firsts.items()}
    return _compute_losses(part, np.array(whole), np.stack(without), titles)


def _format_title(plane: str) -> str:
    """Format the title of a kind from the name of its first plane."""
    kind = plane.removeprefix("overview_").split("_")[0].replace("dct", "DCT")
    return f"{kind} of the overview" if plane.startswith("overview_") else kind


def _compute_losses(part: Scored, whole: np.ndarray, without: np.ndarray, kinds: dict[str, str]) -> dict:
    bands = len(BAND_EDGES) - 1
    parts = [
        {
            "auroc_drop": estimate_difference(
                "auroc", part.labels, expit(whole), expit(without[:, number]), part.groups
            ).to_dict(),
            "log_odds_change": {
                name: estimate_mean(
                    (whole - without[:, number])[part.labels == label], part.groups[part.labels == label]
                ).to_dict()
                for label, name in enumerate(CLASS_NAMES)
            },
        }
        for number in range(without.shape[1])
    ]
    return {
        "samples_by_class": part.count_by_class(),
        "bands": [
            {"low": float(low), "high": float(high), **one}
            for low, high, one in zip(BAND_EDGES[:-1], BAND_EDGES[1:], parts[:bands], strict=True)
        ],
        "kinds": [
            {"kind": kind, "title": title, **one}
            for (kind, title), one in zip(kinds.items(), parts[bands:], strict=True)
        ],
        "rows": [
            {
                "sha256": part.columns["sha256"][number],
                "label": CLASS_NAMES[part.labels[number]],
                "log_odds": float(whole[number]),
                "without_band": without[number, :bands].tolist(),
                "without_kind": dict(zip(kinds, without[number, bands:].tolist(), strict=True)),
            }
            for number in range(len(part))
        ],
    }
