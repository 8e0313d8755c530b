"""Features to logits and probabilities: the one path for validation, report and verdicts.

Always float32 and evaluation mode, so that a picture's score does not depend on the batch that
it is in, up to rounding.
"""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from data_cards.core.console import progress as show_progress
from data_cards.core.labels import CLASS_NAMES
from pipeline.store.reader import FeatureStore
from train.data.loader import BatchLoader, move_batches
from train.model.calibration import probability_fake
from train.model.detector import Detector


def predict_logits(detector: Detector, levels: np.ndarray | torch.Tensor) -> np.ndarray:
    """Logits, float64 (B, 2), of one batch of features, uint8 (B, planes, H, W), or of the detector's planes alone."""
    detector.eval()
    if levels.shape[1] > len(detector.planes):
        levels = levels[:, detector.planes]
    with torch.inference_mode():
        logits = detector(torch.as_tensor(levels).to(detector.device))
    return logits.float().cpu().numpy().astype(np.float64)


def predict_probabilities(detector: Detector, levels: np.ndarray | torch.Tensor, batch_size: int = 32) -> np.ndarray:
    """Probability of "fake", float64 (N,), of features in memory, uint8 (N, planes, H, W)."""
    logits = [
        predict_logits(detector, levels[start : start + batch_size]) for start in range(0, len(levels), batch_size)
    ]
    return probability_fake(np.concatenate(logits)) if logits else np.zeros(0)


def open_loader(detector: Detector, store: FeatureStore, threads: int = 4) -> BatchLoader:
    """A reader of what the detector is fed, for the device that it is on."""
    on_gpu = detector.device.type == "cuda"
    return BatchLoader(store, threads=threads, pinned=on_gpu, packed=on_gpu, kinds=detector.kinds)


def iterate_logits(
    detector: Detector, reader: BatchLoader, rows: np.ndarray, batch_size: int = 32, skipped: set[int] | None = None
) -> Iterator[np.ndarray]:
    """Logits of a store's rows, batch by batch: float64 (B, 2), in the order of `rows`.

    Of rows that `skipped` names after the batch (see `BatchLoader.read`) they mean nothing.
    """
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    with closing(reader.read(batches, skipped)) as reading:
        for levels in move_batches(reading, detector.device):
            yield predict_logits(detector, levels)


def compute_logits(
    detector: Detector,
    store: FeatureStore,
    rows: np.ndarray,
    batch_size: int = 32,
    progress: bool = True,
    threads: int = 4,
) -> np.ndarray:
    """Logits, float64 (N, 2), of a store's rows, with a progress bar on stderr if wanted."""
    logits = []
    with (
        open_loader(detector, store, threads) as reader,
        closing(iterate_logits(detector, reader, rows, batch_size)) as parts,
    ):
        if not progress:
            logits.extend(parts)
        else:
            with show_progress(what="scoring", unit="samples", total=len(rows)) as bar:
                for part in parts:
                    logits.append(part)
                    bar.update(len(part))
    return np.concatenate(logits) if logits else np.zeros((0, len(CLASS_NAMES)))


def score_rows(
    detector: Detector,
    store: FeatureStore,
    rows: np.ndarray,
    batch_size: int = 32,
    progress: bool = True,
    threads: int = 4,
) -> np.ndarray:
    """Probability of "fake", float64 (N,), of a store's rows; see `compute_logits` for the logits."""
    return probability_fake(compute_logits(detector, store, rows, batch_size, progress, threads))
