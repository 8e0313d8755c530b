"""What to do about what an audit found, each with the figure after doing it.

A balanced subset is drawn and audited again. What cropping or saving anew would leave is measured
by leaving the properties out that would then be alike; the traces that the first saving left in
the pixels stay, so those figures are the best that can be hoped for, and say so.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from data_cards.audit.audit import Audit, Limits, Verdict, audit_pictures, format_obstacle
from data_cards.audit.properties import FILE
from data_cards.core.errors import UserError
from data_cards.dataset.table import Picture
from data_cards.selection.matching import match_pictures

SIZE_FACTS = ("width", "height", "aspect")
SAVING_FACTS = (
    "format", "EXIF data", "JPEG quality", "bytes per pixel", "JPEG subsampling", "pixel mode", "JPEG tables"
)  # fmt: skip


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes
    ----------
    action : in words, with the command
    family : that it is for
    before, after : AUROC of that family (the higher of held-out pictures and sources); `after` None
        where it cannot be told, and `note` says why
    pictures : that are left
    note : what to mind
    """

    action: str
    family: str
    before: float
    after: float | None
    pictures: int
    note: str = ""

    def to_dict(self) -> dict:
        return asdict(self)


def compute_advice(pictures: Sequence[Picture], audit: Audit, sources: Sequence[str] = ("DIR",)) -> list[Advice]:
    """What to do about each family that is not fine; `sources` are those of the command line."""
    found = {finding.family: finding.auroc.value for finding in audit.findings if finding.verdict != Verdict.FINE}
    advice = []
    if FILE in found:
        advice += _balance(pictures, audit.limits, "size,format,quality", {FILE: found[FILE]}, sources)
        advice += _leave_out(pictures, audit.limits, found[FILE])
    content = {family: before for family, before in found.items() if family != FILE}
    if content:
        advice += _balance(pictures, audit.limits, "colour", content, sources)
    return advice


def format_advice(one: Advice) -> str:
    """One line of a terminal."""
    after = "not known" if one.after is None else f"{one.after:.3f}"
    note = f"; {one.note}" if one.note else ""
    return f"{one.action}: {one.family} {one.before:.3f} -> {after}, {one.pictures} pictures left{note}"


def _balance(
    pictures: Sequence[Picture], limits: Limits, names: str, found: dict[str, float], sources: Sequence[str]
) -> list[Advice]:
    src = " ".join(f"--src {source}" for source in sources)
    action = f"pipeline subset {src} --balance {names} --out balanced"
    try:
        match = match_pictures(pictures, names.split(","))
    except UserError as error:
        return [Advice(action, family, before, None, 0, str(error)) for family, before in found.items()]
    audit = audit_pictures(match.pictures, limits)
    after = {one.family: one.auroc.value for one in audit.findings}
    advice = []
    for family, before in found.items():
        note = format_obstacle(audit) or ""
        if family != FILE and after.get(family, 0) >= limits.warn:
            note = "content differs: add sources of the same subjects to both classes"
        advice.append(Advice(action, family, before, after.get(family), len(match.pictures), note))
    return advice


def _leave_out(pictures: Sequence[Picture], limits: Limits, before: float) -> list[Advice]:
    choices = (
        ("pipeline build --fit crop, which makes all sizes alike", SIZE_FACTS, ""),
        (
            "saving both classes anew in one format and quality",
            SAVING_FACTS,
            "at best: traces of the first saving stay in the pixels, and sizes must still be made alike",
        ),
    )
    advice = []
    for action, names, note in choices:
        audit = audit_pictures(pictures, limits, without=names)
        after = next(one.auroc.value for one in audit.findings if one.family == FILE)
        advice.append(Advice(action, FILE, before, after, len(pictures), note))
    return advice
