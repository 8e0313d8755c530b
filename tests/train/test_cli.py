"""The `train run` command: its output, and one line for each bad input."""

import errno
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from select import select

import pytest
from click.testing import CliRunner
from helpers.make_store import make_store
from helpers.refusals import assert_refused

from train.cli import cli, format_speed
from train.run.folder import open_run
from train.settings import TrainSettings

SMALL = [
    "--batch-size",
    "8",
    "--device",
    "cpu",
    "--precision",
    "float32",
    "--epochs",
    "1",
    "--network",
    "small",
    "--experts",
    "off",
]


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Call `train run` in a folder of its own, with a store of the default name."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str):
        return CliRunner().invoke(cli, ["run", *arguments])

    return run


def test_train_run_prints_and_numbers_its_runs(call, tmp_path):
    make_store(tmp_path / "features.zarr")
    result = call(*SMALL)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["001-small-32px"]
    said = "waited for data", "kept epoch", "validation loss", "% (other pictures of the same sources)"
    for text in (*said, "next: report --run runs/001-"):
        assert text in result.stdout
    assert "epoch 1/1" in result.stderr
    assert "12 validation samples (12 for the calibration)" in result.stderr
    # A second run gets a folder of its own; resuming takes the newest.
    assert call(*SMALL, "--seed", "3").exit_code == 0
    result = call("--resume", "--json")
    assert result.exit_code == 0
    summary = json.loads(result.stdout)
    assert summary["run"] == "runs/002-small-32px"
    assert summary["epochs"] == summary["best_epoch"] == 1


def test_help_has_an_example_and_every_setting(call):
    result = call("--help")
    assert "train run --store features.zarr" in result.stdout
    for name, value in TrainSettings().to_dict().items():
        assert "--" + name.replace("_", "-") in result.stdout
        shown = value[0] if isinstance(value, tuple) and value else value
        assert shown in (None, ()) or str(shown) in result.stdout


def test_train_run_as_a_module_reports_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "train", "run", "--store", str(tmp_path / "absent.zarr")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "pipeline build" in done.stderr


