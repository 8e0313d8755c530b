"""Scored rows of a store, from which every score of a report is computed."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, FAKE, SPLITS, TRAIN
from data_cards.image.jpeg import NO_QUALITY
from eval.settings import HELD_OUT
from pipeline.features.variants import CLEAN
from pipeline.store.reader import FeatureStore
from train.model.calibration import UNSURE, Calibration
from train.model.detector import Detector
from train.model.experts import Unlike
from train.run.folder import Run
from train.settings import TrainSettings

VERDICTS = (*CLASS_NAMES, UNSURE)


@dataclass(frozen=True)
class Scored:
    """Rows of a store with the detector's scores.

    Attributes
    ----------
    rows : ndarray of int64, shape (N,), their numbers in the store
    columns : dict of str to ndarray, shape (N,), every per-sample column of the store
    logits : ndarray of float64, shape (N, 2), of the detector, in class order (real, fake)
    calibration : Calibration, of the run
    unlike : ndarray of uint8, shape (N,), values of `train.model.experts.Unlike`: all but 0 are "unsure"
    parts : dict of str to ndarray of float64, shape (N,), what each expert adds to the log-odds; empty without experts
    """

    rows: np.ndarray
    columns: dict[str, np.ndarray]
    logits: np.ndarray
    calibration: Calibration
    unlike: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.logits)

    def __getitem__(self, rows: np.ndarray) -> "Scored":
        """Select rows, by mask or by number."""
        columns, parts = ({name: values[rows] for name, values in one.items()} for one in (self.columns, self.parts))
        return Scored(self.rows[rows], columns, self.logits[rows], self.calibration, self.unlike[rows], parts)

    @cached_property
    def probability_fake(self) -> np.ndarray:
        """float64 (N,): calibrated probability of "fake"."""
        return self.calibration.probability(self.logits)

    @property
    def threshold(self) -> float:
        """The lowest probability at which a picture is called fake."""
        return self.calibration.threshold

    @cached_property
    def called_fake(self) -> np.ndarray:
        """bool (N,): whether each row is on the fake side of the threshold."""
        return self.calibration.is_fake(self.probability_fake)

    @cached_property
    def is_unsure(self) -> np.ndarray:
        """bool (N,): between the limits, or unlike the training pictures."""
        return self.calibration.is_unsure(self.probability_fake) | (self.unlike != Unlike.NOTHING)

    @cached_property
    def is_wrong(self) -> np.ndarray:
        """bool (N,): on the wrong side of the threshold, whether unsure or not."""
        return self.called_fake != (self.labels == FAKE)

    @cached_property
    def verdicts(self) -> np.ndarray:
        """int (N,): position of each row's verdict in `VERDICTS`."""
        return np.where(self.is_unsure, VERDICTS.index(UNSURE), self.called_fake)

    @property
    def labels(self) -> np.ndarray:
        """uint8 (N,): 0 real, 1 fake."""
        return self.columns["label"]

    @property
    def groups(self) -> np.ndarray:
        """int32 (N,): near-duplicate group, the unit of the intervals."""
        return self.columns["group"]

    @property
    def is_clean(self) -> np.ndarray:
        """bool (N,): the picture itself, not a changed variant."""
        return self.columns["variant"] == CLEAN.name

    @cached_property
    def seen_quality(self) -> np.ndarray:
        """int (N,): JPEG quality of the last saving: the variant's, else the file's; `NO_QUALITY` for no JPEG."""
        drawn = self.columns["jpeg_quality"]
        return np.where(drawn != NO_QUALITY, drawn, self.columns["file_quality"])

    def count_by_class(self) -> dict[str, int]:
        """Count the rows of each class."""
        return {name: int((self.labels == label).sum()) for label, name in enumerate(CLASS_NAMES)}

    def list_scores(self) -> list[dict]:
        """Return each row's logits, probability and verdict, with the reason of an unsure one, as JSON values."""
        return [
            {
                "logits": logits.tolist(),
                "probability_fake": float(p),
                "verdict": VERDICTS[verdict],
                "reason": reason,
            }
            for logits, p, verdict, reason in zip(
                self.logits, self.probability_fake, self.verdicts, self.list_reasons(), strict=True
            )
        ]

    def list_reasons(self) -> list[str | None]:
        """Return why each row is unsure, named as in verdicts on files; None for a sure verdict."""
        named = [None if one == Unlike.NOTHING else Unlike(one).name.lower() for one in self.unlike.tolist()]
        return [name or ("in_band" if unsure else None) for name, unsure in zip(named, self.is_unsure, strict=True)]

    def count_pictures(self) -> int:
        """Count the different pictures."""
        return len(np.unique(self.columns["picture"]))

    def sort_by_picture(self) -> "Scored":
        """Return the same rows in the order of their pictures' numbers."""
        return self[np.argsort(self.columns["picture"], kind="stable")]

    def first_of_each_picture(self) -> "Scored":
        """Select the first row of each picture."""
        return self[np.unique(self.columns["picture"], return_index=True)[1]]


