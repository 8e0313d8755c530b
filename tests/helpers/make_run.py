"""Run folders for tests, made by the real functions, with random weights in place of a training."""

from pathlib import Path

import torch

from pipeline.store.reader import FeatureStore, open_store
from train.model.plane_detector import PlaneDetector
from train.run.checkpoint import save_weights
from train.run.folder import write_run_settings
from train.settings import TrainSettings


def make_run(path: Path, store: FeatureStore | Path, seed: int = 0) -> Path:
    """Write the folder of a run on that store: settings and best weights, as after its first epoch."""
    store = store if isinstance(store, FeatureStore) else open_store(store)
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    settings = TrainSettings(store=store.path, run=str(path), stem="strided")
    write_run_settings(path, settings.for_features(store.settings.features), store)
    save_weights(PlaneDetector(store.mean, store.std, stem="strided"), path, "best")
    return path
