"""`pipeline subset`: a drawn subset as a new folder, byte for byte, with its card.

Pictures are copied or linked, never decoded and saved again, because saving them again could add a shortcut.
The folder is written under another name and renamed when it is complete.
"""

import os
import shlex
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from data_cards.archives.place import read_file, read_unchanged, split_place
from data_cards.audit.audit import Audit, audit_or_warn, format_obstacle
from data_cards.core.console import progress_bar
from data_cards.core.errors import PictureError, UserError
from data_cards.core.files import CARD_FILE, MANIFEST, check_new_folder, whole_folder
from data_cards.core.text import Lines, join_lines
from data_cards.core.value_types import converts_arguments
from data_cards.dataset.histories import add_histories
from data_cards.dataset.labels_arrangement import clean_source
from data_cards.dataset.names import is_service, names_source
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.simulated import find_marker
from data_cards.dataset.source_info import find_source_file
from data_cards.dataset.table import Picture
from data_cards.selection.chosen import gather_set
from data_cards.selection.lost_sources import format_lost_sources
from data_cards.selection.subset import Selection, Subset, draw_subset
from pipeline.datasets.card import write_set_card
from pipeline.features.settings import MAX_PIXELS


@dataclass(frozen=True)
class SubsetSummary:
    """The result of `write_subset`.

    Attributes
    ----------
    path : of the folder
    subset : the drawn pictures and the steps of the draw
    gone : each SPLIT/CLASS/SOURCE of which no picture was drawn
    lost : sentence on training pictures and sources that were lost; None if all sources and enough pictures are kept
    before, after : audits of the set and of the subset
    """

    path: Path
    subset: Subset
    gone: list[str]
    lost: str | None
    before: Audit
    after: Audit

    def to_dict(self) -> dict:
        return {
            "path": str(self.path),
            "pictures": len(self.subset.pictures),
            "steps": self.subset.steps,
            "gone": self.gone,
            "lost": self.lost,
            "balanced_auroc": self.subset.remaining,
            "audit_before": self.before.to_dict(),
            "audit": self.after.to_dict(),
        }


@converts_arguments
def write_subset(
    sources: Sequence[str],
    out: str | Path,
    selection: Selection,
    *,
    reading: SetSettings | None = None,
    links: bool = False,
    max_pixels: int = MAX_PIXELS,
    cache: bool = True,
) -> SubsetSummary:
    """Draw a subset and write it to a new folder as SPLIT/CLASS/SOURCE/..., with its card.

    Parameters
    ----------
    sources : of str, picture folders, as for a build
    out : a folder that does not exist yet, or is empty
    selection : the steps that select the subset
    reading : how folders and tables of the pictures are interpreted
    links : bool, whether to write symbolic links instead of copies
    max_pixels : int, larger pictures are set aside
    cache : bool, see `data_cards.dataset.scan.scan_sources`

    Raises
    ------
    UserError : `out` is not empty, no picture is left, or one has changed since it was scanned
    """
    out = Path(os.path.abspath(out))
    check_new_folder(out)
    found = scan_sources(sources, reading, max_pixels=max_pixels, cache=cache, all_thumbnails=True)
    if links:
        _check_links(found.pictures)
    subset = draw_subset(found.pictures, selection)
    with whole_folder(out) as folder:
        places = _write_pictures(folder, subset.pictures, links)
        audit = audit_or_warn(gather_set(subset.pictures, max_pixels=max_pixels, cache=cache)[0])
        steps = {**selection.to_dict(), "from": [_strip_parents(source) for source in sources], "steps": subset.steps}
        write_set_card(folder, out.name, subset.pictures, found.set_aside, audit, steps, places)
    gone = sorted(_list_sources(found.pictures) - _list_sources(subset.pictures))
    add_histories(found.pictures, max_pixels=max_pixels, cache=cache)
    lost = format_lost_sources(found.pictures, subset.pictures)
    return SubsetSummary(out, subset, gone, lost, audit_or_warn(found.pictures), audit)


