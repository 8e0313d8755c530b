"""Contents of `report.json`, computed from scored rows."""

import numpy as np

from data_cards.core.labels import CLASS_NAMES, TRAIN, VAL
from data_cards.core.seeding import FIXED_SEED
from data_cards.dataset.simulated import SIMULATION_NOTICE
from data_cards.image.jpeg import NO_QUALITY
from eval.explain.class_spectra import load_class_spectra
from eval.report.summary import summarise
from eval.scores.bootstrap import LEVEL, RESAMPLES
from eval.scores.breakdown import (
    compute_by_quality,
    compute_by_source,
    compute_by_variant,
    compute_evaluation,
    compute_histogram,
    compute_over_sources,
    compute_roc,
)
from eval.scores.common_pictures import find_leaked, format_known_split
from eval.scores.expert_study import compute_expert_study
from eval.scores.file_baseline import compute_file_baseline
from eval.scores.jpeg_swap import compute_jpeg_swap
from eval.scores.occlusion_study import compute_occlusion_study
from eval.scores.reliability import compute_abstention, compute_reliability, compute_risk_coverage, compute_thresholds
from eval.scores.rows import Scored, held_out_mask, ignore_variants, locate_pictures
from eval.scores.store_changes import format_store_changes
from eval.scores.stress import compute_by_condition
from eval.settings import EXPLAIN_PICTURES, ReportSettings
from pipeline.features.variants import STRESS
from pipeline.features.versions import get_program_version
from pipeline.store.reader import FeatureStore
from train.data.row_selection import condition_mask
from train.model.detector import Detector
from train.recipe.experts import count_sources
from train.run.folder import Run
from train.run.locate import format_unfinished, is_starter, name_run
from train.run.run_stores import find_training_store

REPORT_VERSION = 2


def compute_contents(
    run: Run,
    detector: Detector,
    store: FeatureStore,
    split: str,
    scored: Scored,
    scopes: dict[str, Scored],
    settings: ReportSettings,
    progress: bool = True,
) -> dict:
    """Compute all of `report.json`, as JSON values.

    Parameters
    ----------
    scored : Scored, the split's rows
    scopes : dict of str to Scored, sets of these rows, from `choose_scopes`
    """
    explain_pictures = EXPLAIN_PICTURES if settings.explain_pictures is None else settings.explain_pictures
    headline = next(iter(scopes))
    training = find_training_store(run, store)
    simulated = store.is_simulated
    leaked = find_leaked(run, scored, store, training, split)
    unleaked = _leave_out(scored, leaked, headline)
    contents = {
        "report_version": REPORT_VERSION,
        "program_version": get_program_version(),
        "simulated": simulated,
        "notice": SIMULATION_NOTICE if simulated else None,
        "summary": [],
        "warnings": _find_warnings(scored, run, store, split, training, leaked, bool(unleaked)),
        "run": {
            "path": name_run(run),
            "starter": is_starter(run),
            "created": run.created,
            "settings": run.settings.to_dict(),
        },
        "store": {"path": str(store.path), "fingerprint": store.fingerprint, "settings": store.settings.to_dict()},
        "split": split,
        "threshold": compute_thresholds(scopes[headline]),
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap over pictures with all their variants; near-duplicates together",
            "resamples": RESAMPLES,
            "seed": FIXED_SEED,
        },
        "headline": headline,
        "scopes": {name: compute_evaluation(part) for name, part in (scopes | unleaked).items()},
        "sources": {name: compute_by_source(part) for name, part in scopes.items()},
        "training_sources": None if training is None else _count_training_sources(run, training),
        "over_sources": compute_over_sources(scopes[headline]),
        "quality_bands": compute_by_quality(scored),
        "conditions": compute_by_condition(scored) if store.settings.variants == STRESS else [],
        "roc": compute_roc(scopes[headline]),
        "histogram": compute_histogram(scopes[headline]),
        "reliability": compute_reliability(scopes[headline]),
        "coverage": compute_risk_coverage(scopes[headline]),
        "abstention": compute_abstention(scopes[headline]),
        "shortcuts": compute_file_baseline(run, scopes[headline].first_of_each_picture(), training),
        "card": _summarise_card(store.cards[0]) if len(store.cards) == 1 else None,
        "audit": training.cards[0]["audit"] if training is not None and len(training.cards) == 1 else None,
        "swap": compute_jpeg_swap(scored, store, detector, settings.swap_pictures, progress),
        "variants": compute_by_variant(scored),
        "experts": compute_expert_study(scopes[headline]),
        "deciding": compute_occlusion_study(
            scopes[headline], store, detector, run.settings.has_network, explain_pictures, progress
        ),
        "profiles": _compute_class_spectra(run, training),
        "rows": _list_rows(scored, store),
    }
    contents["summary"] = summarise(contents)
    return contents


