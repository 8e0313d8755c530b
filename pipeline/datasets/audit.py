"""`pipeline audit`: the audit of a folder's or a store's pictures, advice, and near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.audit.audit import Audit, Limits, Verdict, audit_pictures, format_audit
from data_cards.core.errors import UsageError, UserError
from data_cards.core.text import Lines, join_lines
from data_cards.dataset.histories import add_histories
from data_cards.dataset.leakage import Leaks, find_leaks, format_leaks, plot_contact_sheet
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.table import PictureTable
from data_cards.selection.advice import Advice, compute_advice, format_advice
from data_cards.selection.filters import filter_pictures
from pipeline.features.settings import MAX_PIXELS
from pipeline.store.reader import open_store


@dataclass(frozen=True)
class AuditResult:
    """The result of `audit_dataset`; `sheet` is the contact sheet, where one was plotted."""

    audit: Audit
    advice: list[Advice]
    leaks: Leaks
    sheet: Path | None

    @property
    def passes(self) -> bool:
        """Whether no family fails and no near-duplicates are across splits or classes."""
        return self.audit.verdict != Verdict.FAIL and not self.leaks.worst

    def to_dict(self) -> dict:
        return {
            "audit": self.audit.to_dict(),
            "advice": [one.to_dict() for one in self.advice],
            "near_duplicates": self.leaks.to_dict(),
            "contact_sheet": str(self.sheet) if self.sheet else None,
            "passes": self.passes,
        }


def audit_dataset(
    sources: Sequence[str] = (),
    store: str | None = None,
    *,
    reading: SetSettings | None = None,
    limits: Limits | None = None,
    where: Sequence[str] = (),
    contact_sheet: Path | None = None,
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
) -> AuditResult:
    """Audit the pictures of folders, or of a complete store.

    Parameters
    ----------
    sources : of str, picture folders, as for a build
    store : a feature store instead; its pictures need not be there
    reading : how folders and tables of the pictures are understood
    limits : of the verdicts
    where : conditions that pictures must meet, see `data_cards.selection.filters`
    contact_sheet : a PNG of near-duplicates across splits or classes; not written where there are none
    max_pixels : int, larger pictures are set aside
    cache : bool, see `data_cards.dataset.scan.scan_sources`

    Raises
    ------
    UsageError : neither or both of folders and store
    UserError : no usable picture
    """
    reading = reading or SetSettings()
    if bool(sources or reading.labels) == bool(store):
        raise UsageError("give pictures with --src, or a feature store with --store")
    if store:
        reading.check_unused(store)
        found = open_store(store).read_pictures()
    else:
        found = scan_sources(sources, reading, max_pixels=max_pixels, cache=cache, all_thumbnails=True).pictures
    pictures = filter_pictures(found, where)
    if not pictures:
        raise UserError(f"no picture of {len(found)} meets {' and '.join(where)}")
    if not store:
        pictures = PictureTable(pictures)
        add_histories(pictures, max_pixels=max_pixels, cache=cache)
    audit = audit_pictures(pictures, limits)
    leaks = find_leaks(pictures)
    sheet = contact_sheet if leaks.worst else None
    if sheet:
        plot_contact_sheet(leaks.worst, sheet, max_pixels)
    arguments = reading.format_arguments(sources) or "--src FOLDER"
    return AuditResult(audit, compute_advice(pictures, audit, arguments), leaks, sheet)


def format_audit_result(result: AuditResult) -> Lines:
    """Format the result of an audit, for a terminal."""
    parts = [format_audit(result.audit)]
    if result.advice:
        advice = (f"  {format_advice(one)}" for one in result.advice)
        parts.append(join_lines(["what to do, and the AUROC after it:", *advice]))
    lines = format_leaks(result.leaks)
    if result.sheet:
        lines.append(f"contact sheet: {result.sheet}")
    return join_lines([*parts, join_lines(lines)], "\n\n")
