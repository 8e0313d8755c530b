"""Options said once: fields of a dataclass carry their help; commands, `--help` and documentation are made of them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import MISSING, Field, dataclass, field, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import click

from data_cards.core.errors import UsageError

_KEY = "option"
_OTHER = "Other options"


@dataclass(frozen=True)
class _About:
    """What a field says of itself as an option."""

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
    """A field of a dataclass that is an option of a command too, `--name-of-field`.

    Parameters
    ----------
    help : one or two sentences, for `--help` and the documentation
    group : heading under which it is listed
    choices : values that it may have; empty for any
    metavar : name of its value, such as FILE
    shown : the default in words, where `default` is None and stands for something
    """
    return field(default=default, metadata={_KEY: _About(help, group, choices, metavar, shown)})


class GroupedOption(click.Option):
    """An option that is listed under a heading."""

    def __init__(self, *args: Any, group: str = _OTHER, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> dict:
        extra = super().get_help_extra(ctx)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default  # without the parentheses that click puts
        return extra


class GroupedCommand(click.Command):
    """A command whose `--help` lists the options under their headings, in the order in which these first appear."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", _OTHER), []).append(record)
        for name in sorted(groups, key=lambda name: name == _OTHER):
            with formatter.section(name):
                formatter.write_dl(groups[name])


def add_options(settings: type) -> Callable:
    """A decorator that gives a command the options of a settings dataclass, by the fields' names."""

    def decorate(function: Callable) -> Callable:
        for one, about, kind in reversed(list(_list_options(settings))):
            function = _make_option(one, about, kind)(function)
        return function

    return decorate


def option_names(settings: type) -> list[str]:
    """Names of the fields that are options."""
    return [one.name for one, _, _ in _list_options(settings)]


def check_choices(settings: Any) -> None:
    """Raise `UsageError` for an option whose value is none of its choices."""
    for one, about, _ in _list_options(type(settings)):
        value = getattr(settings, one.name)
        if about.choices and value not in about.choices and not (value is None and one.default is None):
            allowed = ", ".join(map(str, about.choices))
            raise UsageError(f"{one.name.replace('_', ' ')} {value}: expected one of {allowed}")


def format_option_tables(*settings: type) -> str:
    """The options of settings dataclasses as Markdown, a table for each heading."""
    groups: dict[str, list[str]] = {}
    for one, about, _ in (found for kind in settings for found in _list_options(kind)):
        value = about.metavar or ", ".join(map(str, about.choices))
        flag = f"`{_flag(one)}{' ' * bool(value)}{value}`"
        groups.setdefault(about.group, []).append(f"| {flag} | {_show_default(one, about)} | {about.help} |\n")
    head = "| option | default | what it does |\n|---|---|---|\n"
    return "\n".join(f"**{name}**\n\n{head}{''.join(rows)}" for name, rows in groups.items())


def _list_options(settings: type) -> Iterator[tuple[Field, _About, type]]:
    hints = get_type_hints(settings)
    for one in fields(settings):
        if _KEY in one.metadata:
            yield one, one.metadata[_KEY], hints[one.name]


def _make_option(one: Field, about: _About, kind: Any) -> Callable:
    if isinstance(kind, UnionType):  # int | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    several = get_origin(kind) is tuple
    return click.option(
        _flag(one),
        cls=GroupedOption,
        group=about.group,
        type=click.Choice(list(about.choices)) if about.choices else get_args(kind)[0] if several else kind,
        multiple=several,
        default=one.default,
        show_default=about.shown or one.default not in (None, ()),
        metavar=about.metavar,
        help=about.help,
    )


def _flag(one: Field) -> str:
    return "--" + one.name.replace("_", "-")


def _show_default(one: Field, about: _About) -> str:
    if about.shown or one.default in (None, (), MISSING):
        return about.shown or ""
    return ", ".join(one.default) if isinstance(one.default, tuple) else str(one.default)
