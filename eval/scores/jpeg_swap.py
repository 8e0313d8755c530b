"""JPEG-swap test: scores after every picture is saved as JPEG again, independently of its class.

Photographs are often JPEG files, and generated pictures PNG files or JPEG files of another quality; a detector may use
that alone. Quality and subsampling are drawn without regard to the class, and features are computed as in a build. The
drop of the score is evidence that saving removes, or that never came from a generator.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from data_cards.core.console import progress_bar
from data_cards.core.cores import count_cores
from data_cards.core.errors import PictureError
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.seeding import FIXED_SEED, draw_key
from eval.scores.bootstrap import estimate_differences
from eval.scores.breakdown import estimate_scored
from eval.scores.picture_files import read_original, shuffle_by_class
from eval.scores.rows import Scored, locate_pictures
from pipeline.features.extract import Features, compute_features
from pipeline.features.variants import COMMON_JPEG, STRESS, SUBSAMPLINGS, Variant, draw_jpeg
from pipeline.store.reader import FeatureStore
from train.model.detector import Detector

QUALITIES = range(60, 96)
SCORES = ("auroc", "accuracy", "balanced_accuracy", "false_positive_rate", "false_negative_rate")

NO_PROFILES = np.zeros((0, 0), np.float32)  # a network reads none

_BATCH = 16


def compute_jpeg_swap(
    scored: Scored, store: FeatureStore, detector: Detector, pictures: int, progress: bool = True
) -> dict:
    """Compute the scores of the same pictures as they are and saved as JPEG, and the paired drop.

    Parameters
    ----------
    scored : Scored, all rows of the split
    pictures : int, maximum number, half of them of each class, drawn by seed; 0 skips the test

    Returns
    -------
    `how`, `samples_by_class`, `scores` with `as_they_are`, `saved_alike` and `drop` of each, and `rows`; or
    `reason`, why there is no such test.
    """
    if pictures == 0:
        return {"reason": "skipped, as --swap-pictures 0 asks"}
    if not scored.is_clean.any():
        return {"reason": "the store has no unchanged pictures"}
    clean = scored[scored.is_clean].sort_by_picture()
    if store.settings.variants == STRESS and COMMON_JPEG.name in scored.columns["variant"]:
        saved = _jpeg_parameters(COMMON_JPEG)
        how = f"JPEG {saved['quality']}, {saved['subsampling']}: the stress condition {COMMON_JPEG.name}"
        before, steps = clean, [saved] * len(clean)
        after = scored[scored.columns["variant"] == COMMON_JPEG.name].sort_by_picture()
    else:
        how = (
            f"JPEG quality {QUALITIES[0]} to {QUALITIES[-1]}, {' or '.join(SUBSAMPLINGS)}, "
            "drawn for each picture without regard to its class"
        )
        if pictures < 4:
            return {"reason": f"skipped, as it needs 2 pictures of each class, and --swap-pictures is {pictures}"}
        if min(clean.count_by_class().values()) < 2:
            return {"reason": "it needs 2 pictures of each class, and a class has fewer"}
        before, after, steps = _save_alike(clean, store, detector, pictures, progress)
    counts = before.count_by_class()
    if min(counts.values()) < 2:
        return {"reason": "the picture files were not found, or have changed since the store was built"}
    drops = estimate_differences(
        SCORES, before.labels, before.probability_fake, after.probability_fake, before.groups, (scored.threshold,) * 2
    )
    estimates = [estimate_scored(one) for one in (before, after)]
    return {
        "how": how,
        "samples_by_class": counts,
        "scores": {
            name: {
                "as_they_are": estimates[0][name].to_dict(),
                "saved_alike": estimates[1][name].to_dict(),
                "drop": drops[name].to_dict(),
            }
            for name in SCORES
        },
        "rows": [
            {
                "sha256": after.columns["sha256"][number],
                "label": CLASS_NAMES[after.labels[number]],
                **steps[number],
                "logits": after.logits[number].tolist(),
                "probability_fake": float(after.probability_fake[number]),
            }
            for number in range(len(after))
        ],
    }


def draw_jpeg_variant(sha256: str) -> Variant:
    """Draw quality and subsampling from the file's hash alone; the picture is saved before it is fitted."""
    key = draw_key(FIXED_SEED, bytes.fromhex(sha256), "jpeg-swap")
    jpeg, _ = draw_jpeg(key, QUALITIES)
    return Variant("swap", (jpeg,), before_fit=True)


def _jpeg_parameters(variant: Variant) -> dict:
    """Return quality and subsampling of a variant that is saved as JPEG."""
    (step,) = variant.steps
    return {name: step[name] for name in ("quality", "subsampling")}


def _save_alike(
    clean: Scored, store: FeatureStore, detector: Detector, pictures: int, progress: bool
) -> tuple[Scored, Scored, list[dict]]:
    """Return drawn pictures, scored before and after saving, and how each was saved."""
    features = detector.choose_settings(store.settings.features)
    paths = locate_pictures(clean, store)

    def compute_saved(row: int) -> Features | None:
        sha256 = clean.columns["sha256"][row]
        data = read_original(paths[row], sha256)
        if data is None:
            return None
        try:
            variants, max_pixels = (draw_jpeg_variant(sha256),), store.settings.max_pixels
            with_profile = detector.experts is not None
            return next(compute_features(data, features, variants, with_profile=with_profile, max_pixels=max_pixels))
        except PictureError:
            return None

    chosen, scores = [], []
    with progress_bar(what="saving as JPEG", unit="pictures", total=min(pictures, len(clean)), shown=progress) as bar:
        for order in shuffle_by_class(clean, "jpeg-swap"):
            for rows, found in _prepare_batches(order, compute_saved, pictures // 2):
                chosen += rows
                profiles = np.stack([one.profile for one in found]) if detector.experts is not None else NO_PROFILES
                scores.append(detector.score([one.levels for one in found], profiles))
                bar.update(len(rows))
    before = clean[np.array(chosen, dtype=int)]
    logits = np.concatenate([np.zeros((0, len(CLASS_NAMES))), *(one.logits for one in scores)])
    unlike = np.concatenate([np.zeros(0, np.uint8), *(one.unlike for one in scores)])
    steps = [_jpeg_parameters(draw_jpeg_variant(sha256)) for sha256 in before.columns["sha256"]]
    return before, replace(before, logits=logits, unlike=unlike, parts={}), steps


def _prepare_batches(order: np.ndarray, compute_saved, most: int) -> Iterator[tuple[list[int], list[Features]]]:
    """Yield rows whose picture file is unchanged, with their features, until there are `most`."""
    left = most
    with ThreadPoolExecutor(count_cores()) as pool:
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH].tolist()
            saved = pool.map(compute_saved, rows)
            found = [(row, one) for row, one in zip(rows, saved, strict=True) if one is not None][:left]
            left -= len(found)
            if found:
                yield [row for row, _ in found], [one for _, one in found]
            if not left:
                return
