"""Shortcut audit: how well trivial properties alone separate a set's classes.

A network that is right because all fakes are PNG has learnt nothing about generators. Each family of
properties (`data_cards.audit.properties`) gets a classifier that is scored on held-out pictures and,
where each class has at least three sources, on held-out sources; the verdict is the worse of the two.
On few pictures a classifier of many properties can miss a difference that one property shows. So the best single
property, chosen without the pictures that it scores, is scored too, and the better of the two scores counts. Because
the verdict uses the best of four scores, the intervals are widened (Bonferroni): sets of shuffled labels give no
more warnings than with the classifiers alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum, StrEnum

import numpy as np

from data_cards.audit.best_rule import Rule, find_best_rules, format_rule
from data_cards.audit.cross_validation import (
    FEWEST_SOURCES,
    GUESSING,
    LEVEL,
    Auroc,
    compute_auroc,
    compute_held_out_auroc,
    find_best_single,
    fold_by_group,
    fold_by_source,
    score_by_ridge,
    score_by_trees,
)
from data_cards.audit.properties import FAMILIES, FILE, HISTORY, PROFILE, THUMB, build_inputs, compute_properties
from data_cards.core.console import format_table, warn
from data_cards.core.errors import UsageError, format_error
from data_cards.core.labels import CLASS_NAMES, FAKE, REAL
from data_cards.core.text import Lines, join_lines
from data_cards.core.value_types import convert_fields
from data_cards.dataset.table import FEWEST_AUDITED, MOST_THUMBNAILS, Picture

WARN, FAIL = 0.6, 0.75
_RULES = 3  # listed of a family
_LEVEL = 1 - (1 - LEVEL) / 4  # for the best of four AUROCs: two kinds of folds, two ways to score
_NOISE = 0.02  # difference of the classes' shares below which a rule is not listed


class Verdict(StrEnum):
    """Conclusion of an audit on a family or a set, from best to worst, then `UNKNOWN`."""

    FINE = "fine"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


_ORDER = tuple(Verdict)


class Obstacle(Enum):
    """Reason why pictures cannot be audited."""

    TOO_FEW = "too few pictures"
    DUPLICATES = "nearly all pictures are near-duplicates"
    FAILED = "the audit failed"


@dataclass(frozen=True)
class Limits:
    """The lowest and the highest AUROC of a warning; below it the verdict is fine, above it fail."""

    warn: float = WARN
    fail: float = FAIL

    def __post_init__(self) -> None:
        convert_fields(self)
        if not 0.5 <= self.warn <= self.fail <= 1:
            raise UsageError(
                f"--warn {self.warn} --fail {self.fail}: expected 0.5 to 1, the first not above the second"
            )

    def judge(self, auroc: Auroc) -> Verdict:
        """Return the verdict on an AUROC; it is fine too if the interval includes guessing (0.5)."""
        if auroc.value < self.warn or auroc.low <= GUESSING:
            return Verdict.FINE
        return Verdict.WARN if auroc.value <= self.fail else Verdict.FAIL


@dataclass(frozen=True)
class Single:
    """The best single property of a family.

    Attributes
    ----------
    name : str, of the property that is the best in most folds of pictures
    pictures_held_out, sources_held_out : as in `Finding`, for the property that is the best in each fold
    """

    name: str
    pictures_held_out: Auroc
    sources_held_out: Auroc | None


@dataclass(frozen=True)
class Finding:
    """The result of the audit of one family of properties.

    Attributes
    ----------
    family : str, of `FAMILIES`
    pictures_held_out : AUROC on held-out pictures: the higher of that of all properties and that of the best single one
    sources_held_out : the same on held-out sources; None if a class has fewer than three
    best_single : the best single property
    verdict : the worse of the verdicts on the two AUROCs
    rules : the best single rules
    """

    family: str
    pictures_held_out: Auroc
    sources_held_out: Auroc | None
    best_single: Single
    verdict: Verdict
    rules: tuple[Rule, ...]

    @property
    def auroc(self) -> Auroc:
        """The higher of the two AUROCs."""
        both = [one for one in (self.pictures_held_out, self.sources_held_out) if one]
        return max(both, key=lambda one: one.value)

    def to_dict(self) -> dict:
        values = asdict(self)
        del values["rules"]
        return {**values, "telling": [rule.to_dict() for rule in self.rules], "auroc": asdict(self.auroc)}


@dataclass(frozen=True)
class Audit:
    """The audit of a set.

    Attributes
    ----------
    findings : one for each family, without earlier processing if too few pictures have been read for it; empty if
        there is an obstacle
    pictures : number of audited pictures of each class (real, fake)
    limits : of the verdicts
    obstacle : the reason why there are no findings; None if there are findings
    failure : str, the error of an audit that failed
    """

    findings: tuple[Finding, ...]
    pictures: tuple[int, int]
    limits: Limits
    obstacle: Obstacle | None = None
    failure: str = ""

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the findings."""
        return max((one.verdict for one in self.findings), key=_ORDER.index, default=Verdict.UNKNOWN)

    def to_dict(self) -> dict:
        return {
            "verdict": self.verdict,
            "findings": [one.to_dict() for one in self.findings],
            "pictures": self.pictures,
            "limits": asdict(self.limits),
            "reason": format_obstacle(self),
        }


