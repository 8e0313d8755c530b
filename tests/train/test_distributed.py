"""Two processes train one network on parts of each batch, and end together."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from helpers.make_store import make_store
from helpers.waiting import wait_until
from hypothesis import given
from hypothesis import strategies as st

from data_cards.core.errors import UsageError
from pipeline.store.reader import open_store
from train.cli import cli
from train.loop.signals import StopSignals
from train.loop.trainer import train
from train.model.distributed import ProcessGroup, check_settings
from train.run.experts_file import EXPERTS_FILE
from train.run.folder import folder_lock, open_run
from train.settings import TrainSettings

SMALL = ["--batch-size", "8", "--device", "cpu", "--precision", "float32", "--network", "small", "--experts", "off"]
TEAM = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WATCHED = """
import hashlib, json, os, sys
from pathlib import Path
from torch.nn.modules.module import register_module_forward_pre_hook
from train.loop.trainer import train
from train.model.normaliser import Normaliser
from train.settings import TrainSettings
file, fed = Path(sys.argv[1], os.environ.get("RANK", "alone")), []
def note_levels(module, given):
    if isinstance(module, Normaliser) and module.training:
        fed.append(given[0].long().sum(dim=(1, 2, 3)).tolist())
def note_step(record):
    digest = hashlib.sha256()
    for values in record.detector.network.parameters():
        digest.update(values.detach().numpy().tobytes())
    with open(file, "a") as lines:
        lines.write(json.dumps([record.rows.tolist(), fed.pop(), record.loss, digest.hexdigest()]) + "\\n")
