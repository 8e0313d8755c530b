"""A detector as one PyTorch module, for export: the arithmetic of `train.model.detector` and of its calibration."""

import torch
from torch import nn

from train.model.calibration import compute_log_odds
from train.model.detector import Detector
from train.model.experts import LOG_ODDS_LIMIT
from train.model.experts_graph import ExpertsGraph


class DetectorGraph(nn.Module):
    """Planes, profiles or both, as the detector reads them, to calibrated probabilities of "fake", float32 (N,).

    Parameters
    ----------
    detector : Detector
    transform : module from the first input to all planes of a store, uint8 (N, planes, side, side); None if the input
        is these planes
    """

    def __init__(self, detector: Detector, transform: nn.Module | None = None):
        super().__init__()
        self.network = detector.plane_detector
        self.experts = None if detector.experts is None else ExpertsGraph(detector.experts)
        self.transform = transform or nn.Identity()
        # A network alone has a temperature, a network beside experts a weight.
        self.weight = (
            1 / detector.calibration.temperature if detector.experts is None else detector.experts.network_weight
        )

    def forward(self, planes: torch.Tensor | None = None, profiles: torch.Tensor | None = None) -> torch.Tensor:
        log_odds = 0.0
        if self.network is not None:
            levels = self.transform(planes)[:, self.network.planes]
            log_odds = self.weight * compute_log_odds(self.network(levels))
        if self.experts is not None:
            log_odds = (log_odds + self.experts(profiles)).clamp(-LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)
        return log_odds.sigmoid().float()
