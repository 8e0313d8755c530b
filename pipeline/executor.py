"""Running shard tasks: here in this process, or on Dask, with a bounded number in flight."""

import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from data_cards.errors import UsageError, UserError
from pipeline.cluster import GONE, LOOK, Crew, connect

if TYPE_CHECKING:
    from distributed import Client
    from distributed import Future as DaskFuture

ATTEMPTS = 3


class WorkerDiedError(Exception):
    """The process that ran a task was killed."""

    def __init__(self) -> None:
        super().__init__(
            "its worker was killed, as the system does where memory runs out and Dask above a worker's share; "
            "give more --max-memory or fewer --workers, on a cluster more `dask worker --memory-limit`"
        )


def check_workers(workers: int) -> int:
    """The number of workers; raises `UsageError` where it is none."""
    if workers < 0:
        raise UsageError(f"workers {workers}: expected 0 (in this process) or more")
    return workers


def run_tasks(
    function: Callable,
    tasks: Iterable,
    then: Callable | None = None,
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
    then : called with a task and what `function` gave, for what is left to do but wait, as for the disk: the next
        task runs meanwhile. It gives the result
    workers : processes of a local Dask cluster; 0 runs everything in this process
    scheduler : address of a running Dask scheduler, used instead of a local cluster
    max_memory : of all local workers together, in bytes; a worker above its share is started anew
    """
    if workers == 0 and scheduler is None:
        yield from _run_here(function, tasks, then)
        return
    with connect(workers, scheduler, max_memory) as client:
        yield from _run_on(client, partial(_run_whole, function, then), iter(tasks))


def _run_here(function: Callable, tasks: Iterable, then: Callable | None) -> Iterator[tuple[object, object]]:
    with ThreadPoolExecutor(1) as beside:
        last: tuple[object, Future] | None = None
        for task in tasks:
            result = _try_here(function, task)
            if last is not None:
                yield _finish_here(function, then, *last)
                last = None
            if then is None or isinstance(result, Exception):
                yield task, result
            else:
                last = task, beside.submit(then, task, result)
        if last is not None:
            yield _finish_here(function, then, *last)


def _finish_here(function: Callable, then: Callable, task: object, ending: Future) -> tuple[object, object]:
    try:
        return task, ending.result()
    except Exception as error:
        if _is_final(error, 1):
            return task, error
        return task, _try_here(lambda task: then(task, function(task)), task)


def _try_here(function: Callable, task: object) -> object:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return function(task)
        except Exception as error:
            if _is_final(error, attempt):
                return error
    raise AssertionError("unreachable")


def _run_whole(function: Callable, then: Callable | None, task: object) -> object:
    """A task with what is left to do of it, on a worker."""
    from distributed import secede

    result = function(task)
    if then is None:
        return result
    secede()  # the worker begins its next task
    return then(task, result)


def _run_on(client: "Client", function: Callable, tasks: Iterator) -> Iterator[tuple[object, object]]:
    again: list[tuple[object, int]] = []  # tasks that failed, and the number of their next attempt
    waiting: dict = {}
    crew = Crew(client)

    def submit() -> None:
        # One task more than run waits at each worker, so that none is idle until the next has come. One that
        # waits where another kills the worker counts as failed too: what is tried again runs with none waiting.
        retrying = again or any(attempt > 1 for _, attempt in waiting.values())
        free = crew.threads + (0 if retrying else crew.workers) - len(waiting)
        queue = chain(_drain(again), ((task, 1) for task in tasks))
        for task, attempt in islice(queue, max(free, 0 if waiting else 1)):
            waiting[_submit(client, function, task)] = (task, attempt)

    submit()
    while waiting:
        crew.look(now=False)
        for future in _wait_for_some(client, list(waiting)):
            task, attempt = waiting.pop(future)
            result = _take_result(future)
            future.release()
            if isinstance(result, Exception) and not _is_final(result, attempt):
                again.append((task, attempt + 1))
                crew.look()  # its worker may have died
                continue
            submit()
            yield task, result
        submit()


def _drain(values: list) -> Iterator:
    """Take the values out of a list, one by one as they are asked for."""
    while values:
        yield values.pop(0)


def _submit(client: "Client", function: Callable, task: object) -> "DaskFuture":
    """Hand a task to the scheduler; raises `UserError` when it is gone."""
    from distributed.client import ClosedClientError

    try:
        # Pure tasks of equal arguments would be taken for one, and a failed one for failed for ever.
        return client.submit(function, task, pure=False)
    except ClosedClientError as error:
        raise UserError(GONE) from error


def _wait_for_some(client: "Client", futures: list["DaskFuture"]) -> Iterable["DaskFuture"]:
    """Those that have ended, none if that takes longer than `LOOK`; raises `UserError` when the scheduler is gone."""
    from distributed import CancelledError, wait

    if client.status not in ("closing", "closed"):
        try:
            with client.as_current():
                return wait(futures, timeout=LOOK, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            return ()  # Dask itself would wait for ever on a scheduler that died
        except CancelledError:
            pass
    raise UserError(GONE)


def _take_result(future: "DaskFuture") -> object:
    """What an ended task returned, or its error; raises `UserError` when the scheduler is gone."""
    from distributed import CancelledError, KilledWorker

    if future.status == "error":
        error = future.exception()
        return WorkerDiedError() if isinstance(error, KilledWorker) else error
    try:
        return future.result()
    except (OSError, CancelledError) as error:  # not the task's own, but the connection's
        raise UserError(GONE) from error


def _is_final(error: Exception, attempt: int) -> bool:
    """Whether to give a task up; raises the error when the whole run must end."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise error
    return isinstance(error, UserError) or attempt >= ATTEMPTS
