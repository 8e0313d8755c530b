"""Verdicts on stdout as a table, JSON or CSV, and on stderr the files that cannot be judged.

JSON and CSV are streamed. Names of files are untrusted: the table, CSV and messages show them without control
characters. JSON keeps them exactly, and escapes characters that are not ASCII.
"""

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator

from data_cards.core.console import echo, format_table, note
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import Lines, escape_cell, format_count, join_lines
from eval.verdict.decide import Judgement
from eval.verdict.predict import Verdict
from eval.verdict.wording import UNSURE_AFTER_NOTE, format_reason
from pipeline.features.versions import get_program_version
from train.model.calibration import UNSURE

CSV_COLUMNS = (
    *("path", "second", "verdict", "why", "unsure_after", "probability_fake", "score_valid", "crops"),
    *("remarks", "declared_not_verified", "error", "sha256", "run", "version"),
)

_VERDICTS = (*CLASS_NAMES, UNSURE)


def write_table(verdicts: Iterable[Verdict]) -> int:
    """Write a table of the judged files, without empty columns, and below it what the files declare.

    Returns
    -------
    int, the number of failures
    """
    counts = _Counts()
    rows, notes, weak = [], [], False
    for one in counts.report(verdicts):
        if one.judgement is not None:
            rows.append([one.path, *_format_cells(one.judgement)])
            rows += [[f"· {frame.second:.2f} s", *_format_cells(frame.judgement)] for frame in one.frames]
            weak |= bool(one.judgement.unsure_after)
            notes += [f"{one.path}: {remark}" for remark in one.remarks]
            notes += [f"{one.path} declares, not verified: {declared}" for declared in _list_declared(one)]
    headers = ["picture", "verdict", "why unsure", "would be unsure after", "probability fake", "crops"]
    kept = [number for number in range(len(headers)) if any(row[number] for row in rows)]
    if rows:
        echo(format_table([[row[number] for number in kept] for row in rows], [headers[number] for number in kept]))
    if weak or notes:
        echo(join_lines(["", *([UNSURE_AFTER_NOTE] if weak else []), *notes]))
    counts.summarise()
    return counts.failed


def write_json(verdicts: Iterable[Verdict], run: str) -> int:
    """Write a JSON list of `Verdict.to_dict`, an object per line, with run and version; return the number of errors."""
    counts = _Counts()
    before, origin = "[\n", _describe_origin(run)
    for one in counts.report(verdicts):
        echo(Lines(before + json.dumps(one.to_dict() | origin)), nl=False)
        before = ",\n"
    echo(Lines("[]" if before == "[\n" else "\n]"))
    counts.summarise()
    return counts.failed


def write_csv(verdicts: Iterable[Verdict], run: str) -> int:
    """Write `CSV_COLUMNS`, a line per file and per frame of a clip; return the number of failures.

    A score that is not valid is left out, so that a column sorted by it holds probabilities only.
    """
    counts, origin = _Counts(), _describe_origin(run)
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for one in counts.report(verdicts):
        values = one.to_dict() | origin | {"declared_not_verified": "; ".join(_list_declared(one))}
        values |= {name: "; ".join(values.get(name, ())) for name in ("unsure_after", "remarks")}
        same = origin | {"path": one.path, "sha256": one.sha256}  # of each frame of a clip
        for line in (values, *(same | frame for frame in values.get("frames", ()))):
            if not line.get("score_valid"):
                line = line | {"probability_fake": ""}
            writer.writerow({name: escape_cell(value) for name, value in line.items()})
    counts.summarise()
    return counts.failed


def _describe_origin(run: str) -> dict[str, str]:
    """Return the run and the program that give the verdicts, for each line."""
    return {"run": run, "version": get_program_version()}


def _format_cells(said: Judgement) -> list[str]:
    """Format the cells of a judgement; a score that is not valid is left out."""
    return [
        said.verdict,
        format_reason(said) or "",
        ", ".join(said.unsure_after),
        f"{said.probability_fake:.3f}" if said.has_valid_score else "",
        "" if said.crops == 1 else str(said.crops),
    ]


def _list_declared(one: Verdict) -> list[str]:
    return list(dict.fromkeys(declaration.what for declaration in one.declared))


class _Counts:
    """Counts verdicts and files that cannot be judged, and writes the reasons of the latter to stderr."""

    def __init__(self) -> None:
        self.failed = 0
        self._verdicts = Counter()

    def report(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        """Yield the verdicts."""
        for one in verdicts:
            if one.error is not None:
                self.failed += 1
                note(f"error: {one.path}: {one.error}")
            else:
                self._verdicts[one.verdict] += 1
            yield one

    def summarise(self) -> None:
        """Write the number of files of each verdict on stderr, if there are several files."""
        judged = self._verdicts.total()
        if judged + self.failed < 2:
            return
        parts = [f"{self._verdicts[name]:,} {name}" for name in _VERDICTS if self._verdicts[name]]
        failed = f"; {self.failed:,} cannot be judged" if self.failed else ""
        note(f"{format_count(judged, 'file')} judged{': ' if parts else ''}{', '.join(parts)}{failed}")