def choose_scopes(scored: Scored) -> dict[str, Scored]:
    """Choose the sets of rows to score: the pictures as they are, all variants. The first is the headline's."""
    clean = scored[scored.is_clean]
    scopes = {"clean": clean} if len(np.unique(clean.labels)) == len(CLASS_NAMES) else {}
    return scopes if len(clean) == len(scored) else {**scopes, "all": scored}


def _leave_out(scored: Scored, leaked: np.ndarray, headline: str) -> dict[str, Scored]:
    """Return the headline's rows without leaked pictures, if some leaked and both classes are left."""
    kept = scored[~leaked]
    kept = kept[kept.is_clean] if headline == "clean" else kept
    both = len(np.unique(kept.labels)) == len(CLASS_NAMES)
    return {"unleaked": kept} if leaked.any() and both else {}


def _find_warnings(
    scored: Scored,
    run: Run,
    store: FeatureStore,
    split: str,
    training: FeatureStore | None,
    leaked: np.ndarray,
    has_unleaked: bool,
) -> list[str]:
    known = format_known_split(run, store, training, split)
    warnings = list(filter(None, [format_unfinished(run), known]))
    warnings += format_store_changes(run, store, training)
    if leaked.any():
        warnings.append(
            f"{len(np.unique(scored.columns['picture'][leaked]))} of {scored.count_pictures()} pictures were in the "
            "run's training or validation split, or have near-duplicates there: the scores can be too "
            f"high{'; read those without leaked pictures' if has_unleaked else ''}"
        )
    return warnings


def _count_training_sources(run: Run, training: FeatureStore) -> dict[str, int]:
    """Count the sources of each class in a run's training and validation rows, as the limits of "unsure" count them."""
    columns = training.columns
    seen = np.isin(columns["split"], (TRAIN, VAL)) & condition_mask(training, ignore_variants(run.settings).where)
    seen &= ~held_out_mask(run, training)
    return count_sources(columns["label"][seen], columns["source"][seen], columns["group"][seen])


def _summarise_card(card: dict) -> dict:
    """Return the parts of a store's data card that a report shows."""
    kept = ("source", "class", "splits", "pictures", "formats", "width", "height", "quality", "provenance")
    sources = [{name: one.get(name) for name in kept} for one in card["sources"]]
    return {name: card[name] for name in ("pictures", "splits", "split_rule", "limits")} | {"sources": sources}


def _compute_class_spectra(run: Run, training: FeatureStore | None) -> dict:
    if not run.settings.has_network:
        return {"reason": "the run has no network, so no planes are compared"}
    profiles = load_class_spectra(run, training)
    if profiles is None:
        return {"reason": "the store that the run was trained on was not found, or has changed"}
    return profiles.to_dict()


def _list_rows(scored: Scored, store: FeatureStore) -> list[dict]:
    columns = scored.columns
    return [
        {
            "path": path,
            "sha256": columns["sha256"][number],
            "label": CLASS_NAMES[scored.labels[number]],
            "source": columns["source"][number],
            "picture": int(columns["picture"][number]),
            "group": int(columns["group"][number]),
            "variant": columns["variant"][number],
            "quality": int(scored.seen_quality[number]) if scored.seen_quality[number] != NO_QUALITY else None,
            **scores,
        }
        for number, (path, scores) in enumerate(zip(locate_pictures(scored, store), scored.list_scores(), strict=True))
    ]


def drop_rows(contents: object) -> object:
    """Return the contents without the lists of each picture's own scores, which are long."""
    if isinstance(contents, dict):
        return {name: drop_rows(value) for name, value in contents.items() if name != "rows"}
    return [drop_rows(value) for value in contents] if isinstance(contents, list) else contents
