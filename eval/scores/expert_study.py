"""Contribution of each expert, and of the network beside them, to the scores of a set."""

import numpy as np
from scipy.stats import rankdata

from data_cards.core.labels import CLASS_NAMES
from eval.scores.bootstrap import estimate_difference, estimate_mean
from eval.scores.rows import Scored

NO_EXPERTS = "the run has no experts"


def compute_expert_study(scored: Scored) -> dict:
    """Compute the loss of AUROC without each expert.

    Returns
    -------
    `samples_by_class` and `parts`: for each part `name`, `auroc_drop`, the decrease of the AUROC without it, and
    `log_odds` by class, what it adds to the log-odds of "fake" on average; with intervals. Or `reason`, why there is
    no study.
    """
    if not scored.parts:
        return {"reason": NO_EXPERTS}
    whole = sum(scored.parts.values())  # unlike the logits not clipped
    return {
        "samples_by_class": scored.count_by_class(),
        "parts": [
            {
                "name": name,
                "auroc_drop": estimate_difference(
                    "auroc", scored.labels, _rank(whole), _rank(whole - values), scored.groups
                ).to_dict(),
                "log_odds": {
                    label: estimate_mean(
                        values[scored.labels == number], scored.groups[scored.labels == number]
                    ).to_dict()
                    for number, label in enumerate(CLASS_NAMES)
                },
            }
            for name, values in scored.parts.items()
        ],
    }


def _rank(log_odds: np.ndarray) -> np.ndarray:
    """Return numbers from 0 to 1 in the order of the log-odds, on which alone an AUROC depends."""
    return rankdata(log_odds) / len(log_odds)
