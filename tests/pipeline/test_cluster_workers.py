"""Workers of a cluster that can build no shard: they are named, and get none."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers.folders import assert_same_files
from helpers.waiting import wait_until

from data_cards.core.errors import UserError
from data_cards.dataset.scan import scan_sources
from pipeline.builder.build import build_store
from pipeline.builder.plan import plan_build
from pipeline.builder.shard_task import create_check
from pipeline.execution import cluster as cluster_module
from pipeline.execution.cluster import local_cluster
from pipeline.execution.tasks import run_tasks
from pipeline.execution.workers import UnsuitableWorkerError
from pipeline.features.settings import FeatureSettings
from pipeline.store.filesystem import Storage
from pipeline.store.settings import BuildSettings

ROOT = Path(__file__).parents[2]
SETTINGS = BuildSettings(FeatureSettings(size=16), variants="clean", val_fraction=0.25)
OTHER_LIBRARY = 'import scipy; scipy.__version__ = "0.1"'
NO_PROGRAM = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline":
            raise ModuleNotFoundError("No module named 'pipeline'")
sys.meta_path.insert(0, Missing())
"""


def accept_first(folder):
    """Accept only the worker that is checked first."""
    try:
        os.symlink(str(os.getpid()), folder / "first")
    except FileExistsError:
        if os.readlink(folder / "first") != str(os.getpid()):
            raise UnsuitableWorkerError("it came late") from None


def refuse():
    raise UnsuitableWorkerError("it is tired")


def find_process(task):
    return os.getpid()


@pytest.fixture
def start_worker(tmp_path):
    """Start a worker, a real process in a folder of its own, whose Python first runs some code."""
    processes = []

    def start(cluster, code):
        folder = tmp_path / "worker"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        command = ["distributed.cli.dask_worker", cluster.scheduler_address, "--nthreads", "1", "--no-nanny"]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", *command, "--no-dashboard"],
                env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
                cwd=folder,
                stderr=subprocess.DEVNULL,
            )
        )
        before = len(cluster.scheduler.workers)
        wait_until(lambda: len(cluster.scheduler.workers) > before, "the worker")

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_run_tasks_gives_no_task_to_an_unsuitable_worker(tmp_path, capsys):
    said = ""

    def tasks():
        """Yield tasks until the other worker was named, and some more."""
        nonlocal said
        deadline, number, more = time.monotonic() + 60, 0, 12
        while more and time.monotonic() < deadline:
            said += capsys.readouterr().err
            more -= "gets no shards" in said
            number += 1
            yield number

    with local_cluster(2) as cluster:
        options = {"workers": 0, "scheduler": cluster.scheduler_address, "check": partial(accept_first, tmp_path)}
        results = dict(run_tasks(find_process, tasks(), **options))
        assert set(results.values()) == {int(os.readlink(tmp_path / "first"))}
        assert set(results) == set(range(1, len(results) + 1))
        assert said.count("gets no shards: it came late") == 1
        assert "warning: worker tcp://127.0.0.1:" in said
        with pytest.raises(UserError, match=r"worker tcp://.*: it is tired\n.*: no worker can build; run the same"):
            list(run_tasks(find_process, range(2), workers=0, scheduler=cluster.scheduler_address, check=refuse))


def test_run_tasks_gives_no_result_of_an_unsuitable_worker_that_joins(tmp_path):
    with local_cluster(1) as cluster:

        def tasks():
            for number in range(40):
                if number == 4:
                    cluster.scale(2)
                if number == 20:
                    wait_until(lambda: len(cluster.scheduler.workers) == 2, "the second worker")
                yield number

        options = {"workers": 0, "scheduler": cluster.scheduler_address, "check": partial(accept_first, tmp_path)}
        results = dict(run_tasks(find_process, tasks(), **options))
    assert set(results) == set(range(40))
    assert set(results.values()) == {int(os.readlink(tmp_path / "first"))}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (OTHER_LIBRARY, r"it has scipy 0\.1, expected .*; install the same versions there"),
        (NO_PROGRAM, r"it cannot run this program \(No module named 'pipeline'\); install it"),
    ],
    ids=["other library", "no program"],
)
def test_a_cluster_of_an_unsuitable_worker_is_refused(code, reason, start_worker, kaggle_dir, tmp_path):
    with local_cluster(0) as cluster:
        start_worker(cluster, code)
        with pytest.raises(UserError, match=rf"^worker tcp://\S+: {reason}.*\n.*no worker can build"):
            build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, scheduler=cluster.scheduler_address)


def test_a_build_beside_an_unsuitable_worker_makes_the_same_bytes(start_worker, kaggle_dir, tmp_path):
    build_store([str(kaggle_dir)], tmp_path / "here.zarr", SETTINGS, workers=0)
    with local_cluster(1) as cluster:
        start_worker(cluster, OTHER_LIBRARY)
        build_store([str(kaggle_dir)], tmp_path / "there.zarr", SETTINGS, scheduler=cluster.scheduler_address)
    assert_same_files(tmp_path / "there.zarr", tmp_path / "here.zarr")


def test_a_worker_in_another_folder_builds_a_store_with_a_relative_path(
    start_worker, kaggle_dir, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with local_cluster(0) as cluster:
        start_worker(cluster, "")
        build_store([str(kaggle_dir)], "a.zarr", SETTINGS, scheduler=cluster.scheduler_address)
    assert (tmp_path / "a.zarr").exists()


def test_create_check_of_a_worker_that_does_not_reach_the_files_raises(kaggle_dir, tmp_path):
    moved = tmp_path / "set"
    os.symlink(kaggle_dir, moved)
    plan = plan_build(scan_sources([str(moved)], max_pixels=10**8), SETTINGS)
    storage = Storage(tmp_path / "a.zarr.partial")
    storage.create_folder()
    check = create_check(plan, storage, range(plan.shards))
    check()
    moved.unlink()
    with pytest.raises(UnsuitableWorkerError, match=r"it does not reach .*set; make it available there at the same"):
        check()
    os.symlink(kaggle_dir, moved)
    os.rmdir(tmp_path / "a.zarr.partial")
    with pytest.raises(UnsuitableWorkerError, match=r"it does not reach .*a\.zarr\.partial"):
        check()


def test_a_build_says_that_it_waits_for_the_first_worker(kaggle_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cluster_module, "FIRST_WORKER_SECONDS", 1)
    with local_cluster(0) as cluster:
        address = cluster.scheduler_address
        with pytest.raises(UserError, match="the scheduler has no workers; start some with `dask worker`"):
            build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, scheduler=address)
    assert f"waiting up to 1 seconds for the first worker of {address}; start one with" in capsys.readouterr().err
