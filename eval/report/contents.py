"""The figures of a report, from scored rows to the plain values that stand in `report.json`."""

import numpy as np

from data_cards.core.labels import CLASS_NAMES
from data_cards.core.seeding import FIXED_SEED
from data_cards.dataset.simulated import SIMULATION_NOTICE
from data_cards.image.jpeg import NO_QUALITY
from eval.defaults import EXPLAIN_PICTURES, SWAP_PICTURES
from eval.explain.class_spectra import find_profiles
from eval.report.summary import summarise
from eval.scores import jpeg_swap as swap
from eval.scores import occlusion_study as deciding
from eval.scores.bootstrap import LEVEL, RESAMPLES
from eval.scores.breakdown import (
    describe,
    describe_histogram,
    describe_over_sources,
    describe_quality_bands,
    describe_roc,
    describe_sources,
)
from eval.scores.common_pictures import find_leaked
from eval.scores.file_baseline import describe_shortcuts
from eval.scores.reliability import describe_abstention, describe_coverage, describe_reliability, describe_threshold
from eval.scores.rows import Scored, locate_pictures
from eval.scores.stress import RECIPE as STRESS
from eval.scores.stress import describe_conditions
from pipeline.features.versions import get_program_version
from pipeline.store.reader import FeatureStore
from train.model.detector import Detector
from train.run.folder import Run
from train.run.locate import find_training_store

REPORT_VERSION = 2


def compute_figures(
    run: Run,
    detector: Detector,
    store: FeatureStore,
    split: str,
    scored: Scored,
    scopes: dict[str, Scored],
    *,
    swap_pictures: int = SWAP_PICTURES,
    explain_pictures: int = EXPLAIN_PICTURES,
    progress: bool = True,
) -> dict:
    """All figures of a report as plain values.

    Parameters
    ----------
    scored : the split's rows
    scopes : sets of them, as `choose_scopes` gives them
    swap_pictures, explain_pictures : at most so many for the JPEG-swap test and for what decided; 0 leaves it out
    """
    headline = next(iter(scopes))
    training = find_training_store(run, store)
    simulated = store.is_simulated
    leaked = find_leaked(run, scored, store, training, split)
    unleaked = _leave_out(scored, leaked, headline)
    figures = {
        "report_version": REPORT_VERSION,
        "program_version": get_program_version(),
        "simulated": simulated,
        "notice": SIMULATION_NOTICE if simulated else None,
        "summary": [],
        "warnings": _find_warnings(scored, run, store, split, training, leaked),
        "run": {"path": str(run.path), "created": run.created, "settings": run.settings.to_dict()},
        "store": {"path": str(store.path), "fingerprint": store.fingerprint, "settings": store.settings.to_dict()},
        "split": split,
        "threshold": describe_threshold(scopes[headline]),
        "intervals": {
            "level": LEVEL,
            "method": "percentile bootstrap over pictures with all their variants; near-duplicates together",
            "resamples": RESAMPLES,
            "seed": FIXED_SEED,
        },
        "headline": headline,
        "scopes": {name: describe(part) for name, part in (scopes | unleaked).items()},
        "sources": {name: describe_sources(part) for name, part in scopes.items()},
        "over_sources": describe_over_sources(scopes[headline]),
        "quality_bands": describe_quality_bands(scored),
        "conditions": describe_conditions(scored) if store.settings.variants == STRESS else [],
        "roc": describe_roc(scopes[headline]),
        "histogram": describe_histogram(scopes[headline]),
        "reliability": describe_reliability(scopes[headline]),
        "coverage": describe_coverage(scopes[headline]),
        "abstention": describe_abstention(scopes[headline]),
        "shortcuts": describe_shortcuts(run, scopes[headline].first_of_each_picture(), training),
        "card": _shorten_card(store.cards[0]) if len(store.cards) == 1 else None,
        "audit": training.cards[0]["audit"] if training is not None and len(training.cards) == 1 else None,
        "swap": swap.describe_swap(scored, store, detector, swap_pictures, progress),
        "deciding": deciding.describe_deciding(scopes[headline], store, detector, explain_pictures, progress),
        "profiles": _describe_profiles(run, training),
        "rows": _list_rows(scored, store),
    }
    figures["summary"] = summarise(figures)
    return figures


def choose_scopes(scored: Scored) -> dict[str, Scored]:
    """The sets of rows that are scored, the headline's first: the pictures as they are, all variants."""
    clean = scored[scored.is_clean]
    scopes = {"clean": clean} if len(np.unique(clean.labels)) == len(CLASS_NAMES) else {}
    return scopes if len(clean) == len(scored) else {**scopes, "all": scored}


def _leave_out(scored: Scored, leaked: np.ndarray, headline: str) -> dict[str, Scored]:
    """The headline's rows without leaked pictures, where there are leaked ones and both classes are left."""
    kept = scored[~leaked]
    kept = kept[kept.is_clean] if headline == "clean" else kept
    both = len(np.unique(kept.labels)) == len(CLASS_NAMES)
    return {"unleaked": kept} if leaked.any() and both else {}


def _find_warnings(
    scored: Scored, run: Run, store: FeatureStore, split: str, training: FeatureStore | None, leaked: np.ndarray
) -> list[str]:
    warnings = []
    if split == "train":
        warnings.append("these are the pictures that the network was trained on: the scores say how well it remembers")
    if split == "val":
        warnings.append("the best epoch was chosen on the validation split: its scores flatter a little")
    if training is None:
        warnings.append(
            f"the store has changed since {run.path} was trained, or is another: "
            "whether the run was trained on pictures of this split cannot be checked"
        )
    if leaked.any():
        warnings.append(
            f"{len(np.unique(scored.columns['picture'][leaked]))} of {scored.count_pictures()} pictures were in the "
            "run's training or validation split, as themselves or as near-duplicates: the scores flatter; "
            "those without leaked pictures do not"
        )
    return warnings


def _shorten_card(card: dict) -> dict:
    """What of a store's data card stands in a report."""
    kept = ("source", "class", "splits", "pictures", "formats", "width", "height", "quality", "provenance")
    sources = [{name: one.get(name) for name in kept} for one in card["sources"]]
    return {name: card[name] for name in ("pictures", "splits", "split_rule", "limits")} | {"sources": sources}


def _describe_profiles(run: Run, training: FeatureStore | None) -> dict:
    profiles = find_profiles(run, training)
    return {"reason": "the run's own pictures are not at hand"} if profiles is None else profiles.as_json()


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
            "logits": scored.logits[number].tolist(),
            "probability_fake": float(scored.probability_fake[number]),
            "verdict": scored.calibration.verdict(scored.probability_fake[number]),
        }
        for number, path in enumerate(locate_pictures(scored, store))
    ]


def leave_out_rows(figures: object) -> object:
    """The figures without the lists of each picture's own scores, which are long."""
    if isinstance(figures, dict):
        return {name: leave_out_rows(value) for name, value in figures.items() if name != "rows"}
    return [leave_out_rows(value) for value in figures] if isinstance(figures, list) else figures
