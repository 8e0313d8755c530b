"""The shortcut audit: how well do trivial properties alone tell a set's classes apart?

A network that is right because all fakes are PNG has learnt nothing of generators. Each family of
properties (`data_cards.audit.properties`) gets a classifier that is scored on held-out pictures, and,
where each class has at least three sources, on held-out sources; the verdict takes the worse.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from data_cards.audit.best_rule import Telling, find_most_telling
from data_cards.audit.cross_validation import (
    FEWEST_SOURCES,
    Auroc,
    compute_auroc,
    fold_by_group,
    fold_by_source,
    score_held_out,
)
from data_cards.audit.properties import FAMILIES, FILE, build_inputs, compute_properties
from data_cards.core.console import format_table
from data_cards.core.errors import UsageError
from data_cards.core.labels import CLASS_NAMES
from data_cards.dataset.table import MOST_THUMBNAILS, Picture

WARN, FAIL = 0.6, 0.75
FINE, WARNING, FAILED, UNKNOWN = "fine", "warn", "fail", "unknown"
_ORDER = (FINE, WARNING, FAILED)
_GUESSING = 0.5
FEWEST = 20  # pictures of each class
_TOLD = 3  # properties that are told of a family
_NOISE = 0.02  # of the classes' shares: not worth telling


@dataclass(frozen=True)
class Limits:
    """AUROC from which on a family is a warning, and from which on it fails."""

    warn: float = WARN
    fail: float = FAIL

    def __post_init__(self) -> None:
        if not 0.5 <= self.warn <= self.fail <= 1:
            raise UsageError(
                f"limits {self.warn} and {self.fail}: expected 0.5 to 1, the warning's not above the failure's"
            )

    def judge(self, auroc: Auroc) -> str:
        """ "fine", "warn" or "fail"; fine too where so few pictures leave guessing (0.5) within the interval."""
        if auroc.value < self.warn or auroc.low <= _GUESSING:
            return FINE
        return WARNING if auroc.value <= self.fail else FAILED


@dataclass(frozen=True)
class Finding:
    """What one family of properties tells.

    Attributes
    ----------
    family : of `FAMILIES`
    pictures_held_out : AUROC on held-out pictures
    sources_held_out : AUROC on held-out sources; None where a class has fewer than three
    verdict : "fine", "warn" or "fail", the worse of the two's
    telling : the most telling single properties
    """

    family: str
    pictures_held_out: Auroc
    sources_held_out: Auroc | None
    verdict: str
    telling: tuple[Telling, ...]

    @property
    def auroc(self) -> Auroc:
        """The higher of the two."""
        both = [one for one in (self.pictures_held_out, self.sources_held_out) if one]
        return max(both, key=lambda one: one.value)


@dataclass(frozen=True)
class Audit:
    """The audit of a set.

    Attributes
    ----------
    verdict : the worst of the findings'; "unknown" where there are too few pictures
    findings : one a family; none where there are too few pictures
    pictures : number of pictures looked at, of each class (real, fake)
    limits : that were used
    reason : why there are no findings
    """

    verdict: str
    findings: tuple[Finding, ...]
    pictures: tuple[int, int]
    limits: Limits
    reason: str | None = None

    def to_dict(self) -> dict:
        return {**asdict(self), "findings": [{**asdict(one), "auroc": one.auroc.to_dict()} for one in self.findings]}


def audit_pictures(pictures: Sequence[Picture], limits: Limits | None = None, without: Sequence[str] = ()) -> Audit:
    """Audit a set.

    Parameters
    ----------
    pictures : of both classes
    limits : of the verdicts
    without : names of file facts that are left out, as if they were alike for all; the other families
        are then left out too
    """
    limits = limits or Limits()
    chosen = _choose(pictures)
    labels = np.array([CLASS_NAMES.index(picture.file.label) for picture in chosen], dtype=int)
    counts = (int((labels == 0).sum()), int((labels == 1).sum()))
    if min(counts) < FEWEST:
        reason = f"too few pictures: {counts[0]} real and {counts[1]} fake, at least {FEWEST} of each are needed"
        return Audit(UNKNOWN, (), counts, limits, reason)
    # Numbered anew, by first appearance: a store numbers them otherwise than a scan.
    numbers: dict[int, int] = {}
    groups = np.array([numbers.setdefault(picture.group, len(numbers)) for picture in chosen])
    if min(len(np.unique(groups[labels == label])) for label in (0, 1)) < FEWEST // 2:
        return Audit(UNKNOWN, (), counts, limits, "too few different pictures: nearly all are near-duplicates")
    sources = np.array([picture.file.source for picture in chosen], dtype=str)
    folds, by_source = fold_by_group(labels, groups), fold_by_source(labels, sources)
    findings = []
    for family in [FILE] if without else FAMILIES:
        properties = [one for one in compute_properties(chosen, family) if one.name not in without]
        inputs, is_category = build_inputs(chosen, family, properties)
        # Trees for file facts, of all kinds and units; a line for the many alike of the others.
        trees = family == FILE
        own = compute_auroc(labels, score_held_out(inputs, is_category, labels, folds, trees), folds, groups)
        other = None
        if by_source is not None:
            scores = score_held_out(inputs, is_category, labels, by_source, trees)
            other = compute_auroc(labels, scores, by_source, sources)
        verdict = max((limits.judge(one) for one in (own, other) if one), key=_ORDER.index)
        telling = tuple(one for one in find_most_telling(properties, labels)[:_TOLD] if one.difference > _NOISE)
        findings.append(Finding(family, own, other, verdict, telling))
    worst = max((one.verdict for one in findings), key=_ORDER.index)
    return Audit(worst, tuple(findings), counts, limits)


def _choose(pictures: Sequence[Picture]) -> list[Picture]:
    """All pictures that keep their thumbnail, in an order that does not depend on where they lie."""
    seen = [one for one in pictures if one.facts.thumbnail]
    ordered = sorted(seen, key=lambda one: (one.facts.sha256, one.file.label, one.file.split, one.file.source))
    chosen = []
    for label in CLASS_NAMES:
        chosen += [one for one in ordered if one.file.label == label][: MOST_THUMBNAILS // 2]
    return chosen


def format_audit(audit: Audit) -> str:
    """The audit as a table with the most telling properties, for a terminal."""
    real, fake = audit.pictures
    head = f"shortcut audit of {real} real and {fake} fake pictures: {audit.verdict}"
    if audit.reason:
        return f"{head}; {audit.reason}"
    by_source = any(one.sources_held_out for one in audit.findings)
    rows = [
        [one.family, str(one.pictures_held_out), *([str(one.sources_held_out)] if by_source else []), one.verdict]
        for one in audit.findings
    ]
    held_out = ["AUROC, pictures held out", *(["AUROC, sources held out"] if by_source else [])]
    lines = [head, "", format_table(rows, ["seen", *held_out, "verdict"]), ""]
    for one in audit.findings:
        lines += [f"{one.family}: {telling.words}" for telling in one.telling]
    if not by_source:
        lines.append(f"(a class has fewer than {FEWEST_SOURCES} sources: none could be held out)")
    return "\n".join(lines)


def format_audit_briefly(audit: Audit) -> str:
    """The audit in one or two lines, for the end of another command."""
    if audit.reason:
        return f"shortcut audit: {audit.reason}"
    figures = ", ".join(f"{one.family} {one.auroc.value:.2f}" for one in audit.findings)
    text = f"shortcut audit: {audit.verdict}; AUROC of trivial properties alone: {figures} (0.5: they tell nothing)"
    worst = max(audit.findings, key=lambda one: one.auroc.value)
    if audit.verdict != FINE and worst.telling:
        text += f"\n  most telling: {worst.telling[0].words}; `pipeline audit` says what to do"
    return text
