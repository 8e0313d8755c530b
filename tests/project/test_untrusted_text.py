"""Names and texts of strangers in sets, stores and runs: no command shows one raw, in whatever it prints or writes."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.pictures import draw_noise
from PIL import PngImagePlugin

from data_cards.core.console import format_table
from data_cards.core.text import Lines, dump_json, escape_cell, join_lines
from eval.cli.main import cli as evaluate
from pipeline.cli.main import main as pipeline
from pipeline.store.shard_format import shard_file
from train.cli import cli as train

PACKAGES = [Path(__file__).parents[2] / name for name in ("data_cards", "pipeline", "train", "eval")]
# Escape sequences, another direction of writing, lines of their own, formulas, markup, mathematics.
EVIL = (
    "\x1b[2J\x1b]0;title\x07 \u202egnp.\u2066x\x9b31m",
    "line\nFORGED sound, 9 shards\rFORGED",
    "=cmd('calc')!A0",
    "<script>alert(1)<script><xss> $\\frac{$ {{ 7 * 7 }} `x` ![a](b)",
)
STORE, RUN = "st\x1bore\u202e.zarr", f"runs/{EVIL[1]}$\\bad$"


def make_evil_set(root: Path) -> None:
    """Write a set whose sources, pictures, metadata and provenance all have names and texts of `EVIL`."""
    seed = 0
    for split in ("train", "test"):
        for label in ("real", "fake"):
            for number, evil in enumerate(EVIL):
                folder = root / split / label / f"{evil}{label}".replace("/", "_")
                folder.mkdir(parents=True)
                for picture in range(2 if split == "train" else 1):
                    seed += 1
                    info = PngImagePlugin.PngInfo()
                    info.add_text("parameters", f"Steps: 20, {evil}")
                    draw_noise(seed, 48, 40).save(folder / f"{evil}{picture}.png", pnginfo=info)
                about = {"generator": evil, "camera": evil, "note": evil, "licence": evil, "url": evil}
                (folder / "source.json").write_text(json.dumps(about))
                if number == 0:
                    (folder / f"{EVIL[3]}.png").write_bytes(b"no picture")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Run every command on the set, and on the store and the run made of it; gives what each printed."""
    printed = {}

    def call(command, *arguments, status=0):
        result = CliRunner().invoke(command, list(arguments))
        assert result.exit_code in (status, 0), (arguments, result.output, result.exception)
        assert isinstance(result.exception, SystemExit | type(None)), arguments
        printed[arguments] = result
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("evil"))
        patch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
        make_evil_set(Path("set"))
        make_evil_set(Path(EVIL[1]))
        build = ("build", "--src", "set", "--out", STORE, "--size", "16", "--workers", "0", "--variants", "clean")
        call(pipeline, *build, "--dry-run")
        call(pipeline, *build)
        call(pipeline, *build, "--json")
        call(pipeline, "build", "--src", EVIL[0], status=1)
        call(pipeline, "audit", "--src", "set")
        shutil.copy(next(Path("set/train/real").rglob("*0.png")), f"set/test/fake/{EVIL[1]}fake/{EVIL[1]}copy.png")
        call(pipeline, "audit", "--src", "set", "--contact-sheet", "sheet.png")
        call(pipeline, "audit", "--src", "set", "--json")
        call(pipeline, "subset", "--src", "set", "--fraction", "0.5", "--out", EVIL[0])
        call(pipeline, "card", "set", "--out", "card")
        call(pipeline, "card", STORE, "--out", "card2")
        call(pipeline, "card", "--diff", "set", STORE)
        call(pipeline, "inspect", STORE, "--png", "planes.png")
        call(pipeline, "inspect", STORE, "--json")
        options = ("--epochs", "1", "--device", "cpu", "--batch-size", "8")
        call(train, "run", "--store", STORE, "--run", RUN, *options)
        shutil.copytree(RUN, "runs/2")
        call(train, "list")
        call(train, "list", "--json")
        files = [str(one) for one in sorted(Path("set/test").rglob("*.png"))]
        call(evaluate, "predict", "--run", RUN, "--device", "cpu", "--quick", *files, status=1)
        call(evaluate, "predict", "--run", RUN, "--device", "cpu", "--quick", "--csv", *files, status=1)
        call(evaluate, "predict", "--run", RUN, "--device", "cpu", "--quick", "--json", *files, status=1)
        call(evaluate, "predict", "--run", RUN, "--device", "cpu", files[2], "--explain", f"{EVIL[1]}.png", status=1)
        call(evaluate, "report", "--run", RUN, "--device", "cpu", "--swap-pictures", "4", "--explain-pictures", "2")
        call(evaluate, "report", "--run", RUN, "--run", "runs/2", "--device", "cpu", "--out", "compared")
        call(pipeline, "verify", STORE)
        Path(STORE, shard_file(0)).write_bytes(b"damaged")
        call(pipeline, "verify", STORE, status=3)
        call(pipeline, "verify", STORE, "--json", status=3)
        shutil.rmtree("set/train")
        call(pipeline, "verify", STORE, "--repair", status=3)
        call(pipeline, "verify", EVIL[1], status=3)
        call(pipeline, "verify", STORE, EVIL[0], EVIL[3], status=2)
        call(evaluate, "report", "--run", EVIL[0], status=1)
        call(train, "run", "--where", EVIL[0], "--store", STORE, status=2)
        yield printed