def find_rows(run: Run, store: FeatureStore, split: str) -> np.ndarray:
    """Return the rows of a split; "held-out" selects the sources that the run left out.

    Raises
    ------
    UserError : the split is empty, or has one class only
    """
    if split == HELD_OUT:
        if not run.settings.hold_out:
            raise UserError(f"{run.path}: the run left no source out; train one with `train run --hold-out SOURCE`")
        rows = np.flatnonzero(held_out_mask(run, store))
    else:
        rows = store.rows(split)
    if not len(rows) and split == HELD_OUT:
        raise UserError(
            f"{store.path}: has no picture of {' and '.join(run.settings.hold_out)}, which the run left out; "
            "give a store that has some with --store"
        )
    if not len(rows):
        others = [f"--split {name}" for name in SPLITS if len(store.rows(name)) and name != TRAIN]
        instead = f", or give {' or '.join(others)}" if others else ""
        raise UserError(
            f"{store.path}: has no {split} split; put pictures under {split}/real and {split}/fake "
            f"and build it again{instead}"
        )
    labels = np.unique(store.columns["label"][rows])
    if len(labels) < len(CLASS_NAMES):
        there = CLASS_NAMES[labels[0]]
        missing = next(name for name in CLASS_NAMES if name != there)
        if split == HELD_OUT:
            raise UserError(
                f"{run.path}: the sources that it left out are all {there}, and a report needs both classes; "
                f"train one that also leaves out a source of {missing} pictures"
            )
        raise UserError(
            f"{store.path}: its {split} split is all {there}, and a report needs both classes; "
            f"put pictures under {split}/{missing} and build it again"
        )
    return rows


def held_out_mask(run: Run, store: FeatureStore) -> np.ndarray:
    """Return the mask, bool (N,), of rows whose source the run left out of its training."""
    return np.isin(store.columns["source"], np.array(run.settings.hold_out, dtype=object))


def ignore_variants(settings: TrainSettings) -> TrainSettings:
    """Return the settings without conditions on variants: they choose the same pictures, which have all variants.

    A store that was built again may have other variants than the run names.
    """
    return replace(settings, where=tuple(one for one in settings.where if not one.startswith("variant=")))


def score_samples(
    run: Run,
    detector: Detector,
    store: FeatureStore,
    rows: np.ndarray,
    *,
    batch_size: int,
    threads: int,
    progress: bool = True,
) -> Scored:
    """Score rows of a store with a run's detector.

    Raises
    ------
    UserError : the weights give no finite scores
    StoreError : a row cannot be read
    """
    scores = detector.score_rows(store, rows, batch_size, progress, threads)
    if not np.isfinite(scores.logits).all():
        raise UserError(f"{run.path}: the run gives no finite scores, because training diverged; train it again")
    return Scored(
        rows,
        {name: values[rows] for name, values in store.columns.items()},
        scores.logits,
        detector.calibration,
        scores.unlike,
        scores.parts,
    )


def locate_pictures(scored: Scored, store: FeatureStore) -> list[str]:
    """Return the path that each row's picture file had when the store was built."""
    return [str(store.picture_path(row)) for row in scored.rows]
