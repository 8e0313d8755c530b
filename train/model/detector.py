"""The detector: experts on profiles, a network on planes, or both, and their calibration.

Imports PyTorch only if it has a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from pipeline.features.settings import FeatureSettings
from train.model.calibration import Calibration, compute_log_odds
from train.model.experts import LOG_ODDS_LIMIT, Experts, Unlike, find_grey
from train.settings import SCORING_BATCH_SIZE

if TYPE_CHECKING:
    from pipeline.store.reader import FeatureStore  # loads Zarr, not needed for verdicts
    from train.model.plane_detector import PlaneDetector

NETWORK_PART = "network"  # name of its part beside the experts'
_ROWS_AT_ONCE = 4096  # profiles that are read together: 12 MB


@dataclass(frozen=True)
class Scores:
    """Scores of N pictures or samples.

    Attributes
    ----------
    logits : float64 (N, 2), in class order (real, fake), before the calibration
    unlike : uint8 (N,) of `Unlike`, in what each is unlike the training pictures: then its verdict is "unsure"
    parts : dict of str to float64 (N,), what each expert, and the network beside them, adds to the log-odds of "fake";
        empty without experts
    """

    logits: np.ndarray
    unlike: np.ndarray
    parts: dict[str, np.ndarray] = field(default_factory=dict)

    def __getitem__(self, rows: slice | np.ndarray) -> "Scores":
        """Select pictures or samples."""
        return Scores(self.logits[rows], self.unlike[rows], {name: values[rows] for name, values in self.parts.items()})


@dataclass(frozen=True)
class Detector:
    """A trained detector; it has experts, or a network on planes, or both.

    Attributes
    ----------
    experts : Experts or None
    plane_detector : PlaneDetector or None; None also for a network of weight 0 (`load_detector`)
    calibration : Calibration of the logits
    """

    experts: Experts | None
    plane_detector: "PlaneDetector | None"

    @property
    def calibration(self) -> Calibration:
        return self.plane_detector.calibration if self.experts is None else self.experts.calibration

    @property
    def least_side(self) -> int | None:
        """The number of pixels that no side of a picture may be shorter than; None without experts."""
        return None if self.experts is None else self.experts.needed_side

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of planes that the network reads; empty without a network."""
        return () if self.plane_detector is None else self.plane_detector.kinds

    def choose_settings(self, settings: FeatureSettings) -> FeatureSettings:
        """Return the settings of the features to compute: `settings`, or without a network settings without planes."""
        return settings if self.plane_detector is not None else FeatureSettings()

    def score(self, levels: Sequence[np.ndarray], profiles: np.ndarray, batch_size: int = SCORING_BATCH_SIZE) -> Scores:
        """Score pictures.

        Parameters
        ----------
        levels : for each picture uint8 (crops, planes, side, side), as of `compute_features`; the crops' logits are
            averaged
        profiles : float32 (N, 755)
        """
        logits = None
        if self.plane_detector is not None:
            from train.model.inference import predict_logits  # loads PyTorch

            counts = np.array([len(one) for one in levels])
            crops = np.concatenate(levels)
            parts = [
                predict_logits(self.plane_detector, crops[start : start + batch_size])
                for start in range(0, len(crops), batch_size)
            ]
            logits = np.add.reduceat(np.concatenate(parts), np.cumsum(counts) - counts) / counts[:, None]
        return self._combine(logits, profiles)

    def score_rows(
        self,
        store: "FeatureStore",
        rows: np.ndarray,
        batch_size: int = SCORING_BATCH_SIZE,
        progress: bool = True,
        threads: int = 4,
    ) -> Scores:
        """Score rows of a store, in their order, with a progress bar on stderr if `progress`.

        Raises
        ------
        UserError : the store has no profiles, which the experts read, or no planes, which the network reads
        StoreError : a row cannot be read
        """
        logits = None
        if self.plane_detector is not None:
            from train.model.inference import compute_logits  # loads PyTorch

            logits = compute_logits(self.plane_detector, store, rows, batch_size, progress, threads)
        if self.experts is None and not store.has_profiles:
            return self._combine(logits, np.zeros((len(rows), 0), np.float32))
        starts = range(0, len(rows), _ROWS_AT_ONCE)
        parts = [
            self._combine(
                None if logits is None else logits[start : start + _ROWS_AT_ONCE],
                store.read_profiles(rows[start : start + _ROWS_AT_ONCE]),
            )
            for start in starts
        ]
        if not parts:
            return Scores(np.zeros((0, len(CLASS_NAMES))), np.zeros(0, np.uint8))
        return Scores(
            np.concatenate([one.logits for one in parts]),
            np.concatenate([one.unlike for one in parts]),
            {name: np.concatenate([one.parts[name] for one in parts]) for name in parts[0].parts},
        )

    def _combine(self, logits: np.ndarray | None, profiles: np.ndarray) -> Scores:
        """Add the network's log-odds, at their weight, to the experts'.

        Without experts, `profiles` says which pictures are grey; it may be empty, (N, 0), if nothing needs that.
        """
        if self.experts is None:
            other = Unlike.UNPROVEN if self.calibration.is_always_unsure else Unlike.NOTHING
            return Scores(logits, np.where(find_grey(profiles), Unlike.GREY, other).astype(np.uint8))
        parts = self.experts.compute_parts(profiles)
        if logits is not None:
            parts[NETWORK_PART] = self.experts.network_weight * compute_log_odds(logits)
        half = np.clip(sum(parts.values()) + self.experts.offset, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT) / 2
        return Scores(np.stack([-half, half], axis=1), self.experts.find_unlike(profiles), parts)
