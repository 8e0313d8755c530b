"""Advice on the findings of an audit, each with the AUROC after following it.

A balanced subset is drawn and audited exactly as `pipeline subset` does it. The effect of cropping or re-saving is
measured by leaving out the properties that would then be the same for all pictures. Traces of earlier processing
remain in the pixels, so these figures are the best case, and the advice says so.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from data_cards.audit.audit import Audit, Limits, Verdict, audit_pictures, format_obstacle
from data_cards.audit.properties import FILE, HISTORY, PROFILE, SIZE, THUMB
from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES, SPLITS
from data_cards.core.text import Lines, format_count, join_lines
from data_cards.dataset.table import Picture
from data_cards.selection.chosen import gather_set
from data_cards.selection.lost_sources import count_training_sources, format_lost_sources
from data_cards.selection.matching import match_pictures

SIZE_FACTS = ("width", "height", "aspect")
SAVING_FACTS = (
    "format", "EXIF data", "JPEG quality", "bytes per pixel", "JPEG subsampling", "pixel mode", "JPEG tables"
)  # fmt: skip


_SAME_CHAIN = "pipeline build --variants web, which scales and saves both classes in the same way"
_DEPENDS = "it depends on the added pictures"
_NEVER_GONE = "traces of earlier processing get weaker but remain; it is better to add sources that have both classes"


@dataclass(frozen=True)
class Advice:
    """One action, and its effect on one family of properties.

    Attributes
    ----------
    action : str, in words, with the command
    family : str, the family of properties that it concerns
    before, after : float, AUROC of this family (the higher of held-out pictures and sources); `after` is None
        if it is not known, and `note` says why
    pictures, total : int, numbers left and before
    sources : dict, class to the number of training sources left
    note : str, a caveat about this family
    loss : str, what the action costs besides pictures, such as sources; the same for all families
    """

    action: str
    family: str
    before: float
    after: float | None
    pictures: int
    total: int
    sources: dict[str, int]
    note: str = ""
    loss: str = ""

    def to_dict(self) -> dict:
        return asdict(self)


def compute_advice(
    pictures: Sequence[Picture],
    audit: Audit,
    arguments: str = "--src FOLDER",
    *,
    max_pixels: int,
    cache: bool = True,
) -> list[Advice]:
    """Compute advice on each family that is not fine.

    Parameters
    ----------
    pictures : of the audit
    audit : of these pictures
    arguments : str, options that select the pictures in suggested commands
    max_pixels, cache : as for `data_cards.dataset.scan.scan_sources`, for pictures that are read again
    """
    reading = {"max_pixels": max_pixels, "cache": cache}
    everything = len(pictures), len(pictures), count_training_sources(pictures)
    found = {finding.family: finding.auroc.value for finding in audit.findings if finding.verdict != Verdict.FINE}
    files = {family: found[family] for family in (FILE, HISTORY, SIZE) if family in found}
    content = {family: found[family] for family in (THUMB, PROFILE) if family in found}
    balanced_files = _advise_balance(pictures, audit.limits, "size,format,quality", files, arguments, reading)
    balanced_content = _advise_balance(pictures, audit.limits, "colour", content, arguments, reading)
    costly = [one for one in (*balanced_files, *balanced_content) if one.loss or one.after is None]
    advice = [Advice(_format_addition(costly), one.family, one.before, None, *everything, _DEPENDS) for one in costly]
    advice += balanced_files
    if FILE in found:
        advice += _advise_preprocessing(pictures, audit.limits, found[FILE])
    if HISTORY in found:
        advice.append(Advice(_SAME_CHAIN, HISTORY, found[HISTORY], None, *everything, _NEVER_GONE))
    return advice + balanced_content


def format_advice(advice: Sequence[Advice]) -> Lines:
    """Format advice for a terminal: each action once, with its effect on each family."""
    lines = []
    for action, effects in groupby(advice, lambda one: one.action):
        effects = list(effects)
        lines.append(f"  {action}")
        for (after, note), alike in groupby(effects, lambda one: (one.after, one.note)):
            before = ", ".join(f"{one.family} {one.before:.3f}" for one in alike)
            after = "not known" if after is None else f"{after:.3f}"
            lines.append(f"    {before} -> {after}{f'; {note}' if note else ''}")
        if effects[0].pictures < effects[0].total:
            loss = f"; {effects[0].loss}" if effects[0].loss else ""
            lines.append(f"    {effects[0].pictures:,} of {format_count(effects[0].total, 'picture')} left{loss}")
    return join_lines(lines)


def _format_addition(costly: Sequence[Advice]) -> str:
    """Format the action that is better than subsets which lose sources, or cannot be drawn."""
    families = {one.family for one in costly}
    alike = ["size, format and quality"] if families - {THUMB, PROFILE} else []
    alike += ["colours and subjects"] if families & {THUMB, PROFILE} else []
    return f"add sources to each class that resemble the other class in {' and in '.join(alike)}"


def _advise_balance(
    pictures: Sequence[Picture], limits: Limits, names: str, found: dict[str, float], arguments: str, reading: dict
) -> list[Advice]:
    if not found:
        return []
    action = f"pipeline subset {arguments} --balance {names} --out balanced-{names.replace(',', '-')}"
    try:
        match = match_pictures(pictures, names.split(","))
    except UserError as error:
        return [
            Advice(action, family, before, None, 0, len(pictures), dict.fromkeys(CLASS_NAMES, 0), str(error))
            for family, before in found.items()
        ]
    balanced, unread = gather_set(match.pictures, **reading)
    audit = audit_pictures(balanced, limits)
    after = {one.family: one.auroc.value for one in audit.findings}
    loss = _format_loss(pictures, balanced)
    advice = []
    for family, before in found.items():
        note = format_obstacle(audit) or ""
        if family in (THUMB, PROFILE) and after.get(family, 0) >= limits.warn:
            note = "content differs: add sources of the same subjects to both classes"
        if family == HISTORY and unread:
            note = f"{len(unread)} of these pictures could not be read, so the AUROC of the written subset will differ"
        left = len(balanced), len(pictures), count_training_sources(balanced)
        advice.append(Advice(action, family, before, after.get(family), *left, note, loss))
    return advice


def _format_loss(pictures: Sequence[Picture], kept: Sequence[Picture]) -> str:
    """Format the splits and sources that a subset loses."""
    splits = {one.file.split for one in pictures} - {one.file.split for one in kept}
    parts = [f"no {split} pictures are left" for split in SPLITS if split in splits]
    return "; ".join([*parts, *filter(None, [format_lost_sources(pictures, kept)])])


def _advise_preprocessing(pictures: Sequence[Picture], limits: Limits, before: float) -> list[Advice]:
    choices = (
        ("planes of squares of one size (pipeline build --size PIXELS --fit crop)", SIZE_FACTS, ""),
        (
            "re-saving both classes in one format and quality",
            SAVING_FACTS,
            "best case: traces of earlier processing remain in the pixels, and sizes must still be made the same",
        ),
    )
    advice = []
    for action, names, note in choices:
        audit = audit_pictures(pictures, limits, without=names)
        after = next(one.auroc.value for one in audit.findings if one.family == FILE)
        everything = len(pictures), len(pictures), count_training_sources(pictures)
        advice.append(Advice(action, FILE, before, after, *everything, note))
    return advice
