"""Mistakes in a command line: what is wrong, what was expected, and what to type instead."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import Any

import click

from data_cards.core.files import RUN_SETTINGS
from data_cards.core.kind import Kind, find_kind, format_use, is_unfinished
from data_cards.core.split_paths import format_split_paths

# Options for paths, with other names that users give them, and the arguments that take the same.
_PATH_OPTIONS = {
    "--src": (
        "source sources input data dataset folder dir images image pictures picture file files path i",
        "PICTURE",
    ),
    "--store": ("stores features zarr input data dataset i", "STORE"),
    "--run": ("runs model checkpoint weights detector", "RUNS"),
    "--out": ("output output-dir outdir destination o", None),
}


class CheckedCommand(click.Command):
    """A Click command with `-h` for `--help`, whose errors of parsing say what to type instead."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.context_settings.setdefault("help_option_names", ["--help", "-h"])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words of a command line; raises `click.UsageError`."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.exceptions.NoArgsIsHelpError:
            raise  # a group without a command prints its help
        except click.UsageError as error:
            raise click.UsageError(_format_mistake(error, ctx, given), ctx) from error


class CheckedGroup(CheckedCommand, click.Group):
    """A group of `CheckedCommand`."""

    command_class = CheckedCommand

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple:
        """Find the command that the first word names; raises `click.UsageError`."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            names = self.list_commands(ctx)
            close = [f"`{ctx.command_path} {one}`" for one in get_close_matches(name, names)]
            raise click.UsageError(f"{name}: no such command; expected {', '.join(names)}{_ask(close)}", ctx)
        return super().resolve_command(ctx, args)


def _format_mistake(error: click.UsageError, ctx: click.Context, given: Sequence[str]) -> str:
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option{_ask(_suggest_options(error, ctx, given))}"
    if isinstance(error, click.BadOptionUsage):
        option = next((one for one in _list_options(ctx.command) if error.option_name in one.opts), None)
        if option is not None and not option.is_flag:
            return f"{error.option_name}: has no value; expected `{option.opts[-1]} {option.make_metavar(ctx)}`"
    extra = _list_extra(ctx, given)
    if extra:
        split = format_split_paths(given)
        return (
            f"{', '.join(extra)}: has no option before it; {'; '.join(split)}" if split else _format_extra(extra, ctx)
        )
    if isinstance(error, click.MissingParameter):
        missing = error.param
        if isinstance(missing, click.Option):
            return f"{missing.opts[-1]} is missing; expected {_format_usage(missing, ctx)}"
        if missing is not None:
            return f"{missing.make_metavar(ctx)} is missing; expected `{ctx.command_path} {missing.make_metavar(ctx)}`"
    message = error.format_message().strip().rstrip(".")
    return f"{message[:1].lower()}{message[1:]}"


def _format_usage(option: click.Option, ctx: click.Context) -> str:
    """Format an option with its value and the first sentence of its help."""
    meaning = (option.help or "").partition(". ")[0].partition("  [")[0].rstrip(".")
    return f"`{option.opts[-1]} {option.make_metavar(ctx)}`" + (f" ({meaning})" if meaning else "")


def _list_extra(ctx: click.Context, given: Sequence[str]) -> list[str]:
    """Return the words of a command line that belong to no option and no argument."""
    if ctx.command.allow_extra_args:
        return []
    try:
        return ctx.command.make_parser(ctx).parse_args(list(given))[1]
    except click.UsageError:
        return []


def _format_extra(extra: Sequence[str], ctx: click.Context) -> str:
    names = ", ".join(extra)
    if takes := [one.make_metavar(ctx) for one in ctx.command.params if isinstance(one, click.Argument)]:
        return f"{names}: one too many; expected one {takes[0].strip('[]')}"
    flags = [_find_path_option(value, ctx) for value in extra]
    if all(flags):
        typed = " ".join(f"{flag} {quote(value)}" for flag, value in zip(flags, extra, strict=True))
        return f"{names}: has no option before it{_ask([f'`{typed}`'])}"
    return f"{names}: has no option before it{_format_use(extra[flags.index(None)])}"


def _format_use(value: str) -> str:
    """Format what is at a path and which command reads it; "" if nothing is there."""
    kind = _find_kind(value)
    if kind is None or kind is Kind.EMPTY:
        return ""
    return f"; it is {kind}: {format_use(kind, Path(value))}"


def _find_kind(value: str) -> Kind | None:
    """Return what is at a path; None if nothing is there."""
    path = Path(value)
    return find_kind(path) if path.exists() or is_unfinished(path) else None


def _find_path_option(value: str, ctx: click.Context) -> str | None:
    """Return the option of a command that a path belongs to, by what is at the path; None if no option fits."""
    options = {flag: one for one in _list_options(ctx.command) for flag in one.opts if flag in _PATH_OPTIONS}
    kind = _find_kind(value)
    if kind is Kind.UNFINISHED:
        return None
    if kind is Kind.STORE or (kind is None and value.endswith(".zarr")):
        fitting = [flag for flag in ("--store", "--out") if flag in options and options[flag].metavar == "STORE"]
        return next(iter(fitting), None)
    if kind is Kind.RUN or (kind is Kind.FOLDER and _find_runs(Path(value))):
        wanted = ["--run"]
    elif kind in (Kind.FILE, Kind.FOLDER) or "=" in value:
        wanted = ["--src"]
    else:
        wanted = list(options)
    return next((flag for flag in wanted if flag in options), None)


def _suggest_options(error: click.NoSuchOption, ctx: click.Context, given: Sequence[str]) -> list[str]:
    """Return what may have been meant by an unknown option, as it is typed."""
    unknown, command = error.option_name, ctx.command
    if isinstance(command, click.Group):
        inner = {name: command.get_command(ctx, name) for name in command.list_commands(ctx)}
        return [f"`{ctx.command_path} {name} {unknown}`" for name, one in inner.items() if one and _has(one, unknown)]
    name = unknown.lstrip("-")
    own = [flag for one in _list_options(command) for flag in one.opts if flag.startswith("--")]
    takes = " ".join(one.make_metavar(ctx) for one in command.params if isinstance(one, click.Argument))
    meant = [flag for flag, (others, _) in _PATH_OPTIONS.items() if name in (flag[2:], *others.split())]
    if any(_PATH_OPTIONS[flag][1] and _PATH_OPTIONS[flag][1] in takes for flag in meant):
        value = next((after for word, after in pairwise(given) if word == unknown), None)
        if value is not None and "RUNS" in takes:
            value = _find_runs(Path(value))
        return [f"`{ctx.command_path} {takes if value is None else quote(value)}`"]
    if named := [flag for flag in meant if flag in own]:
        return named
    if name in ("src", "store") and (other := [flag for flag in ("--src", "--store") if flag in own]):
        return other
    close = get_close_matches(name, [flag[2:] for flag in own])
    return [f"--{one}" for one in close]


def _find_runs(path: Path) -> str | None:
    """Return the folder of runs that a path names: itself, or the folder above a run; None if it has no run."""
    folder = path.parent if path.is_dir() and find_kind(path) is Kind.RUN else path
    return str(folder) if any(folder.glob(f"*/{RUN_SETTINGS}")) else None


def _has(command: click.Command, flag: str) -> bool:
    return any(flag in one.opts for one in command.params)


def _list_options(command: click.Command) -> list[click.Option]:
    return [one for one in command.params if isinstance(one, click.Option)]


def _ask(meant: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(meant)}?" if meant else ""
