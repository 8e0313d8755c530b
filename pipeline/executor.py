"""Running shard tasks: here in this process, or on Dask, with a bounded number in flight."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

from data_cards.errors import UsageError, UserError


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable, tasks: Iterator, *, workers: int, scheduler: str | None = None
) -> Iterator[tuple[object, object]]:
    """Run `function` on every task and yield (task, its result or the `UserError` it raised).

    Parameters
    ----------
    function : called with one task
    tasks : consumed as workers become free, so that memory does not grow with their number
    workers : processes of a local Dask cluster; 0 runs everything in this process
    scheduler : address of a running Dask scheduler, used instead of a local cluster

    Any other error than a `UserError` ends the run and is raised here.
    """
    if workers < 0:
        raise UsageError(f"workers {workers}: expected 0 (in this process) or more")
    if workers == 0 and scheduler is None:
        for task in tasks:
            yield task, _call(function, task)
        return
    from distributed import as_completed

    with _connect(workers, scheduler) as client:
        in_flight = 2 * max(1, sum(client.nthreads().values()))
        waiting = {}

        def submit(task: object) -> object:
            future = client.submit(_call, function, task, pure=False)
            waiting[future] = task
            return future

        completed = as_completed([submit(task) for task in islice(tasks, in_flight)], loop=client.loop)
        for future in completed:
            task = waiting.pop(future)
            result = future.result()
            future.release()
            for following in islice(tasks, 1):
                completed.add(submit(following))
            yield task, result


def _call(function: Callable, task: object) -> object:
    try:
        return function(task)
    except UserError as error:
        return error


@contextmanager
def _connect(workers: int, scheduler: str | None) -> Iterator:
    # Imported here: loading Dask takes a second that a build in this process need not pay.
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout="20s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise UserError(f"{scheduler}: no Dask scheduler answers there; start one with `dask scheduler`") from error
        with client:
            yield client
        return
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client