def test_train_run_on_ctrl_c_exits_130_and_names_resume(tmp_path):
    make_store(tmp_path / "features.zarr")
    command = [sys.executable, "-m", "train", "run", *SMALL, "--epochs", "100000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment) as process:
        told = [next(line for line in process.stderr if "1/100000" in line)]
        process.send_signal(signal.SIGINT)
        told += process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 128 + signal.SIGINT, told
    assert told[-1].startswith("stopped ")
    assert told[-1].endswith("; resume with `train run --resume --run runs/001-small-32px`")
    assert not any("Traceback" in line for line in told)


def test_train_run_on_hangup_saves_and_exits_129(tmp_path):
    make_store(tmp_path / "features.zarr")
    process, terminal = pty.fork()
    if process == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under `nohup` these tests hand on that it is ignored
        os.chdir(tmp_path)
        command = [sys.executable, "-m", "train", "run", "--run", "run", *SMALL, "--epochs", "100000"]
        os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    shown = b""
    while b"2/100000" not in shown:
        assert select([terminal], [], [], 60)[0], f"nothing more came than {shown!r}"
        shown += os.read(terminal, 10_000)
    os.close(terminal)  # as a closed window or a broken connection does
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 128 + signal.SIGHUP
    assert open_run(tmp_path / "run").history
    assert (tmp_path / "run" / "state.pt").exists()


# --- bad input


def test_train_run_of_a_missing_store_exits_1(call, tmp_path):
    assert_refused(call(), 1, "features.zarr: no such feature store", "pipeline build")
    assert not (tmp_path / "runs").exists()


def test_train_run_of_an_incomplete_store_exits_3(call, tmp_path):
    make_store(tmp_path / "features.zarr", complete=False)
    assert_refused(call(), 3, "features.zarr: the build is not finished; no process", "pipeline build")


def test_train_run_of_another_folder_exits_3(call, tmp_path):
    (tmp_path / "features.zarr").mkdir()
    assert_refused(call(), 3, "features.zarr: is an empty folder, not a feature store")


@pytest.mark.parametrize(
    ("pictures", "texts"),
    [
        pytest.param({"test": (4, 4)}, ["no training rows"], id="no train"),
        pytest.param({"train": (4, 4)}, ["no validation rows", "--val-fraction"], id="no val"),
        pytest.param(
            {"train": (9, 0), "val": (2, 2)}, ["all 9 training rows are real", "expected both classes"], id="one class"
        ),
        pytest.param({"train": (4, 4), "val": (0, 3)}, ["all 3 validation rows are fake"], id="one class in val"),
    ],
)
def test_stores_that_cannot_be_trained_on(call, tmp_path, pictures, texts):
    make_store(tmp_path / "features.zarr", pictures=pictures)
    assert_refused(call("--batch-size", "8"), 1, "features.zarr: ", *texts)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("network", ["none", "small"])
@pytest.mark.parametrize("pictures", [{"train": (1, 4), "val": (0, 2)}, {"train": (1, 1)}])
def test_a_class_of_one_picture_is_refused(call, tmp_path, pictures, network):
    make_store(tmp_path / "features.zarr", pictures=pictures)
    assert_refused(call("--network", network), 1, "features.zarr: only one real picture", "expected at least 2")
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A finished run; its store is beside it."""
    folder = tmp_path_factory.mktemp("finished")
    store = make_store(folder / "features.zarr")
    result = CliRunner().invoke(cli, ["run", *SMALL, "--store", str(store), "--run", str(folder / "mine")])
    assert result.exit_code == 0, result.output
    return folder / "mine"


def test_a_run_folder_is_not_written_over(call, finished):
    before = (finished / "last.safetensors").read_bytes()
    store = str(finished.parent / "features.zarr")
    result = call(*SMALL, "--store", store, "--run", str(finished))
    assert_refused(result, 2, f"{finished}: holds a finished run; give another --run")
    assert (finished / "last.safetensors").read_bytes() == before


def test_run_folder_in_unusable_places_is_refused(call, tmp_path):
    make_store(tmp_path / "features.zarr")
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    assert_refused(call(*SMALL, "--run", "file"), 2, "file: is a file")
    assert_refused(call(*SMALL, "--run", "file/below"), 2, "file/below: cannot be created")
    assert_refused(call(*SMALL, "--run", "full"), 2, "full: the folder is not empty")
    (tmp_path / "runs").write_text("x")
    assert_refused(call(*SMALL), 2, "runs/001-small-32px: cannot be created")


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="needs a folder that even root cannot write to")
def test_train_run_in_a_read_only_folder_is_one_line(call, tmp_path):
    make_store(tmp_path / "features.zarr")
    assert_refused(call(*SMALL, "--run", "/sys/kernel/run"), 1, "/sys/kernel/run: ", "choose another folder")


def test_resume_without_a_run_is_refused(call, tmp_path):
    assert_refused(call("--resume"), 1, "runs: no training run in it", "train run")
    assert_refused(call("--resume", "--run", "absent"), 1, "absent: no such run folder")


def test_resume_of_the_newest_run_names_an_earlier_one_that_is_unfinished(call, finished, tmp_path):
    for name in ("002-small", "001-small"):
        copy = shutil.copytree(finished, tmp_path / "runs" / name)
    (copy / "summary.json").unlink()
    settings = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps(settings | {"created": "2020-01-01T00:00:00.000000+00:00"}))
    said = call("--resume").stderr
    assert "runs/001-small: the run is unfinished" in said
    assert "`train run --resume --run runs/001-small` finishes it" in said
    assert "runs/002-small: finished already" in said


@pytest.mark.parametrize("typed", ["runs/1-small", "001-small"])
def test_missing_run_with_a_similar_name_is_asked_for(call, finished, tmp_path, typed):
    shutil.copytree(finished, tmp_path / "runs" / "001-small")
    assert_refused(call("--resume", "--run", typed), 1, f"{typed}: no such run folder; did you mean runs/001-small?")


def test_resume_with_other_settings_is_refused(call, finished):
    result = call("--resume", "--run", str(finished), "--seed", "9")
    assert_refused(result, 2, "seed 9 (the run has 0)")


def test_resume_of_a_moved_store_needs_its_new_path(call, finished):
    store = finished.parent / "features.zarr"
    moved = store.rename(store.with_name("moved.zarr"))
    try:
        assert_refused(call("--resume", "--run", str(finished)), 1, "features.zarr: no such feature store")
        assert call("--resume", "--run", str(finished), "--store", str(moved)).exit_code == 0
    finally:
        moved.rename(store)


def test_train_run_on_a_full_disk_is_one_line(call, tmp_path, monkeypatch):
    make_store(tmp_path / "features.zarr")

    def write_to_full_disk(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_to_full_disk)  # the system's part, not ours
    result = call(*SMALL, "--run", "mine")
    assert_refused_after_start(result, 1, "mine: cannot be written (no space left on device)", "--resume --run mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == [
        "data_card.json",
        "settings.json",
        "summary.json",
    ]


def test_wrong_weights_leave_no_run(call, tmp_path):
    make_store(tmp_path / "features.zarr")
    (tmp_path / "weights.pth").write_text("x")
    assert_refused(
        call(*SMALL, "--network", "resnet18", "--weights", "weights.pth"), 1, "weights.pth: cannot be read as weights"
    )
    assert_refused(call(*SMALL, "--network", "resnet18", "--weights", "absent.pth"), 1, "absent.pth: no such file")
    assert not (tmp_path / "runs").exists()


def test_a_damaged_store_names_the_row(call, tmp_path):
    path = make_store(tmp_path / "features.zarr")
    for shard in (path / "features" / "c").glob("*/0/0/0"):
        shard.write_bytes(shard.read_bytes()[:-40])
    assert_refused_after_start(call(*SMALL), 3, "features.zarr: row ", "the store is damaged")


def assert_refused_after_start(result, status: int, *texts: str) -> None:
    """As `assert_refused`, below the line that the run's start prints."""
    assert result.exit_code == status, result.output
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    for text in texts:
        assert text in last
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [["--epochs", "0"], ["--lr", "-1"], ["--network", "vgg"], ["--batch-size", "many"], ["--dropout", "1"]],
)
def test_senseless_options_are_refused(call, arguments):
    assert call(*arguments).exit_code == 2


@pytest.mark.parametrize(("samples", "text"), [(0.423, "0.42"), (2.53, "2.5"), (12.7, "13"), (16384.2, "16,384")])
def test_a_slow_training_has_a_speed_too(samples, text):
    assert format_speed(samples) == f"{text} samples a second"
