"""Running shard tasks: here in this process, or on Dask, with a bounded number in flight."""

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING

from data_cards.console import warn
from data_cards.errors import UsageError, UserError

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

ATTEMPTS = 3
LEAST_MEMORY = 300_000_000  # bytes of a worker; with less Dask starts it again and again before it takes a task
_ANSWER = 10.0  # seconds to wait for a scheduler to answer
_LOOK = 2.0  # seconds after which it is seen whether workers have joined, or the scheduler has died
_MISSED = 30.0  # seconds without any worker after which it is said; those of a local cluster are replaced sooner
_GONE = "the Dask scheduler is gone; what was finished is kept, run the same build again to go on"
_WORKERS = {
    "distributed.scheduler.allowed-failures": 0,  # trying again is up to us
    "distributed.worker.profile.enabled": False,  # it looks at every worker a hundred times a second
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


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_workers(workers: int) -> int:
    """The number of workers; raises `UsageError` where it is none."""
    if workers < 0:
        raise UsageError(f"workers {workers}: expected 0 (in this process) or more")
    return workers


def run_tasks(
    function: Callable,
    tasks: Iterable,
    *,
    workers: int,
    scheduler: str | None = None,
    max_memory: int | None = None,
) -> Iterator[tuple[object, object]]:
    """Run `function` on every task and yield (task, its result or the error of its last attempt).

    A task that fails, or whose worker dies, is tried again, `ATTEMPTS` times in all. A `UserError`
    is not: what the user must mend does not mend itself. A full disk ends the run at once.

    Parameters
    ----------
    function : called with one task; in workers it must be importable
    tasks : consumed as workers become free, so that memory does not grow with their number
    workers : processes of a local Dask cluster; 0 runs everything in this process
    scheduler : address of a running Dask scheduler, used instead of a local cluster
    max_memory : of all local workers together, in bytes; a worker above its share is started anew
    """
    if workers == 0 and scheduler is None:
        for task in tasks:
            yield task, _try_here(function, task)
        return
    with _connect(workers, scheduler, max_memory) as client:
        yield from _run_on(client, function, iter(tasks))


def _try_here(function: Callable, task: object) -> object:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return function(task)
        except Exception as error:
            if _is_final(error, attempt):
                return error
    raise AssertionError("unreachable")


def _run_on(client: "Client", function: Callable, tasks: Iterator) -> Iterator[tuple[object, object]]:
    again: list[tuple[object, int]] = []  # tasks that failed, and the number of their next attempt
    waiting: dict = {}

    def submit() -> None:
        # No more than run at a time: a task that only waits on a worker that dies would count as failed.
        # Counted anew each time, since workers of a cluster come and go.
        free = _count_threads(client) - len(waiting)
        queue = chain(_drain(again), ((task, 1) for task in tasks))
        for task, attempt in islice(queue, max(free, 0 if waiting else 1)):
            # Pure tasks of equal arguments would be taken for one, and a failed one for failed for ever.
            waiting[client.submit(function, task, pure=False)] = (task, attempt)

    outage = _Outage(client)
    submit()
    while waiting:
        outage.look()
        for future in _wait_for_some(client, list(waiting)):
            task, attempt = waiting.pop(future)
            result = _take_result(future)
            future.release()
            if isinstance(result, Exception) and not _is_final(result, attempt):
                again.append((task, attempt + 1))
                continue
            submit()
            yield task, result
        submit()


class _Outage:
    """Says once when all workers have been gone for a while: then a build does nothing but wait for others."""

    def __init__(self, client: "Client"):
        self._client = client
        self._since: float | None = None
        self._told = False

    def look(self) -> None:
        """See whether there are workers; to be called every now and then."""
        if _count_threads(self._client):
            self._since, self._told = None, False
        elif self._since is None:
            self._since = time.monotonic()
        elif not self._told and time.monotonic() - self._since > _MISSED:
            self._told = True
            address = self._client.scheduler.address
            warn(
                f"{address}: no worker is left there, and the build waits for others; start some with "
                f"`dask worker {address}`, or stop it and run it again later, it goes on where it was"
            )


def _drain(values: list) -> Iterator:
    """Take the values out of a list, one by one as they are asked for."""
    while values:
        yield values.pop(0)


def _count_threads(client: "Client") -> int:
    """Tasks that the workers of now can run at a time; raises `UserError` when the scheduler is gone."""
    try:
        return sum(client.nthreads().values())
    except OSError as error:
        raise UserError(_GONE) from error


def _wait_for_some(client: "Client", futures: list["Future"]) -> Iterable["Future"]:
    """Those that have ended, none if that takes longer than `_LOOK`; raises `UserError` when the scheduler is gone."""
    from distributed import CancelledError, wait

    if client.status not in ("closing", "closed"):
        try:
            with client.as_current():
                return wait(futures, timeout=_LOOK, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return ()  # Dask itself would wait for ever on a scheduler that died
        except CancelledError:
            pass
    raise UserError(_GONE)


def _take_result(future: "Future") -> object:
    """What an ended task returned, or its error; raises `UserError` when the scheduler is gone."""
    from distributed import CancelledError, KilledWorker

    if future.status == "error":
        error = future.exception()
        return WorkerDiedError() if isinstance(error, KilledWorker) else error
    try:
        return future.result()
    except (OSError, CancelledError) as error:  # not the task's own, but the connection's
        raise UserError(_GONE) from error


def _is_final(error: Exception, attempt: int) -> bool:
    """Whether to give a task up; raises the error when the whole run must end."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise error
    return isinstance(error, UserError) or attempt >= ATTEMPTS


@contextmanager
def _connect(workers: int, scheduler: str | None, max_memory: int | None) -> Iterator["Client"]:
    # Imported here: loading Dask takes a second that a build in this process need not pay.
    from distributed import Client

    if scheduler is not None:
        for name in ("distributed.client", "distributed.utils"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # a lost scheduler is told in a line of ours
        try:
            client = Client(scheduler, timeout=_ANSWER, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{scheduler}: no Dask scheduler answers there; start one with `dask scheduler`") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=60)
            except TimeoutError as error:
                raise UserError(f"{scheduler}: the scheduler has no workers; start some with `dask worker`") from error
            yield client
        return
    with start_cluster(workers, max_memory) as cluster, Client(cluster, set_as_default=False) as client:
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
        dask.config.set(_WORKERS),
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
