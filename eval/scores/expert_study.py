"""Contribution of each expert, and of the network beside them, to the scores of a set."""

from scipy.special import expit

from data_cards.core.labels import CLASS_NAMES
from eval.scores.bootstrap import estimate_difference, estimate_mean
from eval.scores.rows import Scored
from train.model.calibration import compute_log_odds

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
    whole = compute_log_odds(scored.logits)
    return {
        "samples_by_class": scored.count_by_class(),
        "parts": [
            {
                "name": name,
                "auroc_drop": estimate_difference(
                    "auroc", scored.labels, expit(whole), expit(whole - values), scored.groups
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
