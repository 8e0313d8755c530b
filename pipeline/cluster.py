"""A Dask cluster, one of our own or one that runs already, and the workers that it has."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from data_cards.console import warn
from data_cards.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

LEAST_MEMORY = 600_000_000  # bytes of a worker; with its libraries, a shard at work and a large picture it holds 480 MB
LOOK = 2.0  # seconds after which it is seen whether workers have joined or left, or the scheduler has died
GONE = "the Dask scheduler is gone; what was finished is kept, run the same build again to go on"
_ANSWER = 10.0  # seconds to wait for a scheduler to answer
_MISSED = 30.0  # seconds without any worker after which it is said; those of a local cluster are replaced sooner
_OURS = {
    "distributed.scheduler.allowed-failures": 0,  # trying again is up to us
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


class Crew:
    """The workers that a cluster has; they come and go.

    Attributes
    ----------
    workers : how many there are
    threads : of all of them, so many tasks run at a time
    """

    def __init__(self, client: "Client"):
        self._client = client
        self._missed: float | None = None  # since when there is no worker
        self._told = False
        self.look()

    def look(self, now: bool = True) -> None:
        """Count the workers, unless `now` only where that was `LOOK` seconds ago: the scheduler is asked each time.

        Says once when all have been gone for a while: then a build does nothing but wait for others.

        Raises
        ------
        UserError : the scheduler is gone
        """
        if not now and time.monotonic() - self._looked < LOOK:
            return
        try:
            threads = self._client.nthreads()
        except OSError as error:
            raise UserError(GONE) from error
        self._looked = time.monotonic()
        self.workers, self.threads = len(threads), sum(threads.values())
        if self.workers:
            self._missed, self._told = None, False
        elif self._missed is None:
            self._missed = self._looked
        elif not self._told and self._looked - self._missed > _MISSED:
            self._told = True
            address = self._client.scheduler.address
            warn(
                f"{address}: no worker is left there, and the build waits for others; start some with "
                f"`dask worker {address}`, or stop it and run it again later, it goes on where it was"
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
        client = Client(scheduler, timeout=_ANSWER, set_as_default=False)
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
