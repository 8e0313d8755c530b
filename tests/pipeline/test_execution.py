"""`run_tasks`: retries, killed workers, memory limits, and errors that end a run."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from distributed import Client
from helpers.folders import assert_same_files
from helpers.pictures import make_kaggle_dir
from helpers.waiting import wait_until

from data_cards.core.errors import UserError
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import build_shard
from pipeline.execution import cluster as cluster_module
from pipeline.execution import workers as workers_module
from pipeline.execution.cluster import WorkerDiedError, local_cluster, run_on_cluster
from pipeline.execution.tasks import ATTEMPTS, _accept, run_tasks
from pipeline.execution.workers import CheckedWorkers
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings

SETTINGS = BuildSettings(FeatureSettings(size=16), val_fraction=0.25)


def count_attempt(task: tuple[Path, int]) -> int:
    """Note that a task was tried; returns how often now."""
    folder, number = task
    attempt = len(list(folder.glob(f"{number}-*"))) + 1
    (folder / f"{number}-{attempt}").touch()
    return attempt


def fail_at_first(task):
    if count_attempt(task) < ATTEMPTS and task[1] == 1:
        raise RuntimeError("the first attempts fail")
    return task[1] * 10


def fail_always(task):
    count_attempt(task)
    if task[1] == 1:
        raise RuntimeError("this one always fails")
    return task[1] * 10


def die_at_first(task):
    if count_attempt(task) == 1 and task[1] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task[1] * 10


def die_always(task):
    os.kill(os.getpid(), signal.SIGKILL)


def die_beside_waiting(task):
    """Task 1 kills its worker, when it has noted how many others wait there."""
    from distributed import get_worker

    folder, number = task
    if number == 1:
        attempt = count_attempt(task)
        # One is sure to come at first, and none may come later: of that one can only wait for a while.
        deadline, waiting = time.monotonic() + (20 if attempt == 1 else 0.5), []
        while not waiting and time.monotonic() < deadline:
            time.sleep(0.02)
            waiting = [one for one in list(get_worker().state.tasks.values()) if one.state == "ready"]
        (folder / f"waiting-{attempt}").write_text(str(len(waiting)))
        os.kill(os.getpid(), signal.SIGKILL)
    return number * 10


def swallow_memory_at_first(task):
    if count_attempt(task) == 1 and task[1] == 1:
        hoard = []
        for _ in range(100):
            hoard.append(bytearray(b"x") * 50_000_000)
            time.sleep(0.05)
    return task[1] * 10


def meet(task):
    """Whether the tasks 0 and 1 run at the same time."""
    folder, number = task
    (folder / str(number)).touch()
    deadline = time.monotonic() + 20
    while not (folder / "0").exists() or not (folder / "1").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def begin(task):
    folder, number = task
    (folder / f"begun-{number}").touch()
    return number


def wait_for_the_next(task, result):
    """Whether the next of two tasks begins while this one waits."""
    folder, number = task
    deadline = time.monotonic() + 20
    while number == 0 and not (folder / "begun-1").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return number == result


def fail_at_first_to_end(task, result):
    if count_attempt(task) < ATTEMPTS and task[1] == 1:
        raise RuntimeError("the first attempts fail")
    return result * 10


def end_on_a_user_error(task, result):
    if task[1] == 1:
        raise UserError("not to be tried again")
    return result * 10


def end_on_a_full_disk(task, result):
    fill_the_disk(task)


def give_up(task):
    count_attempt(task)
    raise UserError(f"picture {task[1]} is gone")


def fill_the_disk(task):
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def finish_at_once(task, result):
    return result


@pytest.fixture(scope="module")
def scheduler():
    """The address of a scheduler with two workers, for the tests that leave them whole."""
    with local_cluster(2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(params=["here", "workers"])
def place(request) -> dict:
    """Options of `run_tasks`: where the tasks run."""
    return {"workers": 0, "scheduler": request.getfixturevalue("scheduler") if request.param == "workers" else None}


def run(function, tmp_path, count=4, finish=finish_at_once, **options):
    tasks = ((tmp_path, number) for number in range(count))
    return {task[1]: result for task, result in run_tasks(function, tasks, finish, **options)}


def test_run_tasks_retries_failures(tmp_path, place):
    assert run(fail_at_first, tmp_path, **place) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert len(list(tmp_path.glob("1-*"))) == ATTEMPTS


def test_run_tasks_gives_up_a_task_after_its_attempts(tmp_path, place):
    results = run(fail_always, tmp_path, **place)
    assert isinstance(results.pop(1), RuntimeError)
    assert results == {0: 0, 2: 20, 3: 30}
    assert len(list(tmp_path.glob("1-*"))) == ATTEMPTS


def test_run_tasks_replaces_a_killed_worker(tmp_path):
    assert run(die_at_first, tmp_path, workers=2) == {0: 0, 1: 10, 2: 20, 3: 30}


@pytest.mark.slow
def test_run_tasks_finishes_a_task_queued_on_a_killed_worker(tmp_path):
    """Were it tried again behind the same one, it would be given up with it."""
    results = run(die_beside_waiting, tmp_path, workers=1)
    assert isinstance(results.pop(1), WorkerDiedError)
    assert results == {0: 0, 2: 20, 3: 30}
    assert [(tmp_path / f"waiting-{attempt}").read_text() for attempt in (1, 2, 3)] == ["1", "0", "0"]


@pytest.mark.slow
def test_run_tasks_replaces_a_worker_above_its_memory(tmp_path):
    assert run(swallow_memory_at_first, tmp_path, workers=2, max_memory=1_400_000_000) == {0: 0, 1: 10, 2: 20, 3: 30}
    assert len(list(tmp_path.glob("1-*"))) == 2


def test_run_tasks_does_not_retry_user_errors(tmp_path, place):
    results = run(give_up, tmp_path, count=2, **place)
    assert [str(results[number]) for number in range(2)] == ["picture 0 is gone", "picture 1 is gone"]
    assert len(list(tmp_path.glob("0-*"))) == 1


def test_run_tasks_on_a_full_disk_raises_at_once(tmp_path, place):
    with pytest.raises(OSError, match="No space left"):
        run(fill_the_disk, tmp_path, **place)


def test_run_tasks_finishes_a_task_beside_the_next(tmp_path, place):
    assert run(begin, tmp_path, 2, wait_for_the_next, **place) == {0: True, 1: True}


def test_run_tasks_retries_failures_of_finish(tmp_path, place):
    assert run(begin, tmp_path, 3, fail_at_first_to_end, **place) == {0: 0, 1: 10, 2: 20}
    results = run(begin, tmp_path, 3, end_on_a_user_error, **place)
    assert str(results.pop(1)) == "not to be tried again"
    assert results == {0: 0, 2: 20}
    with pytest.raises(OSError, match="No space left"):
        run(begin, tmp_path, 2, end_on_a_full_disk, **place)


def test_run_tasks_bounds_tasks_in_flight(tmp_path, scheduler):
    taken = []

    def tasks():
        for number in range(12):
            taken.append(number)
            yield (tmp_path, number)

    for done, _ in enumerate(run_tasks(fail_always, tasks(), workers=0, scheduler=scheduler), start=1):
        assert len(taken) <= done + 2 * 2  # one that runs and one that waits at each


@pytest.mark.slow
def test_run_tasks_gives_tasks_to_joining_workers(tmp_path):
    with local_cluster(1) as cluster:

        def tasks():
            cluster.scale(2)
            yield from ((tmp_path, number) for number in range(2))

        results = dict(run_tasks(meet, tasks(), workers=0, scheduler=cluster.scheduler_address))
    assert list(results.values()) == [True, True]


@pytest.mark.slow
def test_run_tasks_warns_once_when_all_workers_left(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers_module, "ABSENCE_SECONDS", 1.0)
    said = ""
    with local_cluster(1) as cluster:

        def tasks():
            cluster.scale(0)
            wait_until(lambda: not cluster.scheduler.workers, "the workers' end")
            yield tmp_path, 0

        def come_back():
            nonlocal said
            deadline = time.monotonic() + 20
            while "no workers are left" not in said and time.monotonic() < deadline:
                said += capsys.readouterr().err
                time.sleep(0.1)
            cluster.scale(1)

        watcher = threading.Thread(target=come_back)
        watcher.start()
        results = dict(run_tasks(fail_at_first, tasks(), workers=0, scheduler=cluster.scheduler_address))
        watcher.join()
    assert list(results.values()) == [0]
    assert said.count(f"warning: {cluster.scheduler_address}: no workers are left") == 1


@pytest.mark.slow
def test_run_on_cluster_queues_no_task_for_workers_that_left(tmp_path):
    taken = []

    def tasks():
        for number in range(16):
            taken.append(number)
            yield (tmp_path, number)

    with local_cluster(3) as cluster, Client(cluster, set_as_default=False) as client:
        workers = CheckedWorkers(client, _accept)
        for done, _ in enumerate(run_on_cluster(workers, fail_always, finish_at_once, tasks(), ahead=True), start=1):
            if done == 3:
                cluster.scale(1)
                wait_until(lambda: len(cluster.scheduler.workers) <= 1, "the workers' end")
            if done > 9:  # those that were in flight
                assert len(taken) <= done + 2


def test_build_names_pictures_of_a_failing_shard(kaggle_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 16)

    def fail(task):
        if task.shard == 2:
            raise RuntimeError("cosmic ray")
        return build_shard(task)

    with pytest.raises(UserError, match=r"shard 2 failed 3 times \(RuntimeError: cosmic ray\).*kaggle/train"):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0, shard_function=fail)
    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0)
    assert (summary.made, summary.kept) == (1, 7)


def test_build_names_pictures_of_a_shard_that_kills_workers(kaggle_dir, tmp_path):
    with pytest.raises(
        UserError,
        match=r"shard 0 failed 3 times \(its worker was killed.*--max-memory or use fewer --work.*kaggle/train",
    ):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=1, shard_function=die_always)


@pytest.fixture
def cluster():
    """A scheduler and two workers of one thread, real processes; yields the address, the workers and the scheduler."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], env=environment, stderr=subprocess.PIPE, start_new_session=True
        )

    scheduler = start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
    for line in scheduler.stderr:
        if b"tcp://127.0.0.1" in line:
            address = "tcp://127.0.0.1:" + line.rsplit(b":", 1)[1].split()[0].decode()
            break
    workers = [
        start("distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        for _ in range(2)
    ]
    yield address, workers, scheduler
    for process in [*workers, scheduler]:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_cluster_with_a_killed_worker_makes_the_same_bytes(cluster, tmp_path):
    address, workers, _ = cluster
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=48)
    settings = BuildSettings(FeatureSettings(size=64))
    build_store([str(source)], tmp_path / "here.zarr", settings, workers=0)
    command = [
        sys.executable, "-m", "pipeline", "build", "--src", str(source), "--out", str(tmp_path / "there.zarr"),
        "--size", "64", "--scheduler", address,
    ]  # fmt: skip
    build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    records = tmp_path / "there.zarr.partial/build/done"
    wait_until(lambda: any(records.glob("*.json")), "the first shard", process=build)
    os.kill(workers[0].pid, signal.SIGKILL)
    _, errors = build.communicate(timeout=300)
    assert build.returncode == 0, errors
    assert not psutil.pid_exists(workers[0].pid) or workers[0].poll() is not None
    assert_same_files(tmp_path / "there.zarr", tmp_path / "here.zarr")
    open_store(tmp_path / "there.zarr")


