"""Verdicts to stdout, as a table, JSON or CSV; files that cannot be judged to stderr too.

JSON and CSV are written as the verdicts come. Names of files are strangers' texts: the table, CSV and
messages show them without control characters, JSON keeps them exactly, as escapes where they are not ASCII.
"""

import csv
import json
import sys
from collections.abc import Iterable, Iterator

import click

from data_cards.core.console import format_table, note
from data_cards.core.text import escape_untrusted
from eval.verdict.decide import Judgement
from eval.verdict.predict import Verdict
from eval.verdict.wording import format_reason

CSV_COLUMNS = ("path", "second", "verdict", "probability_fake", "why", "crops", "declared_not_verified", "error")


def write_table(verdicts: Iterable[Verdict]) -> int:
    """A table of what could be judged, with the columns that say something; returns the number of failures."""
    failures = _Failures()
    rows = []
    for one in failures.tell(verdicts):
        if one.judgement is not None:
            rows.append([escape_untrusted(one.path), *_write(one.judgement), _name(one)])
            rows += [[f"· {frame.second:.2f} s", *_write(frame.judgement), ""] for frame in one.frames]
    headers = ["picture", "verdict", "probability fake", "why unsure", "crops", "declared, not verified"]
    kept = [number for number in range(len(headers)) if any(row[number] for row in rows)]
    if rows:
        click.echo(
            format_table([[row[number] for number in kept] for row in rows], [headers[number] for number in kept])
        )
    return failures.count


def write_json(verdicts: Iterable[Verdict]) -> int:
    """A JSON list of `Verdict.as_json`, an object a line; returns the number of failures."""
    failures = _Failures()
    before = "[\n"
    for one in failures.tell(verdicts):
        click.echo(before + json.dumps(one.as_json()), nl=False)
        before = ",\n"
    click.echo("[]" if before == "[\n" else "\n]")
    return failures.count


def write_csv(verdicts: Iterable[Verdict]) -> int:
    """Lines of `CSV_COLUMNS`: their names, one a file, and one more for each frame of a clip; returns the number of
    failures."""
    failures = _Failures()
    writer = csv.DictWriter(sys.stdout, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for one in failures.tell(verdicts):
        values = one.as_json() | {"declared_not_verified": _name(one)}
        writer.writerow(
            {name: escape_untrusted(value) if isinstance(value, str) else value for name, value in values.items()}
        )
        for frame in values.get("frames", ()):
            writer.writerow({"path": escape_untrusted(one.path), **frame})
    return failures.count


def _write(said: Judgement) -> list[str]:
    crops = "" if said.crops == 1 else str(said.crops)
    return [said.verdict, f"{said.probability_fake:.3f}", format_reason(said) or "", crops]


def _name(one: Verdict) -> str:
    return "; ".join(dict.fromkeys(declaration.what for declaration in one.declared))


class _Failures:
    """Passes verdicts on, and names each that is none on stderr."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self, verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
        for one in verdicts:
            if one.error is not None:
                self.count += 1
                note(f"error: {escape_untrusted(one.path)}: {escape_untrusted(one.error)}")
            yield one
