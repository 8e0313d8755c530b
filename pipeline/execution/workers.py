"""The workers of a running cluster that may get tasks: each is checked once, when it joins.

A worker that fails every task at once would otherwise take most of them, because it is always free.
"""

import pickle
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from data_cards.core.console import warn
from data_cards.core.errors import UserError, format_error
from data_cards.core.text import join_lines

if TYPE_CHECKING:
    from distributed import Client, Future

ABSENCE_SECONDS = 30.0  # without a suitable worker until a warning; a local cluster replaces its workers sooner


class UnsuitableWorkerError(Exception):
    """Error of a check, or of a task, on a worker that can run no task; its text is a sentence such as "it has ..."."""


class CheckedWorkers:
    """The present workers of a cluster, and which of them are suitable.

    Attributes
    ----------
    client : distributed.Client
    check : callable() that workers can import; raises `UnsuitableWorkerError` on an unsuitable worker
    pending : dict of address to Future, the checks that run
    """

    def __init__(self, client: "Client", check: Callable[[], None]):
        self.client, self.check = client, check
        self.pending: dict[str, Future] = {}
        self._reasons: dict[str, str | None] = {}
        self._named: set[tuple[str, str]] = set()
        self._had_suitable = False
        self._seen = time.monotonic()

    def find_suitable(self) -> tuple[dict[str, int], bool]:
        """Return the threads of each suitable worker, by address, and whether other workers are present.

        Workers that joined are checked. Those that turn out to be unsuitable are named. A warning is given once after
        `ABSENCE_SECONDS` without a suitable worker.

        Raises
        ------
        UserError : all present workers are unsuitable, and no other was there before
        """
        threads = self.client.nthreads()
        for known in (self.pending, self._reasons):
            for address in known.keys() - threads.keys():
                del known[address]
        for address in threads.keys() - self.pending.keys() - self._reasons.keys():
            self.pending[address] = self.submit(self.check, workers=[address], priority=1)  # before tasks of others
        for address, future in list(self.pending.items()):
            if future.done():
                del self.pending[address]
                self._take_result(address, future)
        suitable = {address: threads[address] for address, reason in self._reasons.items() if reason is None}
        if suitable:
            self._had_suitable, self._seen = True, time.monotonic()
        elif self._reasons and not self.pending and not self._had_suitable:
            raise self._unsuitable_error()
        self._name_unsuitable()
        if time.monotonic() - self._seen > ABSENCE_SECONDS:
            self._seen = float("inf")  # warned
            scheduler = self.client.scheduler.address
            warn(
                f"{scheduler}: no workers are left that can build, and the build is waiting for new ones; start some "
                f"with `dask worker {scheduler}`, or interrupt the build and run it again later to resume"
            )
        return suitable, len(suitable) < len(threads)

    def submit(self, function: Callable, *arguments: object, **options: object) -> "Future":
        """Submit a call, with options of `Client.submit`.

        It is sent as bytes, because Dask ends a worker that cannot import a function, and the scheduler needs to import
        nothing. A pure call would be merged with another of equal arguments, and never run again after a failure.
        """
        from distributed.protocol.pickle import dumps  # which sends functions of the caller's script whole

        call = dumps(_CalledWhenLoaded(function, arguments))
        return self.client.submit(pickle.loads, call, pure=False, **options)

    def _take_result(self, address: str, future: "Future") -> None:
        """Note the outcome of a check; its result is not fetched, because that waits if the worker leaves meanwhile."""
        from distributed import KilledWorker

        error = future.exception() if future.status == "error" else None
        if error is None or isinstance(error, UnsuitableWorkerError):
            self._reasons[address] = error and str(error)
        elif not isinstance(error, KilledWorker):  # a killed worker leaves, or is checked again
            self._reasons[address] = (
                f"it cannot run this program ({format_error(error)}); install it there with the same versions of its "
                "libraries (constraints.txt)"
            )

    def _list_unsuitable(self) -> dict[tuple[str, str], str]:
        """List unsuitable workers: an address for each host and reason, because hosts run many equal workers."""
        return {
            (address.rpartition(":")[0], reason): address
            for address, reason in sorted(self._reasons.items(), reverse=True)
            if reason is not None
        }

    def _name_unsuitable(self) -> None:
        for (host, reason), address in self._list_unsuitable().items():
            if (host, reason) not in self._named:
                self._named.add((host, reason))
                warn(f"worker {address}, and any like it on its host, gets no shards: {reason}")

    def _unsuitable_error(self) -> UserError:
        lines = [f"worker {address}: {reason}" for (_, reason), address in self._list_unsuitable().items()]
        return UserError(
            join_lines([*lines, f"{self.client.scheduler.address}: no worker can build; run the same build again"])
        )


class _CalledWhenLoaded:
    """A call, which happens when its pickled bytes are loaded; `pickle.loads` returns its result."""

    def __init__(self, function: Callable, arguments: tuple):
        self._call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self._call
