"""Advice on the findings of an audit, each with the AUROC after following it.

A balanced subset is drawn and audited exactly as `pipeline subset` does it. The effect of cropping or re-saving is
measured by leaving out the properties that would then be the same for all pictures. Traces of earlier processing
remain in the pixels, so these figures are the best case, and the advice says so.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from data_cards.audit.audit import Audit, Limits, Verdict, audit_pictures, format_obstacle
from data_cards.audit.properties import FILE, HISTORY, PROFILE, SIZE, THUMB
from data_cards.core.errors import UserError
from data_cards.dataset.table import Picture
from data_cards.selection.chosen import gather_set
from data_cards.selection.matching import match_pictures

SIZE_FACTS = ("width", "height", "aspect")
SAVING_FACTS = (
    "format", "EXIF data", "JPEG quality", "bytes per pixel", "JPEG subsampling", "pixel mode", "JPEG tables"
)  # fmt: skip


_SAME_CHAIN = "pipeline build --variants web, which scales and saves both classes by one chain"
_NEVER_GONE = "traces of earlier processing get weaker but remain; better add sources with both classes from one place"


@dataclass(frozen=True)
class Advice:
    """One action.

    Attributes
    ----------
    action : str, in words, with the command
    family : str, the family of properties that it concerns
    before, after : float, AUROC of this family (the higher of held-out pictures and sources); `after` is None
        if it is not known, and `note` says why
    pictures : int, number left
    note : str, a caveat
    """

    action: str
    family: str
    before: float
    after: float | None
    pictures: int
    note: str = ""

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
    found = {finding.family: finding.auroc.value for finding in audit.findings if finding.verdict != Verdict.FINE}
    advice = []
    files = {family: found[family] for family in (FILE, HISTORY, SIZE) if family in found}
    if files:
        advice += _advise_balance(pictures, audit.limits, "size,format,quality", files, arguments, reading)
    if FILE in found:
        advice += _advise_preprocessing(pictures, audit.limits, found[FILE])
    if HISTORY in found:
        advice.append(Advice(_SAME_CHAIN, HISTORY, found[HISTORY], None, len(pictures), _NEVER_GONE))
    content = {family: found[family] for family in (THUMB, PROFILE) if family in found}
    if content:
        advice += _advise_balance(pictures, audit.limits, "colour", content, arguments, reading)
    return advice


def format_advice(one: Advice) -> str:
    """Format advice as one line of a terminal."""
    after = "not known" if one.after is None else f"{one.after:.3f}"
    note = f"; {one.note}" if one.note else ""
    return f"{one.action}: {one.family} {one.before:.3f} -> {after}, {one.pictures} pictures left{note}"


def _advise_balance(
    pictures: Sequence[Picture], limits: Limits, names: str, found: dict[str, float], arguments: str, reading: dict
) -> list[Advice]:
    action = f"pipeline subset {arguments} --balance {names} --out balanced"
    try:
        match = match_pictures(pictures, names.split(","))
    except UserError as error:
        return [Advice(action, family, before, None, 0, str(error)) for family, before in found.items()]
    balanced, unread = gather_set(match.pictures, **reading)
    audit = audit_pictures(balanced, limits)
    after = {one.family: one.auroc.value for one in audit.findings}
    advice = []
    for family, before in found.items():
        note = format_obstacle(audit) or ""
        if family in (THUMB, PROFILE) and after.get(family, 0) >= limits.warn:
            note = "content differs: add sources of the same subjects to both classes"
        if family == HISTORY and unread:
            note = f"{len(unread)} of these pictures could not be read, so the AUROC of the written subset will differ"
        advice.append(Advice(action, family, before, after.get(family), len(match.pictures), note))
    return advice


def _advise_preprocessing(pictures: Sequence[Picture], limits: Limits, before: float) -> list[Advice]:
    choices = (
        ("planes of squares of one size (pipeline build --size PIXELS --fit crop)", SIZE_FACTS, ""),
        (
            "re-saving both classes in one format and quality",
            SAVING_FACTS,
            "at best: traces of earlier processing remain in the pixels, and sizes must still be made the same",
        ),
    )
    advice = []
    for action, names, note in choices:
        audit = audit_pictures(pictures, limits, without=names)
        after = next(one.auroc.value for one in audit.findings if one.family == FILE)
        advice.append(Advice(action, FILE, before, after, len(pictures), note))
    return advice