def find_raw(text: str) -> list[str]:
    """Return what a terminal or browser would not show as itself, except line ends."""
    return [repr(line) for line in text.split("\n") if not line.isprintable() or line.lstrip().startswith("FORGED")]


def test_commands_print_no_raw_text_of_strangers(outputs):
    assert len(outputs) > 25
    shown = "".join(result.output for result in outputs.values())
    assert "\\x1b[2J" in shown  # the names are there, escaped
    assert "\\x0aFORGED" in shown
    for name, result in outputs.items():
        assert find_raw(result.stdout) == [], name
        assert find_raw(result.stderr) == [], name


def test_json_keeps_names_exactly(outputs):
    (text,) = (one.stdout for name, one in outputs.items() if name[0] == "predict" and "--json" in name)
    paths = {one["path"] for one in json.loads(text)}
    assert {str(path) for path in Path("set/test").rglob("*.png")} == paths
    assert f"set/test/real/{EVIL[1]}real/{EVIL[1]}0.png" in paths
    assert json.loads(Path("card/card.json").read_text())["sources"][0]["provenance"]["note"] in EVIL


def test_files_for_people_hold_no_raw_text_of_strangers(outputs):
    written = [path for path in Path().rglob("*") if path.suffix in (".html", ".md", ".csv")]
    assert len(written) >= 9
    for path in written:
        text = path.read_text()
        assert find_raw(text) == [], path
        assert "FORGED" in text or "history" in path.name
        if path.suffix == ".html":
            assert "<script" not in text
            assert "<xss>" not in text
    for text in [Path("card/manifest.csv").read_text(), *(one.stdout for one in outputs.values())]:
        if not text.startswith("path,"):
            continue
        rows = list(csv.reader(io.StringIO(text)))
        assert len(rows) > 5
        texts = [cell for row in rows for cell in row if not re.fullmatch(r"-?[\d.]+", cell)]
        assert [cell for cell in texts if cell[:1] in tuple("=+-@\t\r")] == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), (" =1", "' =1"), ("\uff1d1", "'\uff1d1"),
        ("\t=1", "\\x09=1"), ("a=1", "a=1"), ("", ""), (-1.5, -1.5), (None, None), ("a\nb\x1b", "a\\x0ab\\x1b"),
    ],
)  # fmt: skip
def test_escape_cell_leaves_no_formula(value, shown):
    assert escape_cell(value) == shown


def test_dump_json_is_exact_and_printable():
    value = {"a": ["\x1b\x7f\x9b\u202e\ud800\U000e0001 \n\t\u00a0", "ünï 中 😀"]}
    text = dump_json(value, indent=2)
    assert json.loads(text) == value
    assert find_raw(text) == []
    assert "ünï 中 😀" in text


def test_join_lines_keeps_its_own_line_ends_alone():
    table = format_table([["a\nb", "\x1b", 1, None]], ["x", "y", "z", "n"])
    joined = join_lines([table, "c\nd"])
    assert isinstance(joined, Lines)
    assert joined.split("\n")[-2:] == ["a\\x0ab  \\x1b    1", "c\\x0ad"]
    assert not isinstance(f"{joined}", Lines)


def test_only_the_console_writes_to_the_terminal():
    writes = re.compile(r"click\.(s?echo|secho)\(|(?<![\w.])print\(|tqdm\.write\(|sys\.std(out|err)\.write\(")
    found = [
        f"{path}:{number}"
        for package in PACKAGES
        for path in package.rglob("*.py")
        if path.parts[-2:] != ("core", "console.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if writes.search(line)
    ]
    assert found == []


def test_curves_of_a_run_with_mathematics_in_its_name_are_drawn(outputs):
    assert np.all([Path(RUN, "curves.png").is_file(), Path("planes.png").is_file(), Path("sheet.png").is_file()])
