"""Verdicts on picture files: the same features as the build's, the run's best network."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_cards.console import progress as show_progress
from data_cards.decode import SUFFIXES
from data_cards.errors import PictureError, UsageError
from eval.metrics import THRESHOLD, give_verdict
from pipeline.features import features_of_file
from train.predict import predict_probabilities
from train.run_folder import Run, load_detector


@dataclass(frozen=True)
class Verdict:
    """What the detector says of one file.

    Attributes
    ----------
    path : as it was given, or found in a folder that was given
    verdict : "real" or "fake"; None where the file cannot be judged
    probability_fake : the detector's score, 0 to 1; None likewise
    error : why it cannot be judged, else None
    """

    path: str
    verdict: str | None = None
    probability_fake: float | None = None
    error: str | None = None

    def as_json(self) -> dict:
        """Plain values: either verdict and score, or the error."""
        if self.error is not None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "verdict": self.verdict, "probability_fake": self.probability_fake}


def predict_files(
    run: Run,
    paths: Sequence[str | Path],
    *,
    device: str = "auto",
    batch_size: int = 16,
    threshold: float = THRESHOLD,
    progress: bool = True,
) -> list[Verdict]:
    """Judge picture files, and those in folders, in the order given.

    Parameters
    ----------
    run : whose best weights and feature settings are used
    paths : files; a folder stands for every picture below it, sorted
    device : "auto", "cpu", "cuda" or "mps"
    batch_size : pictures in memory at a time
    threshold : from which on a picture is called fake

    Returns
    -------
    One verdict a file; what cannot be judged has its `error` set.
    """
    if batch_size < 1:
        raise UsageError(f"batch size {batch_size}: expected at least 1")
    detector = load_detector(run, device)
    settings = run.build_settings

    def read(path: str) -> np.ndarray | PictureError:
        try:
            if Path(path).is_dir():
                raise PictureError("a folder without a picture in it")
            return features_of_file(path, settings.features, settings.max_pixels)
        except PictureError as error:
            return error

    files = [file for path in paths for file in expand_path(path)]
    verdicts = []
    with ThreadPoolExecutor(os.cpu_count()) as pool, _bar(len(files), progress) as bar:
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            found = list(pool.map(read, batch))
            usable = [features for features in found if not isinstance(features, PictureError)]
            scores = iter(predict_probabilities(detector, np.stack(usable), batch_size) if usable else ())
            for path, features in zip(batch, found, strict=True):
                if isinstance(features, PictureError):
                    verdicts.append(Verdict(path, error=str(features)))
                else:
                    score = float(next(scores))
                    verdicts.append(Verdict(path, give_verdict(score, threshold), score))
            bar.update(len(batch))
    return verdicts


def expand_path(path: str | Path) -> list[str]:
    """The path itself; for a folder the pictures below it, sorted, or the folder where there are none."""
    if not os.path.isdir(path):
        return [str(path)]
    found = sorted(
        str(file)
        for file in Path(path).rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    return found or [str(path)]


def _bar(total: int, progress: bool) -> tqdm:
    bar = show_progress(what="judging", unit="pictures", total=total)
    bar.disable = bar.disable or not progress or total < 2
    return bar