def audit_pictures(pictures: Sequence[Picture], limits: Limits | None = None, without: Sequence[str] = ()) -> Audit:
    """Audit a set.

    Parameters
    ----------
    pictures : of both classes
    limits : of the verdicts
    without : names of file facts that are left out, as if they were the same for all pictures; if any is given, only
        file facts are audited
    """
    limits = limits or Limits()
    chosen = _choose(pictures)
    counts = _count(chosen)
    if obstacle := _find_obstacle(chosen):
        return Audit((), counts, limits, obstacle)
    findings = []
    for family in [FILE] if without else FAMILIES:
        pictures = [one for one in chosen if one.facts.history] if family == HISTORY else chosen
        if not _find_obstacle(pictures):
            findings.append(_audit_family(pictures, family, without, limits))
    return Audit(tuple(findings), counts, limits)


def _count(pictures: Sequence[Picture]) -> tuple[int, int]:
    counts = Counter(picture.file.label for picture in pictures)
    return counts[CLASS_NAMES[REAL]], counts[CLASS_NAMES[FAKE]]


def _find_obstacle(pictures: Sequence[Picture]) -> Obstacle | None:
    if min(_count(pictures)) < FEWEST_AUDITED:
        return Obstacle.TOO_FEW
    groups = ({picture.group for picture in pictures if picture.file.label == label} for label in CLASS_NAMES)
    return Obstacle.DUPLICATES if min(map(len, groups)) < FEWEST_AUDITED // 2 else None


def _audit_family(pictures: Sequence[Picture], family: str, without: Sequence[str], limits: Limits) -> Finding:
    labels = np.array([CLASS_NAMES.index(picture.file.label) for picture in pictures], dtype=int)
    # Renumbered by first appearance, because a store and a scan number them differently.
    numbers: dict[int, int] = {}
    groups = np.array([numbers.setdefault(picture.group, len(numbers)) for picture in pictures])
    properties = [one for one in compute_properties(pictures, family) if one.name not in without]
    inputs, is_category = build_inputs(pictures, family, properties)
    classifier = score_by_ridge if family in (THUMB, PROFILE) else score_by_trees
    sources = np.array([picture.file.source for picture in pictures], dtype=str)
    found, alone, names = [], [], []
    for folds, clusters in ((fold_by_group(labels, groups), groups), (fold_by_source(labels, sources), sources)):
        if folds is None:
            found.append(None)
            alone.append(None)
            continue
        together = compute_held_out_auroc(classifier, inputs, is_category, labels, folds, clusters, _LEVEL)
        # The first inputs are the properties.
        singles = slice(len(properties))
        number, scores = find_best_single(inputs[:, singles], is_category[singles], labels, folds)
        single = compute_auroc(labels, scores, folds, clusters, _LEVEL)
        names.append(properties[number].name)
        alone.append(single)
        found.append(max(together, single, key=lambda one: one.value))
    verdict = max((limits.judge(one) for one in found if one), key=_ORDER.index)
    rules = tuple(one for one in find_best_rules(properties, labels)[:_RULES] if one.difference > _NOISE)
    return Finding(family, *found, Single(names[0], *alone), verdict, rules)