def format_subset(summary: SubsetSummary) -> Lines:
    """Format what was drawn, for a terminal."""
    subset = summary.subset
    found, count = subset.steps[0]["pictures"], len(subset.pictures)
    lines = ["{pictures:7}  {step}".format(**one) for one in subset.steps]
    if subset.remaining is not None:
        lines.append(f"the balanced properties alone now reach an AUROC of {subset.remaining:.3f} (0.5 is guessing)")
    after = {one.family: f"{one.auroc.value:.3f}" for one in summary.after.findings}
    for one in summary.before.findings:
        lines.append(
            f"{one.family}: AUROC {one.auroc.value:.3f} before, {after.get(one.family, 'not known')} in the subset"
        )
    if summary.after.obstacle:
        lines.append(f"shortcut audit of the subset: {format_obstacle(summary.after)}")
    for place, gone in groupby(summary.gone, lambda one: "/".join(one.split("/", 2)[:2])):
        lines.append(f"nothing is left of {place}: {', '.join(one.split('/', 2)[2] for one in gone)}")
    lines += [summary.lost] if summary.lost else []
    sources = sorted({one.file.source for one in subset.pictures})
    if renamed := [f"{one} ({_name_folder(one)})" for one in sources if _name_folder(one) != one]:
        table = shlex.quote(str(summary.path / MANIFEST))
        lines.append(
            f"folders that are named unlike their sources, because such names are not read as sources: "
            f"{', '.join(renamed)}; --labels {table} gives the sources' own names"
        )
    lines.append(f"{summary.path}: {count} of {found} pictures, {found - count} left out; its card: {CARD_FILE}")
    return join_lines(lines)


def _write_pictures(folder: Path, pictures: Sequence[Picture], links: bool) -> list[str]:
    """Write the pictures; return the path of each, relative to the folder."""
    places, used = [], set()
    for picture in progress_bar(pictures, what="subset", unit="pictures"):
        place = _find_free(_choose_path(picture), picture.facts.sha256, used)
        used.add(place)
        places.append(place.as_posix())
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        source = Path(os.path.realpath(picture.file.path))
        # Copies are checked, links cannot be.
        if links:
            target.symlink_to(source)
        else:
            _copy(source, target)
            try:
                read_unchanged(target, picture.facts.sha256)
            except PictureError as error:
                raise UserError(f"{source}: {error}") from error
        _copy_source_info(picture, folder, Path(*place.parts[:3]))
    return places


def _find_free(place: Path, sha256: bytes, used: Collection[Path]) -> Path:
    """Return a path, with the start of the hash and a number where pictures of several folders have one name."""
    free, number = place, 1
    while free in used:
        more = f"-{number}" if number > 1 else ""
        free = place.with_name(f"{place.stem}-{sha256.hex()[:8]}{more}{place.suffix}")
        number += 1
    return free


def _check_links(pictures: Sequence[Picture]) -> None:
    """Raise `UserError` if a picture is in an archive, where no link can lead."""
    for root in sorted({picture.file.root for picture in pictures}):
        one = next(picture for picture in pictures if picture.file.root == root)
        if inside := split_place(one.file.path):
            raise UserError(
                f"{inside[0]}: a symbolic link cannot lead into an archive; leave out --links (in Python: links), or "
                "unpack the archive"
            )


def _copy(source: Path, target: Path) -> None:
    """Copy a file, with its times, or a member of an archive."""
    if split_place(source) is None:
        shutil.copy2(source, target)
        return
    try:
        target.write_bytes(read_file(source))
    except PictureError as error:
        raise UserError(f"{source}: {error}") from error


def _list_sources(pictures: Sequence[Picture]) -> set[str]:
    return {f"{one.file.split}/{one.file.label}/{one.file.source}" for one in pictures}


def _choose_path(picture: Picture) -> Path:
    """Return SPLIT/CLASS/SOURCE/ and the path below the source's folder."""
    file = picture.file
    parts = file.image.split("/")
    below = parts[parts.index(file.source) + 1 :] if file.source in parts[:-1] else parts[-1:]
    return Path(file.split, file.label, _name_folder(file.source), *below)


def _name_folder(source: str) -> str:
    """Return a folder's name that is read as a source, and is one name: that of a table's source may be `v1.5`."""
    is_read = names_source(source) and not is_service(source) and "/" not in source
    return source if is_read else f"source-{clean_source(source)}"


def _copy_source_info(picture: Picture, folder: Path, place: Path) -> None:
    """Copy the file about a source, and the marker of a simulated set."""
    about = find_source_file(Path(picture.file.root), picture.file.path.parent)
    if about and not (folder / place / about.name).exists():
        _copy(about, folder / place / about.name)
    marker = find_marker(picture.file.root)
    if marker and not (folder / marker.name).exists():
        _copy(marker, folder / marker.name)


def _strip_parents(source: str) -> str:
    """Strip the folders above a source, which are private."""
    spec, equals, folder = source.rpartition("=")
    return f"{spec}{equals}{Path(os.path.abspath(folder)).name}"
