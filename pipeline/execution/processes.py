"""Ordered map over worker processes of this machine, with a bounded number of items in progress.

It is for work of seconds to minutes, for which Dask (`pipeline.execution.cluster`) takes longer to start than it saves.
Results have the order of the items. A killed worker affects only the item that it was computing.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from data_cards.core.errors import UserError
from pipeline.execution.interrupts import interrupts_deferred
from pipeline.execution.main_module import main_module_hidden

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    lost: Callable[[Item], Result],
    *,
    workers: int,
    ahead: int,
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by worker processes.

    After a worker is killed, the items in progress run again one at a time, to find the item that kills its worker.

    Parameters
    ----------
    function : callable(item) that workers can import, or an object of such a class
    lost : callable(item), returns the result of an item whose worker is killed even when the item runs alone
    workers : int, number of processes, at least 1
    ahead : int, largest number of items that are in progress or not yet yielded

    Raises
    ------
    UserError : no worker starts
    """
    items = iter(items)
    pool = _Pool(workers)
    waiting: deque[tuple[Item, Future]] = deque()
    try:
        while True:
            waiting += [(item, pool.submit(function, item)) for item in islice(items, max(ahead - len(waiting), 0))]
            if not waiting:
                break
            try:
                result = waiting[0][1].result()
            except BrokenProcessPool:
                pool.check_started()
                pool.end()
                while waiting:
                    item, future = waiting.popleft()
                    is_done = future.done() and not isinstance(future.exception(), BrokenProcessPool)
                    yield future.result() if is_done else _run_alone(function, item, lost)
                pool = _Pool(workers)
            else:
                waiting.popleft()
                yield result
    except BaseException:
        pool.kill()
        raise
    pool.end()


def _run_alone(function: Callable[[Item], Result], item: Item, lost: Callable[[Item], Result]) -> Result:
    pool = _Pool(1)
    try:
        return pool.submit(function, item).result()
    except BrokenProcessPool:
        return lost(item)
    finally:
        pool.kill()


class _Pool:
    """Worker processes that ignore Ctrl-C, and end when this process ends, even if it is killed."""

    def __init__(self, workers: int):
        self._others = set(multiprocessing.active_children())
        # Not "fork": a process with threads, such as PyTorch's, cannot be forked safely.
        self._pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent)
        self._started = self.submit(int)

    def submit(self, function: Callable, *arguments: object) -> Future:
        try:
            with interrupts_deferred(), main_module_hidden():  # submitting may start a worker
                return self._pool.submit(function, *arguments)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
            return future

    def check_started(self) -> None:
        """Raise `UserError` if no worker ever ran."""
        if isinstance(self._started.exception(), BrokenProcessPool):
            raise UserError("the worker processes do not start; use 1 worker, which is this process") from None

    def end(self) -> None:
        self._pool.shutdown()

    def kill(self) -> None:
        """End the workers at once, without waiting for their items."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - self._others:
            process.kill()
        self._pool.shutdown()


def _end_with_parent() -> None:
    """Start a thread that ends this worker when its parent process ends, even if the parent is killed."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