@pytest.mark.slow
def test_a_scheduler_that_dies_ends_the_build_in_a_line(cluster, tmp_path):
    address, _, scheduler = cluster
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=64)
    command = [
        sys.executable, "-m", "pipeline", "build", "--src", str(source), "--out", str(tmp_path / "a.zarr"),
        "--size", "64", "--scheduler", address,
    ]  # fmt: skip
    build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    records = tmp_path / "a.zarr.partial/build/done"
    wait_until(lambda: any(records.glob("*.json")), "the first shard", process=build)
    scheduler.kill()
    _, errors = build.communicate(timeout=120)
    assert build.returncode == 1, errors
    assert errors.splitlines()[-1].startswith("error: the Dask scheduler no longer answers; finished shards are kept")
    assert "Traceback" not in errors


def test_run_on_cluster_without_its_scheduler_raises(tmp_path):
    with local_cluster(1) as cluster, Client(cluster, set_as_default=False) as client:
        tasks = ((tmp_path, number) for number in range(1) if client.close() is None)
        with pytest.raises(UserError, match="the Dask scheduler no longer answers"):
            list(run_on_cluster(CheckedWorkers(client, _accept), begin, finish_at_once, tasks, ahead=True))


def test_build_without_a_scheduler_at_the_address_is_refused(kaggle_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "CONNECT_SECONDS", 1.0)
    with pytest.raises(UserError, match="no Dask scheduler answers"):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, scheduler="tcp://127.0.0.1:9")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting a small disk takes root")
