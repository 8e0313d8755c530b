"""The console of all commands: errors as one line, exit statuses, progress bars, tables.

The only module that writes to the terminal. Every text is escaped as one line, because it may contain untrusted names,
unless `data_cards.core.text.join_lines` made it.

Results go to stdout; logs, warnings and progress go to stderr. Exit status: 0 done,
1 failure, 2 wrong call, 3 store incomplete or damaged.
"""

import atexit
import errno
import gc
import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from tabulate import tabulate
from tqdm import tqdm

from data_cards.core.command_line import CheckedCommand, CheckedGroup
from data_cards.core.errors import UserError, interrupt_status
from data_cards.core.text import Lines, dump_json, escape_line, escape_untrusted, join_lines

_OS_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again",
    errno.EACCES: "no permission; choose another folder or change its permissions",
    errno.EPERM: "no permission; choose another folder or change its permissions",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.EROFS: "the file system is read-only; choose another folder",
}


LINE_SECONDS = 60.0  # between two lines of progress where there is no terminal


class CommandError(click.ClickException):
    """A user's error as one line of the terminal."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.exit_code = status

    def show(self, file: Any = None) -> None:
        click.echo(f"error: {escape_line(self.message)}", err=True)


@contextmanager
def _translating_errors() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise CommandError(error.args[0] if error.args else str(error), error.exit_status) from error
    except click.exceptions.NoArgsIsHelpError:
        raise  # a group without a command prints its help
    except click.UsageError as error:
        raise CommandError(_format_usage_error(error), error.exit_code) from error
    except KeyboardInterrupt as error:
        raise CommandError("stopped; run the same command again", interrupt_status(error)) from error
    except BrokenPipeError:
        raise  # click handles it: the reader of the pipe is gone
    except OSError as error:
        if error.errno is None:
            raise
        advice = _OS_ADVICE.get(error.errno, (error.strerror or "input or output failed").lower())
        raise CommandError(f"{error.filename or 'reading or writing'}: {advice}", 1) from error


def _format_usage_error(error: click.UsageError) -> str:
    """Format an error in a command line: what is wrong, and where to read what is expected."""
    return f"{error.message}; see `{error.ctx.command_path} --help`" if error.ctx else error.format_message()


class _OneLineErrors:
    def main(self, *args: Any, **options: Any) -> Any:
        # By default Python searches for cycles after every 700 new objects, and among all of them at its end. PyTorch
        # has so many that this takes half a second.
        gc.set_threshold(10_000)
        atexit.register(gc.freeze)
        return super().main(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _translating_errors():
            return super().invoke(ctx)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _translating_errors():
            return super().make_context(*args, **options)


PROGRAM = "spectral-detector"  # name of the installed package, whose version `--version` prints


class CommandGroup(_OneLineErrors, CheckedGroup):
    """A click group that shows a `UserError`, or a failure to read or write, as one line."""


class Command(_OneLineErrors, CheckedCommand):
    """A click command without subcommands (`report`, `predict`) that shows errors as `CommandGroup` does."""


def echo(text: str, err: bool = False, nl: bool = True) -> None:
    """Write a line, or `Lines`, to stdout or stderr, with a line end unless `nl` is False."""
    click.echo(escape_line(text), err=err, nl=nl)


def note(message: str) -> None:
    """Write one line to stderr, clear of any progress bar."""
    with tqdm.external_write_mode(file=sys.stderr):
        echo(message, err=True)


def warn(message: str) -> None:
    """Write one warning line to stderr, clear of any progress bar."""
    note(join_lines(f"warning: {escape_line(message)}".split("\n")))


class _ProgressLines(tqdm):
    """Progress without a terminal: one line a minute, and no line for work of less than a minute."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        elapsed = self.format_dict["elapsed"]
        if elapsed - self._shown_at >= LINE_SECONDS:
            self._shown_at = elapsed
            echo(str(self).strip(), err=True)

    def clear(self, nolock: bool = False) -> None:
        """Do nothing, so that printed lines are kept."""

    _shown_at = 0.0


def progress_bar(
    iterable: Iterable | None = None, *, what: str, unit: str, total: int | None = None, shown: bool = True
) -> tqdm:
    """Return a progress bar with count, rate and remaining time on stderr; without a terminal, lines of text.

    Parameters
    ----------
    what : str, the work, such as "build"
    unit : str, what is counted, in the plural
    shown : bool, False shows nothing
    """
    options = {"desc": what, "unit": f" {unit}", "total": total, "file": sys.stderr, "smoothing": 0.1}
    if sys.stderr.isatty():
        return tqdm(iterable, disable=not shown, dynamic_ncols=True, **options)
    bar_format = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} so far, {remaining} left"
    return _ProgressLines(
        iterable, disable=not shown, leave=False, bar_format=bar_format, mininterval=1, miniters=1, **options
    )


def print_json(value: Any) -> None:
    """Write `value` as JSON to stdout; characters not printable, or not in its encoding, become JSON escapes."""
    text = dump_json(value, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    click.echo(text)


def format_table(rows: list[list[Any]], headers: list[str]) -> Lines:
    """Format rows as a plain-text table, numbers aligned right, texts left. All cells are escaped."""
    cells = [["" if cell is None else escape_untrusted(str(cell)) for cell in row] for row in rows]
    names = [escape_untrusted(name) for name in headers]
    alignment = _alignment(cells, names)
    return Lines(tabulate(cells, headers=names, tablefmt="simple", disable_numparse=True, colalign=alignment))


def _alignment(rows: list[list[Any]], headers: list[str]) -> list[str] | None:
    if not rows:
        return None
    return ["right" if all(_is_number(row[column]) for row in rows) else "left" for column in range(len(headers))]


def _is_number(cell: Any) -> bool:
    text = str(cell).strip().rstrip("%")
    return text == "" or text[0].isdigit() or (text[0] in "+-" and len(text) > 1 and text[1].isdigit())
