"""Samples changed at random while training, so that the network learns what they share.

What is drawn for a step is a pure function of (seed, step) and the same on every device: a few
numbers a sample, drawn on the CPU. The work on the planes is done where the planes are. Flips are
made on the levels, all else on the normalised values, where zero is the mean.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from data_cards.labels import CLASS_NAMES
from pipeline.frequencies import HIGHEST, frequencies_of
from pipeline.settings import FeatureSettings
from train.detector import Detector
from train.flip import Flip
from train.order import draw_seed
from train.settings import TrainSettings
from train.team import ALONE, Team


@dataclass(frozen=True)
class Draws:
    """What is done to the samples of one step; an option that is off has None.

    Attributes
    ----------
    flipped : bool (B,), samples that become the mirrored picture's
    bands : float (B, 2), frequencies in cycles per pixel from which and to which all is hidden
    hidden : bool (B, K), kinds of planes that are hidden, never all of a sample
    partners : int64 (B,), the sample that each is mixed with
    shares : float (B,), what is kept of each sample; the rest is its partner's
    """

    flipped: np.ndarray | None = None
    bands: np.ndarray | None = None
    hidden: np.ndarray | None = None
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None


class Augmenter:
    """Draws and makes the changes that the settings of a run ask for.

    Parameters
    ----------
    features : what the store was built with
    detector : whose planes they are; the changes are made on its device
    """

    def __init__(self, settings: TrainSettings, features: FeatureSettings, detector: Detector):
        self._settings = settings
        self._kinds = detector.kinds
        self._inputs = detector.inputs
        self._device = detector.device
        side = features.side
        self._flip = Flip(detector.kinds, side, features.estimator, detector.device) if settings.flips else None
        self._frequencies = {}
        if settings.band_masking:
            self._frequencies = {
                kind: torch.from_numpy(frequencies_of(kind, side, side).astype(np.float32)).to(detector.device)
                for kind in detector.kinds
            }

    def draw(self, step: int, count: int, team: Team = ALONE) -> Draws:
        """What happens to the samples of this process's part of a step's batch, which has `count` in all.

        A band's width is uniform from 0 to the setting's share of all frequencies, and so is its place (SpecAugment,
        Park et al., 2019). Shares of mixing are those of mixup (Zhang et al., 2018), one a sample.
        """
        settings = self._settings
        # One generator a change: turning one of them on leaves what the others draw as it was.
        flips, bands, kinds, mixing = np.random.default_rng(draw_seed(settings.seed, step)).spawn(4)
        drawn = {}
        if settings.flips:
            drawn["flipped"] = flips.random(count) < settings.flips
        if settings.band_masking:
            widths = bands.random(count) * settings.band_masking
            starts = bands.random(count) * (1 - widths)
            drawn["bands"] = HIGHEST * np.stack([starts, starts + widths], axis=1)
        if settings.kind_dropout:
            chances = kinds.random((count, len(self._kinds)))
            hidden = chances < settings.kind_dropout
            hidden[np.arange(count), chances.argmax(axis=1)] = False
            drawn["hidden"] = hidden
        if settings.mixup:
            drawn["shares"] = mixing.beta(settings.mixup, settings.mixup, count)
        part = team.place(count)
        drawn = {name: values[part] for name, values in drawn.items()}
        if settings.mixup:  # with samples that this process has
            drawn["partners"] = mixing.spawn(team.size)[team.rank].permutation(part.stop - part.start)
        return Draws(**drawn)

    def change_levels(self, levels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Levels (B, C, H, W) with the flips made; the tensor given stays as it is."""
        if draws.flipped is None or not draws.flipped.any():
            return levels
        chosen = torch.from_numpy(np.flatnonzero(draws.flipped)).to(self._device)
        changed = levels.clone()
        changed[chosen] = self._flip(levels[chosen])
        return changed

    def change_values(self, values: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Normalised values (B, inputs, H, W), hidden and mixed; may change the tensor given."""
        if draws.bands is not None:
            low, high = self._move(draws.bands)[:, :, None, None].unbind(1)
            masks = {kind: (low <= radius) & (radius < high) for kind, radius in self._frequencies.items()}
            for plane, kind in enumerate(self._inputs):
                values[:, plane].masked_fill_(masks[kind], 0)
        if draws.hidden is not None:
            of_input = draws.hidden[:, [self._kinds.index(kind) for kind in self._inputs]]
            values.masked_fill_(torch.from_numpy(of_input).to(self._device)[:, :, None, None], 0)
        if draws.shares is not None:
            shares = self._move(draws.shares)[:, None, None, None]
            values = torch.lerp(values[self._partners(draws)], values, shares)
            values = values.contiguous(memory_format=torch.channels_last)  # indexing may have lost it
        return values

    def losses(self, logits: torch.Tensor, labels: torch.Tensor, draws: Draws) -> torch.Tensor:
        """Cross-entropy (B,) with the settings' label smoothing; of mixed samples against both labels."""
        smoothing = self._settings.label_smoothing
        if draws.shares is None:
            return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        own = functional.one_hot(labels, len(CLASS_NAMES)).to(logits.dtype)
        targets = torch.lerp(own[self._partners(draws)], own, self._move(draws.shares)[:, None])
        return functional.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")

    def _partners(self, draws: Draws) -> torch.Tensor:
        return torch.from_numpy(draws.partners).to(self._device)

    def _move(self, values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self._device)
