"""Dask clusters, local or already running, and the tasks that run there."""

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from typing import TYPE_CHECKING

from data_cards.core.console import note
from data_cards.core.errors import UserError, format_error
from pipeline.execution.interrupts import interrupts_deferred
from pipeline.execution.main_module import main_module_hidden
from pipeline.execution.workers import CheckedWorkers

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

LEAST_MEMORY = 600_000_000  # bytes of a worker, which uses 480 MB: its libraries, a shard, and a large picture
POLL_SECONDS = 2.0  # between two counts of the workers while no task finishes
RESULT_SECONDS = 10.0  # within which the small result of a finished task must arrive
CONNECT_SECONDS = 10.0  # within which a scheduler must answer
FIRST_WORKER_SECONDS = 60  # within which a scheduler must have a worker
_DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # the caller runs a failed task again
    # Dask's monitoring of itself: by default every process is polled fifty times a second, its memory ten times, and
    # its threads a hundred times. Polling used a twentieth of two cores.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.enabled": False,
    # A worker near its memory limit continues. By default it would pause for ever, since it has no data to spill.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # By default workers return freed arrays to the system at once. With many arrays of a few megabytes a second,
    # a third of the time was spent on new pages.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**28,
    # Both thresholds apply to the main arena only; a worker's tasks run in a thread, which would have its own arena.
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}


class WorkerDiedError(Exception):
    """Error of a task whose worker process was killed."""

    def __init__(self) -> None:
        super().__init__(
            "its worker was killed, by the system when memory ran out or by Dask above the worker's memory limit; "
            "raise --max-memory or use fewer --workers; on a cluster raise `dask worker --memory-limit`"
        )


@contextmanager
def dask_client(workers: int, scheduler: str | None, max_memory: int | None) -> Iterator["Client"]:
    """Client of a running cluster, or of a local cluster that is closed at the end.

    Parameters
    ----------
    workers, max_memory : int, as for `local_cluster`
    scheduler : str, address of a running Dask scheduler; None starts a local cluster

    Raises
    ------
    UserError : no scheduler answers at the address, or the scheduler has no workers
    """
    # Imported here, because importing Dask takes a second, which a build without workers saves.
    from distributed import Client

    if scheduler is None:
        with local_cluster(workers, max_memory) as cluster, Client(cluster, set_as_default=False) as client:
            yield client
        return
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost scheduler is reported as a `UserError`
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{scheduler}: no Dask scheduler answers at this address; start one with `dask scheduler`"
        ) from error
    with client:
        try:
            if not client.nthreads():
                note(
                    f"waiting up to {FIRST_WORKER_SECONDS} seconds for the first worker of {scheduler}; start one with "
                    f"`dask worker {scheduler}`"
                )
            client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
        except TimeoutError as error:
            raise UserError(f"{scheduler}: the scheduler has no workers; start some with `dask worker`") from error
        yield client


@contextmanager
def local_cluster(workers: int, max_memory: int | None = None) -> Iterator["LocalCluster"]:
    """Dask cluster on this machine, of worker processes with one thread each.

    Parameters
    ----------
    workers : int, number of processes
    max_memory : int, bytes of all workers together

    Raises
    ------
    UserError : the workers do not start, for example because there is no loopback address or too little memory
    """
    import dask
    from distributed import LocalCluster

    _check_loopback()
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_DASK_SETTINGS))
        stack.enter_context(main_module_hidden())  # also while killed workers are replaced
        try:
            with interrupts_deferred():
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    memory_limit=max_memory // workers if max_memory else "auto",
                    # Loopback and any free port; the default is port 8787 on every interface.
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
                stack.enter_context(cluster)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise UserError(
                f"the worker processes do not start ({format_error(error)}); build in this process with --workers 0 "
                "(in Python: workers=0)"
            ) from error
        yield cluster


def _check_loopback() -> None:
    """Connect to this machine over loopback, as the workers will; Dask itself would fail only after a minute."""
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname(), timeout=CONNECT_SECONDS),
        ):
            pass
    except OSError as error:
        raise UserError(
            f"127.0.0.1: cannot be reached ({error.strerror or error}), but worker processes communicate over it; "
            "bring the loopback interface up, or build in this process with --workers 0 (in Python: workers=0)"
        ) from error


def run_on_cluster(
    workers: CheckedWorkers, function: Callable, finish: Callable, tasks: Iterable, *, ahead: bool
) -> Iterator[tuple[object, object]]:
    """Run every task once on suitable workers and yield (task, its result or its error).

    Parameters
    ----------
    workers : CheckedWorkers, which may join and leave
    function, finish, tasks : as for `run_tasks`
    ahead : bool, submit one more task to each worker than it runs, so that no worker waits for its next task

    Raises
    ------
    UserError : the scheduler is gone, or no worker is suitable
    """
    from distributed import CancelledError, wait
    from distributed.client import ClosedClientError

    tasks, waiting, running = iter(tasks), [], {}
    while True:
        try:
            suitable, has_others = workers.find_suitable()
            free = sum(suitable.values()) + (len(suitable) if ahead else 0) - len(running)
            waiting += islice(tasks, max(free, 0 if running or waiting else 1))
            if not running and not waiting:
                return
            # Unless others are present, tasks are not bound to workers, so that a worker that joins can take them.
            allowed = list(suitable) if has_others else None
            for task in waiting if suitable else ():
                future = workers.submit(_run_task, workers.check, function, finish, task, workers=allowed)
                running[future] = task, allowed
            waiting = [] if suitable else waiting
            futures, done = [*running, *workers.pending.values()], set()
            ended = []
            if not futures:
                time.sleep(POLL_SECONDS)
            else:
                with suppress(TimeoutError), workers.client.as_current():
                    done = wait(futures, timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            for future in done & running.keys():
                # The result of a worker that died meanwhile does not come; the scheduler runs its task again.
                with suppress(_ResultLostError):
                    ended.append((running[future][0], _result_or_error(future)))
                    del running[future]
            for future, (task, allowed) in list(running.items()):
                if allowed and not suitable.keys() & allowed:  # the scheduler would wait for one of these workers
                    del running[future]
                    ended.append((task, WorkerDiedError()))
        except (OSError, CancelledError, ClosedClientError) as error:
            raise UserError(
                "the Dask scheduler no longer answers; finished shards are kept; run the same build again to resume"
            ) from error
        yield from ended


def _run_task(check: Callable, function: Callable, finish: Callable, task: object) -> object:
    """Run a task on a worker; the worker starts its next task before `finish` runs.

    Raises
    ------
    UnsuitableWorkerError : by `check`; the worker joined just now, and got the task before it was checked
    """
    from distributed import secede

    check()
    result = function(task)
    secede()
    return finish(task, result)


class _ResultLostError(Exception):
    pass


def _result_or_error(future: "Future") -> object:
    from distributed import KilledWorker

    if future.status == "error":
        result = future.exception()
        return WorkerDiedError() if isinstance(result, KilledWorker) else result
    try:
        return future.result(timeout=RESULT_SECONDS)
    except TimeoutError as error:
        raise _ResultLostError from error