register_module_forward_pre_hook(note_levels)
train(TrainSettings(**json.loads(sys.argv[2])), note_step)
"""


PRICED = """
import sys
from dataclasses import replace
from train.cli import main
from train.loop import price
measure = price.measure_step_memory
price._LIBRARIES = 0
price.measure_step_memory = lambda context: replace(
    measure(context), saved=1e8, weights=0, levels=0, inputs=0, free=450 * 10**6
)
main()
"""


@given(count=st.integers(2, 50), size=st.integers(1, 7))
def test_parts_make_up_the_batch(count, size):
    rows = np.arange(count)
    parts = [ProcessGroup(rank, size).local_part(rows) for rank in range(size)]
    assert np.concatenate(parts).tolist() == rows.tolist()
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_settings_that_a_team_cannot_have():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    check_settings(TrainSettings(batch_size=2, on_bad_sample="skip"), ProcessGroup(), cpu, 2)
    check_settings(TrainSettings(batch_size=8), ProcessGroup(0, 4), gpu, 8)
    for batch, device, least in ((15, cpu, 16), (7, gpu, 8)):
        with pytest.raises(UsageError, match=f"batch size {batch}: 4 processes share it; give at least {least}"):
            check_settings(TrainSettings(batch_size=batch), ProcessGroup(0, 4), device, 100)
    with pytest.raises(UsageError, match="on bad sample skip: one process only"):
        check_settings(TrainSettings(batch_size=32, on_bad_sample="skip"), ProcessGroup(0, 2), cpu, 100)
    with pytest.raises(UsageError, match="4 processes: expected at least 16 training samples an epoch, got 15"):
        check_settings(TrainSettings(batch_size=32), ProcessGroup(0, 4), cpu, 15)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(
        tmp_path_factory.mktemp("team") / "features.zarr",
        pictures={"train": (11, 12), "val": (4, 3)},
        variants=("clean", "jpeg-1"),
    )


def call(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["small", "radial"])
def test_two_processes_see_disjoint_parts_and_have_the_same_weights(store, tmp_path, network):
    script = tmp_path / "watch.py"
    script.write_text(WATCHED)
    settings = {"store": str(store), "epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"}
    for name, command in (("one", [sys.executable]), ("two", TEAM)):
        run = {**settings, "network": network, "run": str(tmp_path / name)}
        done = call(*command, str(script), str(tmp_path), json.dumps(run))
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 2/2") == 1
    one, first, second = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()] for name in ("alone", "0", "1")
    )
    assert len(one) == len(first) == len(second) == 6
    sums = open_store(store).features[:].astype(np.int64).sum(axis=(1, 2, 3))
    for step, (alone, (mine, levels, my_loss, weights), (theirs, others, their_loss, same)) in enumerate(
        zip(one, first, second, strict=True)
    ):
        rows, _, loss, _ = alone
        assert rows == mine == theirs
        assert levels + others == sums[rows].tolist()
        assert my_loss == their_loss
        assert weights == same
        if network == "radial":  # without batch normalisation and dropout the step is that of the whole batch
            # The first step's loss is the same; then rounding, which Adam makes more of in weights that hardly matter.
            assert my_loss == pytest.approx(loss, rel=1e-3 if step else 1e-6)
    assert len({line[3] for line in first}) == 6
    assert json.loads((tmp_path / "two" / "settings.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_ctrl_c_ends_both_after_the_same_step_and_the_run_goes_on(store, tmp_path):
    run, arguments = tmp_path / "run", ["--store", str(store), *SMALL, "--epochs", "60", "--patience", "0"]
    process = subprocess.Popen(
        [*TEAM, "-m", "--", "train", "run", *arguments, "--run", str(run)],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    wait_until((run / "history.csv").exists, "the first epoch's end", process=process)
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=120)[1]
    assert told.count(f"resume with `train run --resume --run {run}`") == 1, told
    assert 0 < len(open_run(run).history) < 60
    settings = json.loads((run / "settings.json").read_text())
    settings["train"]["epochs"] = len(open_run(run).history) + 1
    (run / "settings.json").write_text(json.dumps(settings))
    result = CliRunner().invoke(cli, ["run", "--resume", "--run", str(run)])  # by one process
    assert result.exit_code == 0, result.output


def test_a_team_whose_parent_is_gone_is_to_stop(monkeypatch):
    alone, in_group = StopSignals(), StopSignals(in_group=True)
    assert in_group.received is None
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert in_group.received == signal.SIGTERM
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
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        wait_until((run / "history.csv").exists, "the first epoch's end", process=process)
        process.kill()
        told = process.communicate(timeout=120)[1]  # until both have closed it
    finally:
        for file in pids.iterdir():
            with suppress(ProcessLookupError):
                os.kill(int(file.name), signal.SIGKILL)
    assert told.count(f"resume with `train run --resume --run {run}`") == 1, told
    with folder_lock(run):
        assert torch.load(run / "state.pt", weights_only=True)["position"]["ended"] == ""


class TwoNodes:
    """Two torchruns of one process each, as on two machines; `run` waits for both and returns what each printed."""

    def __init__(self, *folders: Path):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        options = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
        self._commands = [
            [sys.executable, "-m", "torch.distributed.run", *options, "--node-rank", str(rank), "-m", "--", "train"]
            for rank in (0, 1)
        ]
        self._folders = folders
        self._environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def start(self, *arguments: str) -> list[subprocess.Popen]:
        return [
            subprocess.Popen(
                [*command, "run", *arguments],
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=folder, env=self._environment,
            )
            for command, folder in zip(self._commands, self._folders, strict=True)
        ]  # fmt: skip

    def run(self, *arguments: str) -> list[str]:
        started = self.start(*arguments)
        try:
            return [node.communicate(timeout=300)[1] for node in started]
        finally:
            for node in started:
                node.kill()  # nothing, unless the other one did not end


@pytest.mark.slow
def test_two_nodes_of_which_one_is_killed_resume_to_the_weights_of_one_node(store, tmp_path):
    arguments = ["--store", str(store), *SMALL, "--epochs", "12", "--patience", "0"]
    done = call(*TEAM, "-m", "--", "train", "run", *arguments, "--run", str(tmp_path / "one"))
    assert done.returncode == 0, done.stderr
    nodes, run = TwoNodes(tmp_path, tmp_path), tmp_path / "two"
    started = nodes.start(*arguments, "--run", str(run))
    wait_until((run / "history.csv").exists, "the first epoch's end", process=started[0])
    for process in psutil.Process(started[1].pid).children(recursive=True):
        process.kill()
    assert "another process of this run has ended" in started[0].communicate(timeout=120)[1]
    started[1].communicate(timeout=120)
    assert len(open_run(run).history) < 12
    told, _ = nodes.run("--resume", "--run", str(run))
    assert "epoch 12/12" in told
    assert (run / "last.safetensors").read_bytes() == (tmp_path / "one/last.safetensors").read_bytes()


@pytest.mark.slow
def test_memory_of_a_step_is_that_of_the_part_of_one_process(store, tmp_path):
    (tmp_path / "priced.py").write_text(PRICED)  # 120 MB a sample
    arguments = ["--store", str(store), *SMALL, "--epochs", "1", "--run", str(tmp_path / "run")]
    done = call(*TEAM, "--", str(tmp_path / "priced.py"), "run", *arguments)
    assert done.returncode == 0, done.stderr
    assert "a step of 8 samples may take 480.0 MB of memory, and 450.0 MB are free" in done.stderr


@pytest.mark.slow
def test_two_processes_resume_experts(store, tmp_path):
    run, team = tmp_path / "run", [*TEAM, "-m", "--", "train", "run"]
    train(TrainSettings(store=str(store), run=str(run), network="none"))
    wanted = (run / EXPERTS_FILE).read_bytes()
    for name in (EXPERTS_FILE, "summary.json"):  # as after a kill
        (run / name).unlink()
    done = call(*team, "--resume", "--run", str(run))
    assert (done.returncode, done.stdout.count("fitted in")) == (0, 1), done.stderr
    assert "finished already" not in done.stderr  # as the second process of two that fit would print
    assert (run / EXPERTS_FILE).read_bytes() == wanted
    assert call(*team, "--resume", "--run", str(run), "--epochs", "2").stderr.count("which have no epochs") == 1


@pytest.mark.slow
@pytest.mark.parametrize("options", [[*SMALL, "--epochs", "1"], ["--network", "none"]], ids=["network", "experts"])
def test_a_node_that_lacks_the_run_folder_ends_both(store, tmp_path, options):
    folders = tmp_path / "has", tmp_path / "lacks"
    for folder in folders:
        folder.mkdir()
    nodes = TwoNodes(*folders)
    nodes.run("--store", str(store), *options, "--run", "mine")
    told, _ = nodes.run("--resume", "--run", "mine")
    assert f"error: on {socket.gethostname()}: mine: no such run folder" in told


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
