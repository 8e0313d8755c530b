"""`pipeline audit`: the audit of a folder's or a store's pictures, advice, and near-duplicates."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.audit.audit import Audit, Limits, Verdict, audit_pictures, format_audit
from data_cards.audit.properties import HISTORY
from data_cards.core.errors import UsageError, UserError
from data_cards.core.text import Lines, format_count, join_lines
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.leakage import Leaks, find_leaks, format_leaks, plot_contact_sheet
from data_cards.dataset.scan import SetAside, scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.table import PictureTable, format_single_sources
from data_cards.selection.advice import Advice, compute_advice, format_advice
from data_cards.selection.chosen import gather_set
from data_cards.selection.filters import filter_pictures
from pipeline.builder.growth import restore_set
from pipeline.datasets.card import check_not_read
from pipeline.features.settings import MAX_PIXELS
from pipeline.store.reader import ZarrStore, open_store
from pipeline.store.schema import Attribute


@dataclass(frozen=True)
class AuditResult:
    """The result of `audit_dataset`.

    Attributes
    ----------
    audit : of the pictures
    single_sources : str, warning of classes with a single source; None without such a class
    advice : on each family that is not fine
    leaks : near-duplicate groups of the pictures
    sheet : Path of the contact sheet; None if none was plotted
    notes : list of str, reasons why an audit of the folders of these pictures would differ
    """

    audit: Audit
    single_sources: str | None
    advice: list[Advice]
    leaks: Leaks
    sheet: Path | None
    notes: list[str]

    @property
    def passes(self) -> bool:
        """Whether no family fails and no near-duplicates are across splits or classes."""
        return self.audit.verdict != Verdict.FAIL and not self.leaks.worst

    def to_dict(self) -> dict:
        return {
            "audit": self.audit.to_dict(),
            "single_sources": self.single_sources,
            "advice": [one.to_dict() for one in self.advice],
            "near_duplicates": self.leaks.to_dict(),
            "contact_sheet": str(self.sheet) if self.sheet else None,
            "notes": self.notes,
            "passes": self.passes,
        }


@converts_arguments
def audit_dataset(
    sources: Sequence[str] = (),
    store: str | None = None,
    *,
    reading: SetSettings | None = None,
    limits: Limits | None = None,
    where: Sequence[str] = (),
    contact_sheet: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
) -> AuditResult:
    """Audit the pictures of folders, or those that a complete store was built from.

    Both audits are equal, because a store's pictures get the splits of their folders back. `AuditResult.notes` says if
    they cannot be equal.

    Parameters
    ----------
    sources : of str, picture folders, as for a build
    store : str, path of a feature store instead. Its picture files are read only if `where` or advice on a subset
        needs traces of earlier processing that the store does not hold
    reading : SetSettings, how folders and tables of the pictures are interpreted
    limits : of the verdicts
    where : conditions that pictures must meet, see `data_cards.selection.filters`
    contact_sheet : a PNG of near-duplicates across splits or classes; not written if there are none
    max_pixels : int, larger pictures are set aside; not for a store, which has a limit of its own
    cache : bool, see `data_cards.dataset.scan.scan_sources`

    Raises
    ------
    UsageError : neither or both of folders and store, or an option for folders is given with a store
    UserError : no usable picture
    """
    reading = reading or SetSettings()
    if bool(sources or reading.labels) == bool(store):
        what = "--src and --store (in Python: sources, store): expected only one" if store else "no pictures are given"
        raise UsageError(f"{what}; give pictures with --src, or a feature store with --store")
    if store:
        check_not_read(store, reading, max_pixels)
        opened = open_store(store)
        found, notes = _read_store(opened)
        max_pixels = opened.settings.max_pixels
    else:
        found, notes = _scan(sources, reading, max_pixels, cache)
    chosen = filter_pictures(found, where) if where else found
    if not chosen:
        unmet = f"no picture of {len(found)} meets {' and '.join(where)}; change --where (in Python: where)"
        raise UserError(join_lines([unmet, *notes]))
    pictures, unread = gather_set(chosen, max_pixels=max_pixels, cache=cache)
    if unread:
        notes.append(
            f"{HISTORY}: {format_count(len(unread), 'picture')} could not be read, because files are missing or "
            f"have changed; the first: {unread[0].file.path}"
        )
    if bare := sum(not one.facts.thumbnail for one in pictures):
        notes.append(f"{bare} of {len(pictures)} pictures are not audited: this store holds no thumbnails of them")
    audit = audit_pictures(pictures, limits)
    leaks = find_leaks(pictures)
    sheet = Path(contact_sheet) if contact_sheet and leaks.worst else None
    if sheet:
        plot_contact_sheet(leaks.worst, sheet, max_pixels)
    selected = " ".join(
        [
            reading.format_arguments(sources) or "--src FOLDER",
            *(f"--where {shlex.quote(condition)}" for condition in where),
            *([f"--max-pixels {max_pixels}"] if max_pixels != MAX_PIXELS else []),
        ]
    )
    advice = compute_advice(pictures, audit, selected, max_pixels=max_pixels, cache=cache)
    return AuditResult(audit, format_single_sources(pictures), advice, leaks, sheet, notes)


def _read_store(opened: ZarrStore) -> tuple[PictureTable, list[str]]:
    """Read the set of a store, and the reasons why its folders may hold another one."""
    pictures, certain = restore_set(opened.read_pictures(), opened.settings)
    notes = []
    if not certain:
        notes.append(
            "this store does not record which validation pictures were drawn: those without a folder named val count "
            "as training pictures here; for exact figures give the folders with --src"
        )
    if set_aside := opened.attributes[Attribute.SET_ASIDE]:
        notes.append(_format_set_aside([SetAside(**one) for one in set_aside]))
    return pictures, notes


def _scan(sources: Sequence[str], reading: SetSettings, max_pixels: int, cache: bool) -> tuple[PictureTable, list[str]]:
    found = scan_sources(sources, reading, max_pixels=max_pixels, cache=cache, all_thumbnails=True)
    return found.pictures, [_format_set_aside(found.set_aside)] if found.set_aside else []


def _format_set_aside(set_aside: Sequence[SetAside]) -> str:
    files = "file was" if len(set_aside) == 1 else "files were"
    first = set_aside[0]
    return f"{len(set_aside)} picture {files} set aside and not audited; the first: {first.path}: {first.reason}"


def format_audit_result(result: AuditResult) -> Lines:
    """Format the result of an audit, for a terminal."""
    parts = [format_audit(result.audit)]
    if result.single_sources:
        parts.append(join_lines([f"warning: {result.single_sources}"]))
    if result.advice:
        head = "what to do, and the AUROC after it; the first is the best:"
        parts.append(join_lines([head, format_advice(result.advice)]))
    lines = format_leaks(result.leaks)
    if result.sheet:
        lines.append(f"contact sheet: {result.sheet}")
    lines += result.notes
    return join_lines([*parts, join_lines(lines)], "\n\n")
