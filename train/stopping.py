"""Ending a run cleanly on Ctrl-C: finish the step, save, say how to go on."""

import signal
import threading
from pathlib import Path
from shlex import quote
from types import FrameType


class Stopped(Exception):  # noqa: N818 - it is no error
    """A run was stopped from outside and can go on.

    Attributes
    ----------
    exit_status : 128 plus the signal's number, 130 for Ctrl-C
    """

    def __init__(self, run: Path, when: str, signal_number: int = signal.SIGINT):
        super().__init__(f"stopped {when}; go on with `train run --resume --run {quote(str(run))}`")
        self.exit_status = 128 + signal_number


class StopSignals:
    """While entered, the first Ctrl-C (or SIGTERM) only sets `received`; a second one stops at once.

    With `repeated`, further ones change nothing: torchrun passes on what the terminal has sent to all, and ends
    processes that take too long.

    Outside the main thread, where Python takes no handlers, signals are left as they are.
    """

    def __init__(self, repeated: bool = False) -> None:
        self._repeated = repeated
        self.received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        elif not self._repeated:
            raise KeyboardInterrupt
