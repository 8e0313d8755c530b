"""Options are defined once: commands, their help, the documentation and Python's defaults come from the same fields."""

import importlib.util
import json
from dataclasses import dataclass, fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from data_cards.core.errors import UsageError
from data_cards.core.options import (
    NO_VALUE,
    GroupedCommand,
    GroupedOption,
    add_options,
    check_choices,
    format_option_tables,
    list_given_options,
    list_option_values,
    option_field,
    option_names,
)
from pipeline.builder.build import build_store
from pipeline.cli.main import main
from pipeline.features.settings import FeatureSettings
from pipeline.store.settings import BuildSettings
from train.cli import cli
from train.settings import TrainSettings

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True)
class Settings:
    depth: int = option_field(3, help="How deep.", group="Water")
    shade: str = option_field("dark", help="How dark.", group="Light", choices=("dark", "light"))
    side: int | None = option_field(None, help="How long.", group="Water", choices=(8, 16), shown="as is")
    names: tuple[str, ...] = option_field((), help="Who.", group="Light", metavar="NAME")
    inner: float = 0.5  # not an option

    def __post_init__(self) -> None:
        check_choices(self)


def call(*arguments: str):
    made = []

    @click.command(cls=GroupedCommand)
    @add_options(Settings)
    @click.option("--wet", is_flag=True, cls=GroupedOption, group="Water", help="Rain.")
    @click.option("--json", "as_json", is_flag=True, help="As JSON.")
    def command(wet, as_json, **values):
        made.append(Settings(**values))

    result = CliRunner().invoke(command, list(arguments))
    return result, made


def test_add_options_adds_each_field_as_an_option():
    assert option_names(Settings) == ["depth", "shade", "side", "names"]
    assert call()[1] == [Settings()]
    given = ["--depth", "5", "--shade", "light", "--side", "16", "--names", "a", "--names", "b"]
    assert call(*given)[1] == [Settings(5, "light", 16, ("a", "b"))]
    assert call("--side", "9")[0].exit_code == 2


def test_help_lists_options_under_their_headings():
    lines = call("--help")[0].stdout.split("Options")[-1].splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Water:", "Light:", "Other options:"]
    water = "\n".join(lines[lines.index("Water:") : lines.index("Light:")])
    for words in ("--depth", "--side [8|16]", "[default: 3]", "[default: as is]", "--wet"):
        assert words in water


def test_option_values_are_listed_as_they_are_typed():
    settings = Settings(5, "light", 16, ("a b", "c"))
    assert list_given_options(settings) == ["--depth 5", "--shade light", "--side 16", "--names 'a b'", "--names c"]
    assert list_given_options(Settings()) == []
    assert list_option_values(settings) == {"--depth": "5", "--shade": "light", "--side": "16", "--names": "a b, c"}
    assert list_option_values(Settings())["--names"] == NO_VALUE
    for share in (0.25, 0.1234567, 1 / 3):
        assert list_given_options(BuildSettings(val_fraction=share)) == [f"--val-fraction {share}"]


def test_value_that_is_not_a_choice_is_refused():
    with pytest.raises(UsageError, match="shade grey: expected one of dark, light"):
        Settings(shade="grey")
    with pytest.raises(UsageError, match="side 9: expected one of 8, 16"):
        Settings(side=9)


def test_format_option_tables_has_a_table_for_each_heading():
    table = format_option_tables(Settings)
    assert table.startswith(
        "**Water**\n\n| option | default | what it does |\n|---|---|---|\n| `--depth` | 3 | How deep. |"
    )
    assert "| `--side 8, 16` | as is | How long. |" in table
    assert "| `--names NAME` |  | Who. |" in table


@pytest.mark.parametrize("file", ["building.md", "training.md", "report.md", "verdicts.md"])
def test_documentation_equals_the_option_tables(file):
    spec = importlib.util.spec_from_file_location("make_tables", DOCS / "make_tables.py")
    make_tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tables)
    text = (DOCS / file).read_text(encoding="utf-8")
    assert "<!-- options of" in text
    assert make_tables.fill_in(text) == text, "run `make tables`"


@pytest.mark.parametrize(
    ("command", "settings"), [(main, (FeatureSettings, BuildSettings)), (cli, (TrainSettings,))], ids=["build", "train"]
)
def test_every_setting_is_an_option_with_the_same_default(command, settings):
    options = {one.name: one for one in command.commands["build" if command is main else "run"].params}
    for one in (one for kind in settings for one in fields(kind) if one.name != "features"):
        option = options[one.name]
        assert one.metadata, one.name
        assert option.default == one.default or (option.multiple and tuple(option.default or ()) == one.default)


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((), None),
        (("--size", "64"), BuildSettings(FeatureSettings(size=64))),
        (("--estimator", "averaged"), BuildSettings(FeatureSettings(estimator="averaged"))),
        (("--variants", "clean"), BuildSettings(variants="clean")),
        (("--overview", "0"), BuildSettings(FeatureSettings(overview=0))),
    ],
)
def test_python_builds_what_the_command_builds(kaggle_dir, tmp_path, arguments, settings):
    common = ["build", "--src", str(kaggle_dir), "--out", str(tmp_path / "a.zarr"), "--workers", "0", "--dry-run"]
    result = CliRunner().invoke(main, [*common, "--json", *arguments])
    assert result.exit_code == 0, result.output
    plan = build_store([str(kaggle_dir)], str(tmp_path / "a.zarr"), settings, workers=0, dry_run=True).plan
    assert json.loads(result.stdout)["fingerprint"] == plan.fingerprint
    assert plan.settings == (settings or BuildSettings())
