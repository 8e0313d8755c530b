"""Options defined once: dataclass fields with their help, from which commands, `--help` and documentation are built."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from shlex import quote
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import click

from data_cards.core.command_line import CheckedCommand
from data_cards.core.errors import UsageError

_KEY = "option"
_OTHER = "Other options"
NO_VALUE = "none"  # text of an option without a value


@dataclass(frozen=True)
class _OptionInfo:
    """The properties of a field as an option."""

    help: str
    group: str
    choices: Collection
    metavar: str | None
    shown: str | None


def option_field(
    default: Any,
    *,
    help: str,
    group: str,
    choices: Collection = (),
    metavar: str | None = None,
    shown: str | None = None,
) -> Any:
    """Create a dataclass field that is also an option of a command, `--name-of-field`.

    Parameters
    ----------
    default : of the field
    help : str, one or two sentences, for `--help` and the documentation
    group : str, heading under which the option is listed
    choices : valid values; empty for any
    metavar : str, name of the value, such as FILE
    shown : str, the default in words, for a `default` of None that does not mean "none"
    """
    return field(default=default, metadata={_KEY: _OptionInfo(help, group, choices, metavar, shown)})


class GroupedOption(click.Option):
    """An option that is listed under a heading."""

    def __init__(self, *args: Any, group: str = _OTHER, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> dict:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default  # without the parentheses that click adds
        return extra


class GroupedCommand(CheckedCommand):
    """A command whose `--help` lists options under their headings, in order of their first appearance."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list] = {}
        for parameter in filter(lambda one: isinstance(one, click.Option), self.get_params(ctx)):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", _OTHER), []).append(record)
        for name in sorted(groups, key=lambda name: name == _OTHER):
            with formatter.section(name):
                formatter.write_dl(groups[name])


def add_options(settings: type) -> Callable:
    """Return a decorator that adds the options of a settings dataclass to a command, named after its fields."""

    def decorate(function: Callable) -> Callable:
        for one, info, kind in reversed(list(_list_options(settings))):
            function = _create_option(one, info, kind)(function)
        return function

    return decorate


def option_names(settings: type) -> list[str]:
    """Return the names of the fields that are options."""
    return [one.name for one, _, _ in _list_options(settings)]


def list_option_values(settings: Any) -> dict[str, str]:
    """Return the value of each field that is an option, as text, by the option's name, such as `--batch-size`.

    The text of None and of an empty list is `NO_VALUE`.
    """
    return {
        _format_flag(one): _format_value(getattr(settings, one.name)) for one, _, _ in _list_options(type(settings))
    }


def list_given_options(settings: Any) -> list[str]:
    """Return the options whose values differ from the defaults, as typed, such as `--batch-size 8`."""
    given = []
    for one, _, _ in _list_options(type(settings)):
        value = getattr(settings, one.name)
        if value not in (one.default, None, ()):
            values = value if isinstance(value, tuple) else (value,)
            given += [f"{_format_flag(one)} {quote(_format_value(part))}" for part in values]
    return given


def _format_value(value: Any) -> str:
    if value is None or value == ():
        return NO_VALUE
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    # Six digits are not all digits of every number.
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def check_choices(settings: Any) -> None:
    """Check that every option's value is one of its choices; raises `UsageError`."""
    for one, info, _ in _list_options(type(settings)):
        value = getattr(settings, one.name)
        if info.choices and value not in info.choices and not (value is None and one.default is None):
            allowed = ", ".join(map(str, info.choices))
            raise UsageError(f"{_format_flag(one)} {value}: expected one of {allowed}")


def format_option_tables(*settings: type) -> str:
    """Format the options of settings dataclasses as Markdown, a table for each heading."""
    groups: dict[str, list[str]] = {}
    for one, info, _ in (found for kind in settings for found in _list_options(kind)):
        value = info.metavar or ", ".join(map(str, info.choices))
        flag = f"`{_format_flag(one)}{' ' * bool(value)}{value}`"
        groups.setdefault(info.group, []).append(f"| {flag} | {_format_default(one, info)} | {info.help} |\n")
    head = "| option | default | what it does |\n|---|---|---|\n"
    return "\n".join(f"**{name}**\n\n{head}{''.join(rows)}" for name, rows in groups.items())


def _list_options(settings: type) -> Iterator[tuple[Field, _OptionInfo, type]]:
    hints = get_type_hints(settings)
    for one in fields(settings):
        if _KEY in one.metadata:
            yield one, one.metadata[_KEY], hints[one.name]


def _create_option(one: Field, info: _OptionInfo, kind: Any) -> Callable:
    if isinstance(kind, UnionType):  # int | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    several = get_origin(kind) is tuple
    return click.option(
        _format_flag(one),
        cls=GroupedOption,
        group=info.group,
        type=click.Choice(list(info.choices)) if info.choices else get_args(kind)[0] if several else kind,
        multiple=several,
        default=one.default,
        show_default=info.shown or one.default not in (None, ()),
        metavar=info.metavar,
        help=info.help,
    )


def _format_flag(one: Field) -> str:
    return "--" + one.name.replace("_", "-")


def _format_default(one: Field, info: _OptionInfo) -> str:
    if info.shown or one.default in (None, (), MISSING):
        return info.shown or ""
    return ", ".join(one.default) if isinstance(one.default, tuple) else str(one.default)
