"""Run independent tasks, in this process or on Dask workers, and try those that fail again."""

import errno
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from data_cards.core.cores import count_cores
from data_cards.core.errors import UsageError, UserError
from data_cards.core.text import format_bytes
from pipeline.execution.cluster import LEAST_MEMORY, connect, run_on_cluster

ATTEMPTS = 3
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def choose_workers(workers: int | None, scheduler: str | None, max_memory: int | None, cores: int | None = None) -> int:
    """Check the options of `run_tasks` and return the number of local workers.

    Parameters
    ----------
    workers : None is one a core, as far as `max_memory` goes
    cores : of this machine; None counts them

    Raises
    ------
    UsageError : options out of range, or without effect together
    """
    if workers is not None and workers < 0:
        raise UsageError(f"workers {workers}: expected 0 (in this process) or more")
    if scheduler is not None and workers is not None:
        raise UsageError("--workers and --scheduler: a running cluster has its own workers; leave out one of the two")
    if max_memory is not None and max_memory < LEAST_MEMORY * (workers or 1):
        raise UsageError(
            f"--max-memory {format_bytes(max_memory)}: a worker needs {format_bytes(LEAST_MEMORY)} to start; "
            "give more, or fewer --workers"
        )
    if max_memory is not None and (scheduler is not None or workers == 0):
        advice = "`dask worker --memory-limit` bounds a cluster's" if scheduler else "--workers 0 has none"
        raise UsageError(f"--max-memory bounds the workers that a build starts; {advice}")
    if workers is not None:
        return workers
    cores = count_cores() if cores is None else cores
    return cores if max_memory is None else min(cores, max_memory // LEAST_MEMORY)


def run_tasks(
    function: Callable,
    tasks: Iterable,
    finish: Callable | None = None,
    *,
    workers: int,
    scheduler: str | None = None,
    max_memory: int | None = None,
) -> Iterator[tuple[object, object]]:
    """Run `function` on every task and yield (task, its result or the error of its last attempt).

    Tasks that failed, or whose worker was killed, are run again after all others, `ATTEMPTS` times in all. Not so
    after a `UserError`, which another attempt would only repeat. A full disk ends the run at once.

    Parameters
    ----------
    function : called with one task; workers must be able to import it
    tasks : consumed as workers become free, so that memory does not grow with their number
    finish : callable(task, result), run while the next task starts, for waiting (e.g. for the disk); its return value
        is the task's result
    workers : processes of a local Dask cluster; 0 runs everything in this process
    scheduler : address of a running Dask scheduler, used instead of a local cluster
    max_memory : of all local workers together, in bytes; a worker above its share is restarted
    """
    if workers == 0 and scheduler is None:
        yield from _run_passes(lambda tasks, _: _run_here(function, finish, tasks), tasks)
        return
    with connect(workers, scheduler, max_memory) as client:
        # A task that waits at a worker fails with the one that kills that worker: those tried again do not wait.
        yield from _run_passes(
            lambda tasks, attempt: run_on_cluster(client, function, tasks, finish, ahead=attempt == 1), tasks
        )


def _run_passes(run: Callable[[Iterable, int], Iterator], tasks: Iterable) -> Iterator[tuple[object, object]]:
    """Yield from `run(tasks, attempt)`; what failed is run in another pass."""
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


def _run_here(function: Callable, finish: Callable | None, tasks: Iterable) -> Iterator[tuple[object, object]]:
    """Run tasks in this process, and `finish` of each in a thread beside the next task."""
    with ThreadPoolExecutor(1) as beside:
        last: tuple[object, Future] | None = None
        for task in tasks:
            result = _catch(function, task)
            if last is not None:
                yield last[0], _catch(last[1].result)
                last = None
            if finish is None or isinstance(result, Exception):
                yield task, result
            else:
                last = task, beside.submit(finish, task, result)
        if last is not None:
            yield last[0], _catch(last[1].result)


def _catch(function: Callable, *arguments: object) -> object:
    """What `function` returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