def test_build_after_a_full_disk_goes_on(tmp_path):
    source = make_kaggle_dir(tmp_path / "kaggle", per_source=8)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        (disk / "ballast").write_bytes(b"x" * 2_900_000)
        command = [
            sys.executable, "-m", "pipeline", "build", "--src", str(source), "--out", str(disk / "a.zarr"),
            "--size", "64", "--variants", "clean", "--workers", "1",
        ]  # fmt: skip
        # Not refused by the estimate: what the disk is short of is taken while the build runs.
        (disk / "ballast").unlink()
        build = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until((disk / "a.zarr.partial").exists, "the build's folder", process=build)
        (disk / "ballast").write_bytes(b"x" * 2_900_000)
        _, errors = build.communicate(timeout=300)
        assert build.returncode == 1, errors
        assert re.search(r"a\.zarr: the disk is full; about .*B more are needed, .*B are free", errors.splitlines()[-1])
        assert not list((disk / "a.zarr.partial/features").rglob("*.partial"))
        assert "Traceback" not in errors
        (disk / "ballast").unlink()
        again = subprocess.run(command, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        settings = BuildSettings(FeatureSettings(size=64), variants="clean")
        build_store([str(source)], tmp_path / "b.zarr", settings, workers=0)
        assert_same_files(disk / "a.zarr", tmp_path / "b.zarr")
    finally:
        subprocess.run(["umount", disk], check=False)
