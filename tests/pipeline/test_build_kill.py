"""`pipeline build` under SIGKILL: resumed builds end in the bytes of one that was never killed."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.folders import assert_same_files
from helpers.pictures import make_kaggle_dir
from helpers.stepping import run_until_step
from helpers.waiting import wait_until

from data_cards.core.errors import StoreError, UserError
from data_cards.dataset.scan import scan_sources
from pipeline.builder.plan import plan_build
from pipeline.builder.shard_task import build_shard, create_task
from pipeline.cli.main import main
from pipeline.features.settings import FeatureSettings
from pipeline.store.filesystem import Storage
from pipeline.store.lock import writer_lock
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings

OPTIONS = ["--size", "64", "--val-fraction", "0.2", "--json"]


def build_command(source: Path, out: Path, *options: str) -> list[str]:
    return ["pipeline", "build", "--src", str(source), "--out", str(out), *OPTIONS, *options]


def start_build(source: Path, out: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", *build_command(source, out, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own, so that nothing of a killed build outlives it unseen.
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen) -> dict:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(output)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """192 pictures, 768 samples in 4 shards."""
    return make_kaggle_dir(tmp_path_factory.mktemp("set") / "kaggle", per_source=24)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory) -> tuple[Path, float]:
    """A store that was never killed, and the seconds that it took."""
    out = tmp_path_factory.mktemp("whole") / "features.zarr"
    began = time.monotonic()
    finish(start_build(source, out, "--workers", "0"))
    return out, time.monotonic() - began


def kill_until_done(source, out, seconds, kills, seed, *options):
    """Kill builds after random times, `kills` in all; return the summary of a last build, which is not killed."""
    moments = random.Random(seed)
    killed = 0
    while killed < kills:
        process = start_build(source, out, *options)
        try:
            process.wait(timeout=moments.uniform(0.3, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.communicate()
        if out.exists():
            # A store under its final name is complete, or the error says that it is not.
            try:
                open_store(out)
            except StoreError as error:
                assert "is not finished" in str(error)  # noqa: PT017
            else:
                os.rename(out, out.with_name(f"done-{process.pid}.zarr"))
                seconds *= 0.8  # the build finished too early: kill the next one sooner
    return finish(start_build(source, out, *options))


def kill_at_steps(source, out, kills, seed, before=None):
    """Kill builds at random steps; start again, with the store `before`, if a build finished before its step."""
    steps, killed = random.Random(seed), 0
    for attempt in range(6 * kills):
        if killed == kills:
            break
        if run_until_step(out, steps.randint(1, 150), build_command(source, out, "--workers", "0")):
            killed += 1
        else:
            open_store(out)
            os.rename(out, out.with_name(f"done-{attempt}.zarr"))
            if before:
                shutil.copytree(before, out)
    assert killed == kills
    finish(start_build(source, out, "--workers", "0"))


@pytest.mark.slow
def test_build_killed_at_any_step_ends_in_the_same_bytes(source, whole, tmp_path):
    out = tmp_path / "features.zarr"
    kill_at_steps(source, out, 12, seed=1)
    for done in (out, *tmp_path.glob("done-*.zarr")):
        assert_same_files(done, whole[0])
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_build_with_workers_killed_at_any_moment_ends_in_the_same_bytes(source, whole, tmp_path):
    out = tmp_path / "features.zarr"
    kill_until_done(source, out, whole[1], 10, 2, "--workers", "2")
    for done in (out, *tmp_path.glob("done-*.zarr")):
        assert_same_files(done, whole[0])
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.slow
def test_growth_killed_at_any_step_ends_in_the_same_bytes(tmp_path):
    """Samples of the store are never lost."""
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=12)
    before, never, killed = (tmp_path / name for name in ("before.zarr", "never.zarr", "killed.zarr"))
    finish(start_build(source, before, "--workers", "0"))
    for out in (never, killed):
        shutil.copytree(before, out)
    more = make_kaggle_dir(tmp_path / "more", per_source=8, first_seed=1000)
    finish(start_build(more, never, "--workers", "0"))
    kill_at_steps(more, killed, 8, seed=3, before=before)
    for done in (killed, *tmp_path.glob("done-*.zarr")):
        assert_same_files(done, never)


def test_build_after_a_kill_keeps_finished_shards(kaggle_dir, tmp_path):
    options = ["--size", "512", "--variants", "clean", "--workers", "0"]  # 32 samples in 2 shards
    out, whole = tmp_path / "features.zarr", tmp_path / "whole.zarr"
    done = Path(f"{out}.partial/build/done")
    # Step 1 is to remove what may be left of the second shard's record, step 2 to write it.
    assert run_until_step(done / "00000001", 2, build_command(kaggle_dir, out, *options))
    assert len(list(done.glob("*.json"))) == 1
    for place, kept in ((out, 1), (whole, 0)):
        result = CliRunner().invoke(main, build_command(kaggle_dir, place, *options)[1:])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["shards_kept"] == kept
    assert_same_files(out, whole)


@pytest.mark.skipif(os.name == "nt", reason="SIGTERM cannot be handled there")
@pytest.mark.parametrize("workers", [0, 1])
def test_build_that_is_terminated_says_what_is_kept(workers, source, tmp_path):
    out = tmp_path / "features.zarr"
    process = start_build(source, out, "--workers", str(workers))
    wait_until(lambda: any(Path(f"{out}.partial/build/done").glob("*.json")), "the first shard", process=process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)  # as `timeout` does
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.splitlines()[-2:] == [
        "stopping; finished shards are kept",
        "error: stopped; run the same command again",
    ]


def test_worker_that_outlives_its_build_creates_no_folder(kaggle_dir, tmp_path):
    plan = plan_build(scan_sources([str(kaggle_dir)], max_pixels=10**8), BuildSettings(FeatureSettings(size=1024)))
    partial = tmp_path / "features.zarr.partial"
    with pytest.raises(UserError, match=r"features\.zarr\.partial: was removed or renamed"):
        build_shard(create_task(plan, Storage(partial), 0))
    assert not partial.exists()


def test_build_in_a_locked_folder_is_refused(kaggle_dir, tmp_path):
    out = tmp_path / "features.zarr"
    (kaggle_dir / "notes.txt").touch()  # a scan names it
    command = build_command(kaggle_dir, out, "--size", "16", "--variants", "clean", "--workers", "0")[1:]
    holder = (
        f"process {os.getpid()} on {socket.gethostname()}, started 20" if sys.platform == "linux" else "its process"
    )
    with writer_lock(Storage(f"{out}.partial")):
        second = CliRunner().invoke(main, command)
        reader = CliRunner().invoke(main, ["verify", str(out)])
    assert second.exit_code == 1
    assert f"another build is writing there ({holder}" in second.stderr
    assert "notes.txt" not in second.stderr
    assert reader.exit_code == 3
    assert f"{out}: the build is not finished; it is running ({holder}" in reader.stderr
    card = CliRunner().invoke(main, ["card", str(out)])
    assert "the build is not finished; no process" in card.stderr
    dead = CliRunner().invoke(main, ["verify", str(out)])
    assert f"{out}: the build is not finished; no process of this computer is building it (last change" in dead.stderr
    assert "if no other computer is, run the same `pipeline build` again to resume it" in dead.stderr
    assert CliRunner().invoke(main, command).exit_code == 0
