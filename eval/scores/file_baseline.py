"""Baseline of trivial file properties alone, on the same pictures as the detector."""

import numpy as np

from data_cards.audit.file_baseline import score_shortcuts, select_file_columns
from data_cards.core.labels import CLASS_NAMES
from eval.scores.bootstrap import estimate_difference, estimate_scores
from eval.scores.rows import Scored, ignore_variants
from pipeline.store.reader import FeatureStore
from train.data.expert_rows import choose_expert_rows
from train.data.row_selection import split_rows
from train.run.folder import Run

SCORES = ("auroc", "accuracy", "balanced_accuracy")


def compute_file_baseline(run: Run, pictures: Scored, training: FeatureStore | None) -> dict:
    """Compute the scores of classifiers that see file properties only.

    Parameters
    ----------
    run : Run, on whose training pictures they are fitted
    pictures : Scored, one row per picture, with the detector's scores
    training : FeatureStore or None, the store that the run was trained on; None if it is not available

    Returns
    -------
    `shortcuts`, scores with intervals by name of the properties; `strongest`, the one with the highest AUROC on these
    pictures, because one property alone may score higher than all together; and `lead`, the detector's AUROC minus
    that of the strongest, with its paired interval. Or `reason`, why there are no such scores.
    """
    if training is None:
        return {"reason": "the store that the run was trained on was not found, or has changed"}
    settings = ignore_variants(run.settings)
    rows = choose_expert_rows(training, settings) if settings.has_experts else split_rows(training, settings)[0]
    rows = rows[np.unique(training.columns["picture"][rows], return_index=True)[1]]
    labels = training.columns["label"][rows]
    if len(np.unique(labels)) < len(CLASS_NAMES):
        return {"reason": "the training pictures are all of one class"}
    scored = score_shortcuts(
        select_file_columns(training.columns, rows),
        labels,
        select_file_columns(pictures.columns, np.arange(len(pictures))),
    )
    shortcuts = []
    for name, probabilities in scored.items():
        estimates = estimate_scores(pictures.labels, probabilities, pictures.groups)
        shortcuts.append({"properties": name, **{score: estimates[score].to_dict() for score in SCORES}})
    strongest = max(shortcuts, key=lambda one: one["auroc"]["value"])
    lead = estimate_difference(
        "auroc", pictures.labels, pictures.probability_fake, scored[strongest["properties"]], pictures.groups
    )
    return {"training_pictures": len(rows), "shortcuts": shortcuts, "strongest": strongest, "lead": lead.to_dict()}
