"""`train run` killed before its first state: started over or resumed, it ends the same."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from data_cards.core.files import PARTIAL, RUN_SETTINGS, temporary_name
from train.cli import cli
from train.run.folder import read_run

SMALL = ["--epochs", "1", "--batch-size", "8", "--device", "cpu", "--network", "radial", "--experts", "off"]
# The process ends without a word when its file of that number, from 0, is to take its name.
DYING = """
import os, signal, sys
from train.cli import main
number, replace = int(sys.argv.pop(1)), os.replace
def replace_or_die(*arguments):
    global number
    if number == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    number -= 1
    replace(*arguments)
os.replace = replace_or_die
main()
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("begin") / "features.zarr")


@pytest.fixture(scope="module")
def whole(store) -> Path:
    assert call("--store", str(store), "--run", str(store.parent / "whole"), *SMALL).exit_code == 0
    return store.parent / "whole"


def call(*arguments: str):
    return CliRunner().invoke(cli, ["run", *arguments])


def assert_same_run(path: Path, whole: Path) -> None:
    assert {file.name for file in path.iterdir()} == {file.name for file in whole.iterdir()}
    for name in ("data_card.json", "best.safetensors", "last.safetensors"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("left", [temporary_name(RUN_SETTINGS), RUN_SETTINGS + PARTIAL], ids=["now", "earlier version"])
def test_train_in_an_unused_folder_starts_the_run(store, whole, tmp_path, left):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / left).write_text("{")
    with pytest.raises(UserError, match=r"run: no run was started in it; start one with `train run --run .*run`"):
        read_run(tmp_path / "run")
    result = call("--store", str(store), "--run", str(tmp_path / "run"), *SMALL)
    assert result.exit_code == 0, result.output
    (tmp_path / "run" / f"{RUN_SETTINGS}{PARTIAL}").unlink(missing_ok=True)
    assert_same_run(tmp_path / "run", whole)


def test_resume_with_settings_alone_starts_the_run(store, whole, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RUN_SETTINGS).write_bytes((whole / RUN_SETTINGS).read_bytes())
    result = call("--store", str(store), "--run", str(tmp_path / "run"), *SMALL)
    assert result.exit_code == 2
    assert "run: holds a run already; continue it with --resume (in Python: resume)" in result.stderr
    result = call("--resume", "--run", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_kill_before_a_rename_leaves_a_usable_folder(store, whole, tmp_path, number):
    arguments = ["--store", str(store), "--run", str(tmp_path / "run"), *SMALL]
    done = subprocess.run([sys.executable, "-c", DYING, str(number), "run", *arguments], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    result = call(*arguments)
    if number > 0:  # with its settings it is a run
        assert "continue it with --resume" in result.stderr
        result = call("--resume", "--run", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert_same_run(tmp_path / "run", whole)
