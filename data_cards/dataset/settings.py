"""Options of every command that reads a set of pictures: the meaning of its folders and labels."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from data_cards.core.errors import UsageError
from data_cards.core.options import option_field
from data_cards.core.value_types import convert_fields
from data_cards.dataset.names import parse_meaning

FILES = "Files"
COLUMNS = ("path", "label", "split", "source")  # of a labels file


@dataclass(frozen=True)
class SetSettings:
    """Settings for the class, split and source of a set's pictures, in addition to the names of their folders.

    Raises
    ------
    UsageError : a value is not valid
    """

    labels: tuple[str, ...] = option_field(
        (),
        metavar="FILE",
        group=FILES,
        help="Table of the set: CSV, TSV or JSON Lines, with columns of paths (below --src, or the table's folder) and "
        "of labels, splits or sources. May be repeated.",
    )
    columns: str | None = option_field(
        None,
        metavar="path=NAME,...",
        group=FILES,
        help="Columns of the table: path=id,label=target,split=fold,source=model.",
    )
    meaning: tuple[str, ...] = option_field(
        (),
        metavar="NAME=CLASS",
        group=FILES,
        help="Class of a folder name or a label: 0=real,1=fake. May be repeated.",
    )
    source_pattern: str | None = option_field(
        None,
        metavar="REGEX",
        group=FILES,
        help="Regular expression for pictures' paths; its one group is the source.",
    )

    def __post_init__(self) -> None:
        convert_fields(self)
        # Values are parsed here, so that an invalid value is refused before any work.
        _ = self.classes, self.column_names, self.pattern
        if self.columns and not self.labels:
            raise UsageError(
                f"--columns {self.columns}: names columns of a table, but no table is given; add --labels FILE, or "
                "leave out --columns"
            )

    @cached_property
    def classes(self) -> dict[str, str]:
        """Declared classes, by lower-case name."""
        return parse_meaning(self.meaning)

    @cached_property
    def column_names(self) -> dict[str, str]:
        """Declared names of a table's columns, by `COLUMNS`."""
        names = {}
        for part in filter(None, (self.columns or "").split(",")):
            column, _, name = (word.strip() for word in part.partition("="))
            if column not in COLUMNS or not name or column in names:
                raise UsageError(
                    f"--columns {part!r}: expected COLUMN=NAME, each once, with COLUMN one of {', '.join(COLUMNS)}"
                )
            names[column] = name
        return names

    @cached_property
    def pattern(self) -> re.Pattern | None:
        """The compiled `source_pattern`; it has one group, or a group named `source`."""
        if self.source_pattern is None:
            return None
        try:
            pattern = re.compile(self.source_pattern)
        except re.error as error:
            raise UsageError(
                f"--source-pattern {self.source_pattern!r}: not a regular expression ({error}); expected one such as "
                "'^([a-z]+)_'"
            ) from error
        if pattern.groups != 1 and "source" not in pattern.groupindex:
            raise UsageError(
                f"--source-pattern {self.source_pattern!r}: expected one group in parentheses, which is the source, "
                f"got {pattern.groups}; "
                + ("write (?:...) for the others" if pattern.groups else "put the source in parentheses: '^([a-z]+)_'")
            )
        return pattern

    def check_unused(self, place: str) -> None:
        """Check that no setting is given for a store or a card, which has its classes and sources already."""
        if self != SetSettings():
            raise UsageError(f"{place}: has its classes and sources already; leave out {self.format_arguments(())}")

    def format_arguments(self, sources: Iterable[str]) -> str:
        """Format the sources and these settings as arguments of a command."""
        arguments = [("--src", source) for source in sources]
        arguments += [("--labels", file) for file in self.labels]
        arguments += [("--columns", self.columns)] if self.columns else []
        arguments += [("--meaning", one) for one in self.meaning]
        arguments += [("--source-pattern", self.source_pattern)] if self.source_pattern else []
        return " ".join(f"{flag} {shlex.quote(value)}" for flag, value in arguments)
