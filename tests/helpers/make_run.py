"""Run folders for tests, made by the real functions, with random weights in place of a training."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.features.degradations import apply_steps
from pipeline.features.profiles import compute_profile
from pipeline.features.variants import CLEAN, COMMON_JPEG
from pipeline.store.reader import FeatureStore, open_store
from train.data.expert_rows import choose_expert_rows
from train.loop.experts import fit_rows
from train.model.experts import Experts
from train.model.plane_detector import PlaneDetector
from train.recipe.experts import fit_experts
from train.resolve import resolve_settings
from train.run.checkpoint import save_weights
from train.run.experts_file import save_experts
from train.run.folder import write_run_settings
from train.run.summary import FINISHED, Summary, write_summary
from train.settings import TrainSettings


def make_experts_run(path: Path, store: FeatureStore | Path, experts: Experts | None = None) -> Path:
    """Write the folder of a run of experts alone: fitted to that store, or these."""
    store = store if isinstance(store, FeatureStore) else open_store(store)
    path.mkdir(parents=True, exist_ok=True)
    settings = TrainSettings(store=store.path, run=str(path), experts="on", network="none")
    settings = resolve_settings(settings, store.settings.features, store.has_profiles)
    write_run_settings(path, settings, store)
    save_experts(experts or fit_rows(store, settings, choose_expert_rows(store, settings)).experts, path)
    end_run(path)
    return path


@lru_cache
def fit_drawn_experts() -> Experts:
    """Fit experts to drawn pictures of six sources a class, of which generated ones have a grid of 8 px."""
    names = [(label, source, number) for label in (0, 1) for source in range(6) for number in range(6)]
    variants = (CLEAN, COMMON_JPEG)
    pictures = [apply_steps(draw_scene(*name), variant.steps) for variant in variants for name in names]
    labels, sources, _ = (np.tile(values, 2) for values in zip(*names, strict=True))
    return fit_experts(
        np.stack([compute_profile(picture) for picture in pictures]),
        labels,
        np.char.add(np.where(labels, "generator-", "camera-"), sources.astype(str)),
        np.repeat([variant.name for variant in variants], len(names)),
        np.tile(np.arange(len(names)), 2),
    ).experts


def draw_scene(label: int, source: int, number: int, width: int = 200, height: int = 180) -> Image.Image:
    """Draw coloured noise of a source's own coarseness, with a grid of 8 px where the label is 1."""
    rng = np.random.default_rng((label, source, number))
    coarse = rng.integers(0, 256, (12 + 2 * source, 14 + 2 * source, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    smooth += rng.normal(0, 6, smooth.shape)
    down, across = np.ogrid[:height, :width]
    smooth += (12 * label * ((across % 8 == 0) | (down % 8 == 0)))[..., None]
    return Image.fromarray(smooth.clip(0, 255).astype(np.uint8))


def make_run(path: Path, store: FeatureStore | Path, seed: int = 0) -> Path:
    """Write the folder of a run on that store: settings, best weights and summary."""
    store = store if isinstance(store, FeatureStore) else open_store(store)
    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    settings = TrainSettings(store=store.path, run=str(path), stem="strided", seed=seed)
    write_run_settings(path, resolve_settings(settings, store.settings.features), store)
    save_weights(PlaneDetector(store.mean, store.std, stem="strided"), path, "best")
    end_run(path)
    return path


def end_run(path: Path) -> None:
    """Write the summary of a run that came to its end, without its results."""
    unknown = dict.fromkeys(("best_epoch", "val_loss", "val_accuracy", "samples_per_second"))
    device = {"device": "cpu", "device_name": "CPU", "processes": 1, "precision": "float32"}
    write_summary(Summary(path, FINISHED, "drawn", epochs=0, skipped=0, seconds=0.0, waited=0.0, **unknown, **device))
