"""Independent tasks, run in this process or on Dask workers, with retries."""

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from data_cards.core.cores import count_cores
from data_cards.core.errors import UsageError, UserError
from data_cards.core.text import format_bytes
from pipeline.execution.cluster import LEAST_MEMORY, dask_client, run_on_cluster
from pipeline.execution.interrupts import interrupts_answered
from pipeline.execution.workers import CheckedWorkers

ATTEMPTS = 3
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def choose_workers(workers: int | None, scheduler: str | None, max_memory: int | None, cores: int | None = None) -> int:
    """Check the options of `run_tasks` and return the number of local workers.

    Parameters
    ----------
    workers : int; None is one for each core, or as many as `max_memory` allows
    scheduler, max_memory : as for `run_tasks`
    cores : int, number of this machine's cores; None detects it

    Raises
    ------
    UsageError : an option is out of range, or has no effect together with another
    """
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers} (in Python: workers): expected 0 (this process) or more")
    if scheduler is not None and not re.fullmatch(r"([a-z]+://)?[^/]+:\d+/?", scheduler):
        raise UsageError(
            f"--scheduler {scheduler} (in Python: scheduler): expected an address with a port, such as "
            "tcp://10.0.0.1:8786"
        )
    if scheduler is not None and workers is not None:
        raise UsageError(
            "--workers and --scheduler (in Python: workers, scheduler): a running cluster has its own workers; leave "
            "out one of the two"
        )
    if max_memory is not None and max_memory < LEAST_MEMORY * (workers or 1):
        raise UsageError(
            f"--max-memory {format_bytes(max_memory)} (in Python: max_memory): a worker needs "
            f"{format_bytes(LEAST_MEMORY)} to start; raise it, or use fewer --workers"
        )
    if max_memory is not None and (scheduler is not None or workers == 0):
        advice = "limit a cluster's with `dask worker --memory-limit`" if scheduler else "--workers 0 starts none"
        raise UsageError(
            f"--max-memory (in Python: max_memory): limits only workers that the build starts; {advice}; leave it out"
        )
    if workers is not None:
        return workers
    cores = count_cores() if cores is None else cores
    return cores if max_memory is None else min(cores, max_memory // LEAST_MEMORY)


def _return_result(task: object, result: object) -> object:
    return result


def _accept() -> None:
    """Find every worker suitable."""


def run_tasks(
    function: Callable,
    tasks: Iterable,
    finish: Callable = _return_result,
    *,
    workers: int,
    scheduler: str | None = None,
    max_memory: int | None = None,
    check: Callable[[], None] = _accept,
) -> Iterator[tuple[object, object]]:
    """Run `function` on every task and yield (task, its result or the error of its last attempt).

    Tasks that fail, or whose worker is killed, run again after all others, `ATTEMPTS` times in total. A `UserError` is
    final, because another attempt would repeat it. A full disk ends the run at once.

    Parameters
    ----------
    function : callable(task) that workers can import
    tasks : iterable, consumed as workers become free, so that memory does not grow with the number of tasks
    finish : callable(task, result), run in the background (e.g. fsync) while the next task starts; its return value
        is yielded
    workers : int, processes of a local Dask cluster; 0 runs everything in this process
    scheduler : str, address of a running Dask scheduler, used instead of a local cluster
    max_memory : int, bytes of all local workers together; a worker above its share is restarted
    check : callable that workers can import, as for `CheckedWorkers`: unsuitable workers of a cluster get no tasks
    """
    answer = "stopping; finished shards are kept"
    if workers == 0 and scheduler is None:
        with ExitStack() as clean_up, interrupts_answered(answer, clean_up):
            yield from _run_attempts(lambda tasks, _: _run_here(function, finish, tasks), tasks)
        return
    with (
        ExitStack() as clean_up,
        dask_client(workers, scheduler, max_memory) as client,
        interrupts_answered(answer, clean_up),
    ):
        checked = CheckedWorkers(client, check)
        # A task queued at a worker fails when another task kills the worker, so repeated tasks are not queued.
        yield from _run_attempts(
            lambda tasks, attempt: run_on_cluster(checked, function, finish, tasks, ahead=attempt == 1), tasks
        )


def _run_attempts(run: Callable[[Iterable, int], Iterator], tasks: Iterable) -> Iterator[tuple[object, object]]:
    """Yield from `run(tasks, attempt)`, and run the tasks that failed in another attempt."""
    for attempt in range(1, ATTEMPTS + 1):
        failed = []
        for task, result in run(tasks, attempt):
            if isinstance(result, OSError) and result.errno in _FATAL:
                raise result
            if isinstance(result, Exception) and not isinstance(result, UserError) and attempt < ATTEMPTS:
                failed.append(task)
            else:
                yield task, result
        tasks = failed


def _run_here(function: Callable, finish: Callable, tasks: Iterable) -> Iterator[tuple[object, object]]:
    """Run tasks in this process, and `finish` of each in a thread while the next task runs."""
    with ThreadPoolExecutor(1) as pool:
        finishing = []
        for task in tasks:
            result = _catch(function, task)
            yield from ((before, future.result()) for before, future in finishing)
            finishing = [(task, pool.submit(_catch, finish, task, result))]
        yield from ((before, future.result()) for before, future in finishing)


def _catch(function: Callable, task: object, *result: object) -> object:
    """Return what `function` returns or raises; if `result` is an error, return it instead."""
    if result and isinstance(result[0], Exception):
        return result[0]
    try:
        return function(task, *result)
    except Exception as error:
        return error
