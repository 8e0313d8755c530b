"""Ending a run cleanly on Ctrl-C, or when the terminal goes: finish the step, save, say how to go on."""

import os
import signal
import stat
import threading
from contextlib import suppress
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
    """While entered, the first Ctrl-C (or SIGTERM) only is noted as `received`; a second one stops at once.

    The loss of the terminal (SIGHUP) is noted as well, and may come twice; nothing is printed to it any more. Where
    it is ignored, as under `nohup`, it stays so.

    With `in_group`, further ones change nothing: torchrun passes on what the terminal has sent to all, and ends
    processes that take too long. And when torchrun itself is gone, killed without a word to its processes, that
    counts as a SIGTERM: nobody could stop them any more.

    Outside the main thread, where Python takes no handlers, signals are left as they are.
    """

    def __init__(self, in_group: bool = False) -> None:
        self._in_team = in_group
        self._parent = os.getppid()
        self._noted: int | None = None
        self._before: dict[int, object] = {}

    @property
    def received(self) -> int | None:
        """The signal that asks to stop; None while nothing does."""
        if self._noted is None and self._in_team and os.getppid() != self._parent:
            self._noted = signal.SIGTERM
        return self._noted

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_terminal()
        if self._noted is None:
            self._noted = number
        elif not self._in_team and number != signal.SIGHUP:
            raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Print to nowhere: a lost terminal refuses it, and so does the pipe of a `tee` that went with it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        with suppress(OSError):  # closed from the start
            if not stat.S_ISREG(os.fstat(number).st_mode):
                os.dup2(nowhere, number)
    os.close(nowhere)
