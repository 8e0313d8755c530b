"""`report` as it is typed: shells, options, output, and one line for each bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zarr
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.refusals import assert_refused
from PIL import Image

from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.cli.main import cli, predict, report

SCRIPTS = Path(sys.executable).parent


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call `report` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["report", "--device", "cpu", *arguments])

    return run


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """A run on a store in the folder that commands are called in."""
    return make_run(tmp_path / "runs" / "001", make_store(tmp_path / "features.zarr", variants=("clean", "jpeg-1")))


def test_report_prints_tables_and_writes_files(call, run_folder):
    result = call()
    assert result.exit_code == 0, result.output
    short = ("of 100 photographs generated", "pictures as they are", "all variants", "AUROC", "called fake")
    words = (*short, "report: runs/001/report.html")
    assert all(text in result.stdout for text in words)
    lines = result.stdout.splitlines()
    assert next(n for n, line in enumerate(lines) if "of 100 photographs" in line) < 4
    full = call("--full", "--explain-pictures", "0", "--swap-pictures", "0").stdout
    assert all(text in full for text in words)
    for text in ("Balanced accuracy", "AUROC*", "70 to 84", "no JPEG-swap test"):
        assert text in full
        assert text not in result.stdout
    assert (run_folder / "report.html").is_file()


def test_json_is_that_of_the_file_without_the_rows(call, run_folder, tmp_path):
    result = call("--json", "--out", "elsewhere")
    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    written = json.loads((tmp_path / "elsewhere" / "report.json").read_text(encoding="utf-8"))
    assert printed.pop("files") == {"json": "elsewhere/report.json", "html": "elsewhere/report.html"}
    assert len(written.pop("rows")) == 24
    assert len(written["deciding"].pop("rows")) == 12
    assert printed == written
    assert not (run_folder / "report.json").exists()


def test_report_prints_notice_and_warnings_on_stderr(call, run_folder, tmp_path):
    zarr.open_group(tmp_path / "features.zarr").attrs.update({"simulated": True})
    result = call("--split", "val")
    assert result.stdout.startswith(SIMULATION_NOTICE)
    assert result.stderr.startswith("warning: the best epoch and the threshold were chosen")


def test_unfinished_run_is_named_in_reports_comparisons_and_verdicts(call, run_folder, tmp_path):
    words = "runs/001: the run is unfinished (0 of 20 epochs); unless it is still training, `train run --resume --run "
    assert call().stderr == ""
    other = make_run(tmp_path / "other", tmp_path / "features.zarr", seed=1)
    (run_folder / "summary.json").unlink()
    Image.new("RGB", (64, 64), "red").save("red.png")
    commands = {
        "report": call(),
        "comparison": call("--run", "runs/001", "--run", str(other)),
        "predict": CliRunner().invoke(predict, ["red.png", "--quick"]),
    }
    for name, result in commands.items():
        assert result.exit_code == 0, result.output
        assert result.stderr.count(f"warning: {words}runs/001` finishes it") == 1, name
    for name in ("report", "comparison"):
        assert words in json.loads((run_folder / f"{name}.json").read_text())["warnings"][0]
        assert "the run is unfinished" in (run_folder / f"{name}.html").read_text()


def test_help_has_examples():
    for command, example in ((report, "report --run"), (predict, "predict holiday.jpg")):
        assert example in CliRunner().invoke(command, ["--help"]).stdout
    text = CliRunner().invoke(cli, ["--help"]).stdout
    assert "report" in text
    assert "predict" in text
    assert sorted(cli.commands) == ["page", "predict", "report"]


@pytest.mark.parametrize(("shell", "names"), [("bash", ["report"]), pytest.param("sh", ["predict", "page"], id="sh")])
@pytest.mark.skipif(not (SCRIPTS / "report").exists(), reason="the commands are not installed beside this Python")
def test_installed_commands_run_in_a_shell(shell, names, tmp_path):
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}
    for name in names:
        done = subprocess.run(
            [shell, "-c", f"eval {name} --help"], capture_output=True, text=True, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: {name} ")
    done = subprocess.run([shell, "-c", "eval report"], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: runs: no training run in it; make one with `train run`, or give --store")


def test_report_runs_as_a_module(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-m", "eval", "report"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: runs: no training run in it; make one with `train run`, or give --store")


# --- bad input


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["report", "--splti", "val"], "--splti: no such option; did you mean --split?; see `eval report --help`"),
        (["report", "--split", "x\n"], "invalid value for '--split': 'x\\n' is not one of 'train', 'val', 'test', "),
        (["predict"], "PICTURE... is missing; expected `eval predict PICTURE...`; see `eval predict --help`"),
        (["nothing"], "nothing: no such command; expected page, predict, report; see `eval --help`"),
    ],
)
def test_wrong_call_is_one_line_that_names_the_help(arguments, error):
    done = CliRunner().invoke(cli, arguments, prog_name="eval")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {error}")
    assert done.stderr.count("\n") == 1


def test_report_without_a_run_exits_1(call):
    assert_refused(call(), 1, "runs: no training run")
    assert_refused(call("--run", "absent"), 1, "absent: no such run folder")


def test_report_without_the_store_is_refused(call, run_folder, tmp_path):
    (tmp_path / "features.zarr").rename(tmp_path / "moved.zarr")
    assert_refused(call(), 1, "runs/001: its store", "features.zarr was not found", "--store")
    assert_refused(call("--store", "absent.zarr"), 1, "absent.zarr: no such feature store")
    assert call("--store", "moved.zarr").exit_code == 0


def test_report_on_incomplete_or_other_version_store_is_refused(call, run_folder, tmp_path):
    group = zarr.open_group(tmp_path / "features.zarr")
    group.attrs.update({"format_version": 99})
    assert_refused(call(), 3, "format version 99")
    group.attrs.update({"format_version": 2, "complete": False})
    assert_refused(call(), 3, "the build is not finished")


def test_report_on_a_truncated_store_is_refused(call, run_folder, tmp_path):
    shards = sorted((tmp_path / "features.zarr" / "features").rglob("c/*/*/*/*"))
    for shard in shards:
        shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert_refused(call(), 3, "features.zarr: row")
    assert not (run_folder / "report.json").exists()


def test_report_of_damaged_weights_is_refused(call, run_folder):
    (run_folder / "best.safetensors").write_bytes(b"no weights")
    assert_refused(call(), 1, "best.safetensors: not the weights of this run")


def test_report_without_a_test_split_is_refused(call, tmp_path):
    make_run(tmp_path / "runs" / "001", make_store(tmp_path / "f.zarr", pictures={"train": (3, 3), "val": (2, 2)}))
    assert_refused(call(), 1, "f.zarr: has no test split", "test/real", "--split val")
    assert call("--split", "val").exit_code == 0


def test_report_with_wrong_options_exits_2(call, run_folder):
    assert_refused(call("--full", "--json"), 2, "full: --json prints everything")
    assert_refused(call("--run", "x=runs/001"), 2, "one run: expected at least two")
    assert call("--split", "everything").exit_code == 2
    assert_refused(call("--out", "features.zarr/zarr.json"), 2, "zarr.json: is a file")


def test_report_into_an_unwritable_folder_is_refused(call, run_folder, tmp_path, monkeypatch):
    # Root may write everywhere, so the system's refusal is put in its place.
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied", str(run_folder / "report.json"))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert_refused(call(), 1, "report.json: no permission")
    assert not list(run_folder.glob("report*"))
