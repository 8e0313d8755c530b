"""Two processes take the steps that one takes of the whole batch, and end together."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.make_store import make_store
from helpers.waiting import wait_until
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import distributed, nn

from data_cards.errors import UsageError
from train.cli import cli
from train.run_folder import hold_folder, open_run
from train.settings import TrainSettings
from train.stopping import StopSignals
from train.team import Team, check_settings, see_whole_batch

SMALL = ["--batch-size", "8", "--device", "cpu", "--precision", "float32", "--network", "small"]
TEAM = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WATCHED = """
import json, sys
from pathlib import Path
from train import steps
from train.cli import main
take_step, folder = steps.take_step, Path(sys.argv.pop(1))
def watch(training, levels, rows, step):
    team, sums = training.team, take_step(training, levels, rows, step)
    with open(folder / f"{team.rank}-of-{team.size}", "a") as file:
        line = [step, team.part(rows).tolist(), levels.float().mean(dim=(1, 2, 3)).tolist(), float(sums[0])]
        file.write(json.dumps(line) + "\\n")
    return sums
steps.take_step = watch
main()
"""


@given(count=st.integers(2, 50), size=st.integers(1, 7))
def test_parts_make_up_the_batch(count, size):
    rows = np.arange(count)
    parts = [Team(rank, size).part(rows) for rank in range(size)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_settings_that_a_team_cannot_have():
    check_settings(TrainSettings(batch_size=2, on_bad_sample="skip"), Team())
    with pytest.raises(UsageError, match="batch size 7: 4 processes share it; give at least 8"):
        check_settings(TrainSettings(batch_size=7), Team(0, 4))
    with pytest.raises(UsageError, match="on bad sample skip: one process only"):
        check_settings(TrainSettings(on_bad_sample="skip"), Team(0, 2))


@pytest.fixture
def process_group():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_batch_normalisation_of_a_team_is_pytorchs_own(process_group, dtype, atol):
    values = (torch.randn(6, 3, 20, 20) * 5 + 40).to(dtype)
    weights, results = torch.randn(values.shape), []
    for network in (nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))):
        if results:
            see_whole_batch(network, Team(), torch.device("cpu"))
        given = values.clone().requires_grad_()
        made = network(given)
        (made * weights).sum().backward()
        results.append((made, given.grad, *network.buffers(), *(one.grad for one in network.parameters())))
    for own, wanted in zip(results[1], results[0], strict=True):
        assert own.dtype == wanted.dtype
        torch.testing.assert_close(own, wanted, rtol=atol, atol=atol)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(
        tmp_path_factory.mktemp("team") / "features.zarr",
        pictures={"train": (11, 12), "val": (4, 3)},
        variants=("clean", "jpeg-1"),
    )


def call(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], timeout=300)


@pytest.mark.slow
def test_two_processes_train_as_one(store, tmp_path):
    script = tmp_path / "watch.py"
    script.write_text(WATCHED)
    arguments = [str(tmp_path), "run", "--store", str(store), *SMALL, "--epochs", "2"]
    for name, command in (("one", [sys.executable]), ("two", [*TEAM, "--"])):
        done = call(*command, str(script), *arguments, "--run", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("kept epoch") == done.stderr.count("epoch 2/2") == 1
    one, first, second = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("0-of-1", "0-of-2", "1-of-2")
    )
    assert len(one) == len(first) == len(second) == 6
    for (step, rows, levels, loss), (_, *mine), (_, *theirs) in zip(one, first, second, strict=True):
        assert rows == mine[0] + theirs[0], step
        np.testing.assert_allclose(levels, mine[1] + theirs[1], rtol=1e-6)
        # The first step's loss is the same; then rounding, which Adam makes more of in weights that hardly matter.
        assert mine[2] == theirs[2] == pytest.approx(loss, rel=1e-6 if step == 0 else 1e-3)
    weights = [load_file(tmp_path / name / "last.safetensors") for name in ("one", "two")]
    for name, values in weights[0].items():
        np.testing.assert_allclose(values.numpy(), weights[1][name].numpy(), atol=3e-3, err_msg=name)
        difference = np.abs(values.numpy().astype(np.float64) - weights[1][name].numpy()).mean()
        assert difference < 1e-4, name
    histories = [open_run(tmp_path / name).history for name in ("one", "two")]
    for row, other in zip(*histories, strict=True):
        assert row["val_loss"] == pytest.approx(other["val_loss"], rel=1e-3)
        assert row["train_accuracy"] == other["train_accuracy"]
    assert json.loads((tmp_path / "two" / "settings.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_two_processes_in_bf16(store, tmp_path):
    arguments = ["run", "--store", str(store), *SMALL, "--precision", "bf16", "--epochs", "2"]
    for name, command in (("one", [sys.executable, "-m"]), ("two", [*TEAM, "-m", "--"])):
        done = call(*command, "train", *arguments, "--run", str(tmp_path / name))
        assert done.returncode == 0, done.stderr
    for row, other in zip(*(open_run(tmp_path / name).history for name in ("one", "two")), strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=0.02)


@pytest.mark.slow
def test_ctrl_c_ends_both_after_the_same_step_and_the_run_goes_on(store, tmp_path):
    run, arguments = tmp_path / "run", ["--store", str(store), *SMALL, "--epochs", "60", "--patience", "0"]
    process = subprocess.Popen(
        [*TEAM, "-m", "--", "train", "run", *arguments, "--run", str(run)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    wait_until((run / "history.csv").exists, "the first epoch's end", process=process)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    assert told.count(f"go on with `train run --resume --run {run}`") == 1, told
    assert 0 < len(open_run(run).history) < 60
    settings = json.loads((run / "settings.json").read_text())
    settings["train"]["epochs"] = len(open_run(run).history) + 1
    (run / "settings.json").write_text(json.dumps(settings))
    result = CliRunner().invoke(cli, ["run", "--resume", "--run", str(run)])  # by one process
    assert result.exit_code == 0, result.output


def test_a_team_whose_parent_is_gone_is_to_stop(monkeypatch):
    alone, in_team = StopSignals(), StopSignals(in_team=True)
    assert in_team.received is None
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert in_team.received == signal.SIGTERM
    assert alone.received is None  # a shell may well end before what it has started


@pytest.mark.slow
def test_processes_whose_torchrun_is_killed_save_and_end(store, tmp_path):
    run, script, pids = tmp_path / "run", tmp_path / "noted.py", tmp_path / "pids"
    pids.mkdir()
    script.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "Path(sys.argv.pop(1), str(os.getpid())).touch()\nfrom train.cli import main\nmain()\n"
    )
    arguments = ["--store", str(store), *SMALL, "--epochs", "10000", "--patience", "0", "--run", str(run)]
    process = subprocess.Popen(
        [*TEAM, "--", str(script), str(pids), "run", *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    try:
        wait_until((run / "history.csv").exists, "the first epoch's end", process=process)
        process.kill()
        told = process.communicate(timeout=120)[1]  # until both have closed it
    finally:
        for file in pids.iterdir():
            with suppress(ProcessLookupError):
                os.kill(int(file.name), signal.SIGKILL)
    assert told.count(f"go on with `train run --resume --run {run}`") == 1, told
    with hold_folder(run):
        assert torch.load(run / "state.pt", weights_only=True)["position"]["ended"] == ""


@pytest.mark.slow
def test_an_error_of_one_process_ends_both(tmp_path):
    path = make_store(tmp_path / "features.zarr")
    shard = path / "features" / "c" / "1" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    index = np.frombuffer(bytes(data[-4 - 16 * 24 : -4]), "<u8").reshape(8, 3, 2)
    offset, length = index[1, 0].tolist()
    data[offset : offset + length] = bytes(length)
    shard.write_bytes(data)
    done = call(*TEAM, "-m", "--", "train", "run", "--store", str(path), *SMALL, "--run", str(tmp_path / "run"))
    assert done.returncode != 0
    assert done.stderr.count("row 9 (train/real/source-1/009.jpg) cannot be read") == 1
    done = call(*TEAM, "-m", "--", "train", "run", "--store", str(tmp_path / "absent.zarr"))
    assert done.stderr.count("absent.zarr: no such feature store") == 1
