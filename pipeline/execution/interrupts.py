"""Ctrl-C while processes start, run or end: only this process receives it, answers once, and then ends the others."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker

from data_cards.core.console import note


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block, and block it in threads and processes that are started in it.

    A terminal sends Ctrl-C to all processes of a command. The started processes ignore it and print no tracebacks of
    their own; this process ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else it starts with the first process, and unblocks Ctrl-C
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_answered(answer: str, clean_up: ExitStack) -> Iterator[None]:
    """Print an answer to Ctrl-C in the block at once, and ignore another one until `clean_up` ends.

    Parameters
    ----------
    clean_up : stack around the block and its clean-up, which another Ctrl-C would end half-way, with a traceback
    """
    try:
        yield
    except KeyboardInterrupt:  # raised in the main thread only, which alone may set signals
        clean_up.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.SIG_IGN))
        note(answer)
        raise
