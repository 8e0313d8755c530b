"""Features to logits: the one path for validation, report and verdicts.

Always in float32 and evaluation mode: a picture's logits do not depend on the rest of its batch, up to rounding.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch

from data_cards.core.console import progress_bar
from data_cards.core.labels import CLASS_NAMES
from train.model.plane_detector import PlaneDetector
from train.settings import SCORING_BATCH_SIZE

if TYPE_CHECKING:  # loads Zarr, not needed for verdicts
    from pipeline.store.reader import FeatureStore
    from train.data.loader import BatchLoader


def predict_logits(detector: PlaneDetector, levels: np.ndarray | torch.Tensor) -> np.ndarray:
    """Compute the logits of one batch, float64 (B, 2).

    Parameters
    ----------
    levels : uint8 (B, planes, H, W), all planes of the store or only those that the detector reads
    """
    detector.eval()
    if levels.shape[1] > len(detector.planes):
        levels = levels[:, detector.planes]
    with torch.inference_mode():
        logits = detector(torch.as_tensor(levels).to(detector.device))
    return logits.float().cpu().numpy().astype(np.float64)


def open_loader(detector: PlaneDetector, store: "FeatureStore", threads: int = 4) -> "BatchLoader":
    """Open a loader of the planes that the detector reads, for the detector's device."""
    from train.data.loader import BatchLoader

    on_gpu = detector.device.type == "cuda"
    return BatchLoader(store, threads=threads, pinned=on_gpu, packed=on_gpu, kinds=detector.kinds)


def iterate_logits(
    detector: PlaneDetector,
    reader: "BatchLoader",
    rows: np.ndarray,
    batch_size: int = SCORING_BATCH_SIZE,
    skipped: set[int] | None = None,
) -> Iterator[np.ndarray]:
    """Yield the logits of a store's rows batch by batch, float64 (B, 2), in the order of `rows`.

    Logits of rows that `skipped` holds after the batch (see `BatchLoader.read`) are meaningless.
    """
    from train.data.loader import move_batches

    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    with closing(reader.read(batches, skipped)) as reading:
        for levels in move_batches(reading, detector.device):
            yield predict_logits(detector, levels)


def compute_logits(
    detector: PlaneDetector,
    store: "FeatureStore",
    rows: np.ndarray,
    batch_size: int = SCORING_BATCH_SIZE,
    progress: bool = True,
    threads: int = 4,
) -> np.ndarray:
    """Compute the logits of a store's rows, float64 (N, 2), with a progress bar on stderr if `progress`."""
    logits = []
    with (
        open_loader(detector, store, threads) as reader,
        closing(iterate_logits(detector, reader, rows, batch_size)) as parts,
    ):
        if not progress:
            logits.extend(parts)
        else:
            with progress_bar(what="scoring", unit="samples", total=len(rows)) as bar:
                for part in parts:
                    logits.append(part)
                    bar.update(len(part))
    return np.concatenate(logits) if logits else np.zeros((0, len(CLASS_NAMES)))
