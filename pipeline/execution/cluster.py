"""Tasks on a Dask cluster: one started for the time, or one that runs already."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from data_cards.core.console import warn
from data_cards.core.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

LEAST_MEMORY = 600_000_000  # bytes of a worker; with its libraries, a shard at work and a large picture it holds 480 MB
POLL_SECONDS = 2.0  # after which it is seen whether workers have joined or left while none has finished a task
CONNECT_SECONDS = 10.0  # to wait for a scheduler to answer
ABSENCE_SECONDS = 30.0  # without any worker until a warning; those of a local cluster are replaced sooner
_GONE = "the Dask scheduler is gone; what was finished is kept, run the same build again to go on"
_OURS = {
    "distributed.scheduler.allowed-failures": 0,  # the caller tries again
    # Dask's watch over itself: by default fifty looks a second in every process, ten at its memory, and a
    # hundred at what workers do. On two cores that took a twentieth of both.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.enabled": False,
    # A worker that nears its share works on. By default it would pause for ever, as it holds nothing to write out.
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # Dask has workers give every freed array back to the system at once. Ours are a few megabytes
    # each and many a second, and fetching fresh pages for them took a third of the time.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**28,
    # These hold for the main arena alone; a worker's tasks run in a thread, which else had its own.
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 1,
}


class WorkerDiedError(Exception):
    """The process that ran a task was killed."""

    def __init__(self) -> None:
        super().__init__(
            "its worker was killed, as the system does where memory runs out and Dask above a worker's share; "
            "give more --max-memory or fewer --workers, on a cluster more `dask worker --memory-limit`"
        )


@contextmanager
def connect(workers: int, scheduler: str | None, max_memory: int | None) -> Iterator["Client"]:
    """A client of the cluster at an address, or where there is none of one started for the time.

    Parameters
    ----------
    workers, max_memory : as for `start_cluster`
    scheduler : address of a running Dask scheduler

    Raises
    ------
    UserError : nothing answers there, or it has no workers
    """
    # Imported here: loading Dask takes a second that a build in this process need not pay.
    from distributed import Client

    if scheduler is None:
        with start_cluster(workers, max_memory) as cluster, Client(cluster, set_as_default=False) as client:
            yield client
        return
    for name in ("distributed", "distributed.client", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost scheduler is told in a line of ours
    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{scheduler}: no Dask scheduler answers there; start one with `dask scheduler`") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError as error:
            raise UserError(f"{scheduler}: the scheduler has no workers; start some with `dask worker`") from error
        yield client


@contextmanager
def start_cluster(workers: int, max_memory: int | None = None) -> Iterator["LocalCluster"]:
    """A Dask cluster of worker processes on this machine, one thread each, told what a build needs.

    Parameters
    ----------
    workers : processes
    max_memory : of all together, in bytes
    """
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set(_OURS),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=max_memory // workers if max_memory else "auto",
            # Loopback only, any free port: its default is port 8787 of every interface.
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
    ):
        yield cluster


def run_on_cluster(
    client: "Client", function: Callable, tasks: Iterable, finish: Callable | None = None, *, ahead: bool = True
) -> Iterator[tuple[object, object]]:
    """Run every task once on the workers and yield (task, its result or its error).

    Parameters
    ----------
    client : of the cluster; workers may join and leave
    function, tasks, finish : as for `run_tasks`
    ahead : let one task more than run wait at each worker, so that none is idle until the next has come

    Raises
    ------
    UserError : the scheduler is gone
    """
    from distributed import CancelledError
    from distributed.client import ClosedClientError

    tasks, running, counts = iter(tasks), {}, _count_workers(client)
    while True:
        try:
            workers, threads = next(counts)
            free = threads + (workers if ahead else 0) - len(running)
            for task in islice(tasks, max(free, 0 if running else 1)):
                # Pure tasks of equal arguments would be taken for one, and a failed one for failed for ever.
                running[client.submit(_run_task, function, finish, task, pure=False)] = task
            if not running:
                return
            ended = [(running.pop(future), _take_result(future)) for future in _wait_for_any(client, running)]
        except (OSError, CancelledError, ClosedClientError) as error:
            raise UserError(_GONE) from error
        yield from ended


def _run_task(function: Callable, finish: Callable | None, task: object) -> object:
    """Run a task on a worker, which begins its next task before `finish`."""
    from distributed import secede

    result = function(task)
    if finish is None:
        return result
    secede()
    return finish(task, result)


def _count_workers(client: "Client") -> Iterator[tuple[int, int]]:
    """Yield the present number of workers and of their threads; warn once when there has been none for a while."""
    seen, warned = time.monotonic(), False
    while True:
        threads = client.nthreads()
        if threads:
            seen, warned = time.monotonic(), False
        elif not warned and time.monotonic() - seen > ABSENCE_SECONDS:
            warned = True
            address = client.scheduler.address
            warn(
                f"{address}: no worker is left there, and the build waits for others; start some with "
                f"`dask worker {address}`, or stop it and run it again later, it goes on where it was"
            )
        yield len(threads), sum(threads.values())


def _wait_for_any(client: "Client", futures: Iterable["Future"]) -> Iterable["Future"]:
    """Wait until at least one has ended, at most `POLL_SECONDS`, and return those that have."""
    from distributed import wait

    try:
        with client.as_current():
            return wait(list(futures), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
    except TimeoutError:
        return ()


def _take_result(future: "Future") -> object:
    """Return what an ended task returned, or its error."""
    from distributed import KilledWorker

    result = future.exception() if future.status == "error" else future.result()
    future.release()
    return WorkerDiedError() if isinstance(result, KilledWorker) else result
