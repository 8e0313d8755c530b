"""`pipeline subset`: a drawn subset as a folder of its own, byte for byte, with its card.

Pictures are copied or linked, never decoded and saved again: saving anew is how a shortcut gets
baked into a set. The folder is made under another name and renamed when it is whole.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.audit.audit import Audit, audit_pictures, format_obstacle
from data_cards.card.files import CARD_FILE
from data_cards.core.console import progress
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import check_new_folder, read_unchanged, whole_folder
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.simulated import find_marker
from data_cards.dataset.source_info import find_source_file
from data_cards.dataset.table import Picture
from data_cards.selection.subset import Drawn, Selection, draw_subset
from pipeline.datasets.card import write_set_card
from pipeline.features.settings import MAX_PIXELS


@dataclass(frozen=True)
class SubsetSummary:
    """What `write_subset` wrote: folder, what was drawn, which SPLIT/CLASS/SOURCE are gone, audits before and after."""

    path: Path
    drawn: Drawn
    gone: list[str]
    before: Audit
    after: Audit

    def to_dict(self) -> dict:
        return {
            "path": str(self.path),
            "pictures": len(self.drawn.pictures),
            "steps": [{"step": name, "pictures": count} for name, count in self.drawn.steps],
            "gone": self.gone,
            "balanced_auroc": self.drawn.remaining,
            "audit_before": self.before.to_dict(),
            "audit": self.after.to_dict(),
        }


def write_subset(
    sources: Sequence[str],
    out: str | Path,
    selection: Selection,
    *,
    links: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
) -> SubsetSummary:
    """Draw a subset and write it to a new folder as SPLIT/CLASS/SOURCE/..., with its card.

    Parameters
    ----------
    sources : picture folders, as for a build
    out : a folder that does not exist yet, or is empty
    selection : what makes the subset
    links : symbolic links instead of copies

    Raises
    ------
    UserError : `out` holds something, no picture is left, or one has changed since it was scanned
    """
    out = Path(os.path.abspath(out))
    check_new_folder(out)
    found = scan_sources(sources, max_pixels=max_pixels, cache=cache, all_thumbnails=True)
    drawn = draw_subset(found.pictures, selection)
    with whole_folder(out) as folder:
        places = _write(folder, drawn.pictures, links)
        audit = audit_pictures(drawn.pictures)
        steps = [{"step": name, "pictures": count} for name, count in drawn.steps]
        made = {**selection.to_dict(), "from": [_last(source) for source in sources], "steps": steps}
        write_set_card(folder, out.name, drawn.pictures, found.set_aside, audit, made, places)
    gone = sorted(_list_sources(found.pictures) - _list_sources(drawn.pictures))
    return SubsetSummary(out, drawn, gone, audit_pictures(found.pictures), audit)


def format_subset(summary: SubsetSummary) -> str:
    """What was drawn, for a terminal."""
    found = summary.drawn.steps[0][1]
    count = len(summary.drawn.pictures)
    lines = [f"{number:7}  {name}" for name, number in summary.drawn.steps]
    if summary.drawn.remaining is not None:
        lines.append(
            f"the balanced properties alone now reach an AUROC of {summary.drawn.remaining:.3f} (0.5: nothing)"
        )
    for one, other in zip(summary.before.findings, summary.after.findings, strict=False):
        lines.append(f"{one.family}: AUROC {one.auroc.value:.3f} before, {other.auroc.value:.3f} in the subset")
    if summary.after.obstacle:
        lines.append(f"shortcut audit of the subset: {format_obstacle(summary.after)}")
    lines += [f"nothing is left of {place}" for place in summary.gone]
    lines.append(f"{summary.path}: {count} of {found} pictures, {found - count} left out; its card: {CARD_FILE}")
    return "\n".join(lines)


def _write(folder: Path, pictures: Sequence[Picture], links: bool) -> list[str]:
    """Write the pictures; returns where each went, relative to the folder."""
    places, taken = [], set()
    for picture in progress(pictures, what="subset", unit="pictures"):
        place = _place(picture)
        if place in taken:  # two folders' pictures of the same name
            place = place.with_name(f"{place.stem}-{picture.facts.sha256.hex()[:8]}{place.suffix}")
        taken.add(place)
        places.append(place.as_posix())
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(os.path.realpath(picture.file.path))
        # Copies are checked, links cannot be.
        if links:
            target.symlink_to(source)
        else:
            shutil.copy2(source, target)
            try:
                read_unchanged(target, picture.facts.sha256)
            except PictureError as error:
                raise UserError(f"{source}: {error}") from error
        _take_along(picture, folder, Path(*place.parts[:3]))
    return places


def _list_sources(pictures: Sequence[Picture]) -> set[str]:
    return {f"{one.file.split}/{one.file.label}/{one.file.source}" for one in pictures}


def _place(picture: Picture) -> Path:
    """SPLIT/CLASS/SOURCE/ and the path below the source's folder."""
    file = picture.file
    parts = file.image.split("/")
    below = parts[parts.index(file.source) + 1 :] if file.source in parts[:-1] else parts[-1:]
    return Path(file.split, file.label, file.source, *below)


def _take_along(picture: Picture, folder: Path, place: Path) -> None:
    """Copy what is said of a source, and the mark of a simulated set."""
    said = find_source_file(Path(picture.file.root), picture.file.path.parent)
    if said and not (folder / place / said.name).exists():
        shutil.copy2(said, folder / place / said.name)
    marker = find_marker(picture.file.root)
    if marker and not (folder / marker.name).exists():
        shutil.copy2(marker, folder / marker.name)


def _last(source: str) -> str:
    """A source without the folders above it, which are nobody's business."""
    spec, equals, folder = source.rpartition("=")
    return f"{spec}{equals}{Path(os.path.abspath(folder)).name}"