def audit_or_warn(pictures: Sequence[Picture]) -> Audit:
    """Audit a set for another command; an error of the audit becomes a warning and does not stop the command."""
    try:
        return audit_pictures(pictures)
    except Exception as error:  # of any type, raised by a library for an unusual set
        failure = f"{type(error).__name__}: {format_error(error)}"
        audit = Audit((), _count(pictures), Limits(), Obstacle.FAILED, failure)
        warn(format_audit_briefly(audit))
        return audit


def _choose(pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures with a thumbnail, at most `MOST_THUMBNAILS // 2` of each class, ordered by content."""
    kept = [one for one in pictures if one.facts.thumbnail]
    kept.sort(key=lambda one: (one.facts.sha256, one.file.label, one.file.split, one.file.source))
    return [
        picture
        for label in CLASS_NAMES
        for picture in [one for one in kept if one.file.label == label][: MOST_THUMBNAILS // 2]
    ]


def format_obstacle(audit: Audit) -> str | None:
    """Format the reason why there are no findings; None if there are some."""
    if audit.obstacle is Obstacle.DUPLICATES:
        return "too few different pictures: nearly all are near-duplicates"
    if audit.obstacle is Obstacle.TOO_FEW:
        real, fake = audit.pictures
        return f"too few pictures: {real} real and {fake} fake, at least {FEWEST_AUDITED} of each are needed"
    if audit.obstacle is Obstacle.FAILED:
        return f"it failed ({audit.failure}); please report the output of `pipeline audit`"
    return None


def format_audit(audit: Audit) -> Lines:
    """Format an audit as a table with each family's best rules, for a terminal."""
    real, fake = audit.pictures
    head = f"shortcut audit of {real} real and {fake} fake pictures: {audit.verdict}"
    if audit.obstacle:
        return join_lines([f"{head}; {format_obstacle(audit)}"])
    by_source = any(one.sources_held_out for one in audit.findings)
    rows = [
        [one.family, str(one.pictures_held_out), *([str(one.sources_held_out)] if by_source else []), one.verdict]
        for one in audit.findings
    ]
    held_out = ["AUROC, pictures held out", *(["AUROC, sources held out"] if by_source else [])]
    lines = [head, "", format_table(rows, ["properties", *held_out, "verdict"]), ""]
    lines += [f"{one.family}: {format_rule(rule)}" for one in audit.findings for rule in one.rules]
    if not any(one.family == HISTORY for one in audit.findings):
        lines.append(
            f"({HISTORY}: not audited, because fewer than {FEWEST_AUDITED} pictures of a class have been read for it)"
        )
    if not by_source:
        lines.append(f"(a class has fewer than {FEWEST_SOURCES} sources, so no source could be held out)")
    return join_lines(lines)


def format_finding(family: str, auroc: float, verdict: str, rule: str | None) -> str:
    """Format the finding on a family of properties as a sentence without its full stop.

    Parameters
    ----------
    family : str, of `FAMILIES`
    auroc : float, 0 to 1
    verdict : str, of `Verdict`
    rule : str, the best single rule in words; None if the family has none
    """
    example = f"; for example, {rule}" if rule else ""
    can = {Verdict.FINE: "were not shown to be separable", Verdict.WARN: "can partly be separated"}
    return f"The classes {can.get(verdict, 'can be separated')} by the {family} alone (AUROC {auroc:.2f}){example}"


def format_audit_briefly(audit: Audit) -> Lines:
    """Format an audit as one to three lines, for the output of another command and for cards."""
    if audit.obstacle:
        return join_lines([f"shortcut audit: {format_obstacle(audit)}"])
    ordered = sorted(audit.findings, key=lambda one: -one.auroc.value)
    if audit.verdict is Verdict.FINE:
        return join_lines(
            [
                "shortcut audit: fine; no trivial property was found to separate the classes (highest AUROC: "
                f"{ordered[0].family} {ordered[0].auroc.value:.2f}; 0.5 is guessing)"
            ]
        )
    found = [one for one in ordered if one.verdict is not Verdict.FINE]
    figures = ", ".join(f"{one.family} {one.auroc.value:.2f}" for one in found)
    lines = [
        f"shortcut audit: {audit.verdict}; trivial properties alone separate the classes; a detector may learn them",
        f"  AUROC, 0.5 is guessing: {figures}",
    ]
    rule = next((f"best single rule ({one.family}): {format_rule(one.rules[0])}; " for one in found if one.rules), "")
    return join_lines([*lines, f"  {rule}`pipeline audit --src FOLDER` says what to do"])
