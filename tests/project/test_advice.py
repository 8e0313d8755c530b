"""No message advises an option that the command which shows it does not have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from eval.cli.main import cli as eval_cli
from pipeline.cli.main import main as pipeline_cli
from train.cli import cli as train_cli

ROOT = Path(__file__).resolve().parents[2]
SETS = ("pipeline build", "pipeline audit", "pipeline subset", "pipeline card")
# The commands that show the messages of a module; of the first prefix that fits. One without options is none of these.
SHOWN_BY = {
    "data_cards/archives/place.py": SETS,  # of a picture that has changed since its scan
    "data_cards/card/files.py": ("pipeline card",),
    "data_cards/core/files.py": ("pipeline subset", "pipeline sample"),
    "data_cards/dataset/leakage.py": ("pipeline build",),
    "data_cards/dataset": SETS,
    "data_cards/image": (*SETS, "eval predict", "eval page"),
    "data_cards/selection": ("pipeline audit", "pipeline subset"),
    "data_cards/selection/matching.py": ("pipeline subset",),
    "data_cards/selection/subset.py": ("pipeline subset",),
    "data_cards/audit/audit.py": ("pipeline audit",),
    "pipeline/builder": ("pipeline build",),
    "pipeline/execution": ("pipeline build",),
    "pipeline/features": ("pipeline build",),
    "pipeline/simulate": ("pipeline sample",),
    "pipeline/store/settings.py": ("pipeline build",),
    "pipeline/store/concatenated.py": ("train run",),
    "pipeline/datasets/audit.py": ("pipeline audit",),
    "pipeline/datasets/card.py": ("pipeline audit", "pipeline card"),
    "pipeline/datasets/subset.py": ("pipeline subset",),
    "pipeline/cli/main.py": ("pipeline inspect",),
    "pipeline/maintenance/plot_planes.py": ("pipeline inspect",),
    "pipeline/cli/summary.py": ("pipeline build",),
    "train/run/run_stores.py": ("eval report",),
    "train/run/export_onnx.py": ("train export",),
    "train": ("train run",),
    "eval/scores": ("eval report",),
    "eval/report": ("eval report",),
    "eval/verdict": ("eval predict",),
    "eval/page": ("eval page",),
    "eval/cli/main.py": ("eval report",),
    "eval/cli/predict.py": ("eval predict",),
}
# Texts without advice on options of a command: `--help` of any, arguments of git, variables of CSS.
NO_MESSAGES = ("data_cards/core/console.py", "train/run/environment.py", "eval/report/svg.py")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_COMMAND = re.compile(r"\b(?:(pipeline|train|eval) ([a-z]+)\b|(report|predict|page)(?= --))([^`;:]*)")
# Of other programs, and of every command.
_FOREIGN = re.compile(
    r"`dask worker[^`]*`|torchrun --[a-z-]+|uv pip install --[a-z-]+|curl --[a-z-]+|\{\} --help|`[a-z ]+ --help`"
)


def list_options() -> dict[str, set[str]]:
    """Return the options of every command."""
    found = {}
    for name, group in (("pipeline", pipeline_cli), ("train", train_cli), ("eval", eval_cli)):
        for one, command in group.commands.items():
            found[f"{name} {one}"] = {
                flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
            }
    return found


def list_texts(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every string in a module, but its docstrings; {} for what is filled in."""
    tree = ast.parse(file.read_text(encoding="utf-8"), file)
    nodes = list(ast.walk(tree))
    skipped = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            skipped.add(id(body[0].value))
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value


def find_wrong(text: str, shown_by: tuple[str, ...], options: dict[str, set[str]]) -> list[str]:
    """Return the options that a text names and the command that it names, or one that shows it, does not have."""
    wrong = []
    text = _FOREIGN.sub("", text)
    for group, name, alone, rest in _COMMAND.findall(text):
        command = f"eval {alone}" if alone else f"{group} {name}"
        known = options.get(command)
        if known is not None:
            wrong += [f"{command} {flag}" for flag in _OPTION.findall(rest) if flag not in known]
    for flag in _OPTION.findall(_COMMAND.sub("", text)):
        wrong += [f"{command} {flag}" for command in shown_by if flag not in options[command]]
    return wrong


def find_shown_by(module: str) -> tuple[str, ...]:
    """Return the commands that show a module's messages, by the longest prefix of its path."""
    prefixes = [prefix for prefix in SHOWN_BY if module.startswith(prefix)]
    return SHOWN_BY[max(prefixes, key=len)] if prefixes else ()


def test_every_advised_option_exists():
    options, wrong = list_options(), []
    anywhere = set().union(*options.values())
    for package in ("data_cards", "pipeline", "train", "eval"):
        for file in sorted((ROOT / package).rglob("*.py")):
            module = file.relative_to(ROOT).as_posix()
            for line, text in list_texts(file):
                if " " not in text or module in NO_MESSAGES:
                    continue  # most often the definition of an option
                named = _OPTION.findall(_FOREIGN.sub("", text))
                wrong += [f"{module}:{line}: {flag} of no command" for flag in named if flag not in anywhere]
                wrong += [f"{module}:{line}: {one}" for one in find_wrong(text, find_shown_by(module), options)]
                if named and not find_shown_by(module) and not module.startswith("pipeline/cli"):
                    wrong += [
                        f"{module}:{line}: {flag} without its command; say who shows it in SHOWN_BY"
                        for flag in _OPTION.findall(_COMMAND.sub("", _FOREIGN.sub("", text)))
                    ]
    assert not wrong, "\n".join(wrong)


def test_every_value_in_an_advised_command_is_quoted():
    open_command = re.compile(r"`(pipeline|train|eval|report|predict|page) [^`]*$")
    unquoted = []
    for package in ("data_cards", "pipeline", "train", "eval"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), file)):
                text = ""
                for part in node.values if isinstance(node, ast.JoinedStr) else ():
                    if isinstance(part, ast.Constant):
                        text += str(part.value)
                        continue
                    value = ast.unparse(part.value)
                    if open_command.search(text) and not value.startswith(("quote(", "shlex.quote(")):
                        unquoted.append(f"{file.relative_to(ROOT)}:{part.lineno}: {value}")
                    text += "{}"
    assert not unquoted, "\n".join(unquoted)


def test_pages_and_their_scripts_name_only_options_that_exist():
    anywhere = set().union(*list_options().values())
    for file in (*ROOT.glob("*/*/templates/*"), *(ROOT / "eval/page/static").glob("*.html")):
        text = re.sub(r"<style>.*?</style>|var\(--[a-z-]+\)", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
        if file.suffix != ".css":
            assert set(re.findall(r"(?<![\w!-])--[a-z][a-z-]+(?!>)", text)) <= anywhere, file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("use `pipeline build --val-fraction 0.15`", []),
        ("use `pipeline build --labels-file x`", ["pipeline build --labels-file"]),
        ("use `report --splits val`", ["eval report --splits"]),
        ("give it with --store", ["pipeline card --store"]),
        ("give more, on a cluster `dask worker --memory-limit`", []),
    ],
)
def test_find_wrong_names_option_and_command(text, expected):
    assert find_wrong(text, ("pipeline card",), list_options()) == expected
