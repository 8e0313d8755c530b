"""The part of a detector that reads planes: normaliser and network as one module, from levels to logits."""

from collections.abc import Sequence
from dataclasses import astuple

import numpy as np
import torch
from torch import nn

from data_cards.core.errors import UsageError
from pipeline.features.settings import KINDS, PLANES_PER_KIND, SQUARE_KINDS, FeatureSettings, base_kind, plane_slice
from train.model.calibration import Calibration
from train.model.network import RADIAL, RADIAL_UP_TO, build_network
from train.model.normaliser import Normaliser, select_statistics
from train.settings import TrainSettings


class PlaneDetector(nn.Module):
    """Features in levels, uint8 (B, C, H, W), to float logits (B, 2) in class order (real, fake).

    C is the number of planes of the detector's kinds.

    Parameters
    ----------
    mean, std : float32 (planes, H, W), the store's statistics, in levels
    network : str, one of `train.settings.NETWORKS` but "auto"
    dropout : float, share dropped before the last layer while training
    kinds : sequence of str, the kinds of planes that it reads, in the store's order
    stem : "auto", "strided" or "plain"
    own_range : bool, stretch each plane of each sample to its own range
    gain : "keep" or "remove" the gain of each sample's log magnitudes

    Attributes
    ----------
    planes : list of int, indices of the store's planes that it reads
    inputs : tuple of str, the kind of each of these planes
    calibration : Calibration of the logits; saved with the weights
    """

    def __init__(
        self,
        mean: np.ndarray | torch.Tensor,
        std: np.ndarray | torch.Tensor,
        network: str = "resnet18",
        dropout: float = 0.0,
        kinds: Sequence[str] = SQUARE_KINDS,
        stem: str = "auto",
        own_range: bool = False,
        gain: str = "keep",
    ):
        super().__init__()
        self.kinds = tuple(kinds)
        every = range(PLANES_PER_KIND * len(KINDS))
        self.planes = [plane for kind in kinds for plane in every[plane_slice(KINDS.index(kind))]]
        self.inputs = tuple(kind for kind in kinds for _ in range(PLANES_PER_KIND))
        magnitudes = [plane_slice(place) for place, kind in enumerate(self.kinds) if base_kind(kind) == "magnitude"]
        gains = magnitudes if gain == "remove" else []
        # Indexing with a list loads SymPy (half a second) if the tensors are on the device "meta".
        planes = torch.tensor(self.planes)
        read = (torch.as_tensor(values).index_select(0, planes) for values in (mean, std))
        self.normalise = Normaliser(*read, own_range, gains)
        self.network = build_network(network, self.inputs, mean.shape[-1], 2, dropout, stem)
        self.calibration = Calibration()
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.normalise.mean.device

    def get_extra_state(self) -> torch.Tensor:
        """Return the calibration, float64 (4,), for the state dict: not a buffer, as some devices have no float64."""
        return torch.tensor(astuple(self.calibration), dtype=torch.float64)

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Restore the calibration from a state dict; raises ValueError for an invalid one."""
        if state.shape != (4,):
            raise ValueError(f"calibration of shape {tuple(state.shape)}, expected (4,)")
        self.calibration = Calibration(*state.tolist())

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        return self.network(self.normalise(levels))


def build_plane_detector(
    settings: TrainSettings,
    features: FeatureSettings,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
) -> PlaneDetector:
    """Build the detector of a run with initial weights, on the CPU.

    Parameters
    ----------
    settings : resolved for these features (`resolve_settings`)
    features : settings of the store's features
    mean, std : ndarray of float32, shape (planes, H, W), the store's statistics, in levels; None if saved
        ones will replace them

    Raises
    ------
    UsageError : a setting that does not fit these features
    """
    if settings.network == RADIAL and features.side > RADIAL_UP_TO:
        raise UsageError(
            f"network radial: planes of {features.side} bins, expected at most {RADIAL_UP_TO}; "
            "give another --network, or build averaged planes (pipeline build --estimator averaged)"
        )
    # ImageNet weights need the strided stem.
    stem = "strided" if settings.stem == "auto" and settings.weights is not None else settings.stem
    if mean is None or std is None:
        mean = std = torch.empty((features.planes, features.side, features.side))
    else:
        mean, std = select_statistics(mean, std, settings.normalise)
    own_range = settings.normalise == "sample"
    return PlaneDetector(mean, std, settings.network, settings.dropout, settings.kinds, stem, own_range, settings.gain)
