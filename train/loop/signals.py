"""Signal handling: a run that gets Ctrl-C, or loses its terminal, finishes the step and saves."""

import os
import signal
import stat
import threading
from contextlib import suppress
from pathlib import Path
from shlex import quote
from types import FrameType

from data_cards.core.console import note

_PATIENCE = 1.0  # seconds that a computation gets to return after the second Ctrl-C


class Stopped(Exception):  # noqa: N818 - not an error
    """A run was stopped from outside and can be resumed.

    Attributes
    ----------
    exit_status : 128 plus the signal's number, 130 for Ctrl-C
    """

    def __init__(self, run: Path, when: str, signal_number: int = signal.SIGINT):
        super().__init__(f"stopped {when}; resume with `train run --resume --run {quote(str(run))}`")
        self.exit_status = 128 + signal_number


class StopSignals:
    """A context manager that records the first Ctrl-C (or SIGTERM) as `received`; a second one stops at once.

    Python runs a signal's handler only when a computation of PyTorch returns, which may take many seconds. So a thread
    answers at once, and prints what will happen.

    The loss of the terminal (SIGHUP) is recorded too, and may come twice; after it, nothing is printed to the terminal.
    If SIGHUP is ignored, as under `nohup`, it stays ignored.

    With `in_group`, further signals change nothing: the terminal sends a signal to all processes, torchrun forwards it
    to them again, and torchrun ends processes that are too slow. If torchrun was killed without a signal to its
    processes, that counts as a SIGTERM, because nothing else would stop them.

    With `exits`, as in the command, the second Ctrl-C ends the process if the current computation does not return
    soon; without it, `KeyboardInterrupt` is raised after the computation.

    Outside the main thread, where Python allows no handlers, signals are left as they are.
    """

    def __init__(self, in_group: bool = False, exits: bool = False) -> None:
        self._in_group, self._exits = in_group, exits
        self._parent = os.getppid()
        self._received: int | None = None
        self._before: dict[int, object] = {}
        self._ended = threading.Event()
        self._pipe: tuple[int, int] | None = None

    @property
    def received(self) -> int | None:
        """The signal that asks the run to stop; None before there is one."""
        if self._received is None and self._in_group and os.getppid() != self._parent:
            self._received = signal.SIGTERM
        return self._received

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._record)
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[1], False)
            self._fd_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._answer, name="signals", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._fd_before)
            os.close(self._pipe[1])
            self._thread.join()
            os.close(self._pipe[0])
            self._pipe = None
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _detach_from_terminal()
        if self._received is None:
            self._received = number
        elif not self._in_group and number != signal.SIGHUP:
            raise KeyboardInterrupt

    def _answer(self) -> None:
        """Answer signals as they arrive; the interpreter writes the number of each into the pipe."""
        is_first = True
        while numbers := os.read(self._pipe[0], 1):
            number = numbers[0]
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            if is_first:
                more = "" if self._in_group else "; press again to stop now"
                note(f"stopping after this step{more if number == signal.SIGINT else ''}")
                is_first = False
            elif self._exits and not self._in_group and not self._ended.wait(_PATIENCE):
                note("stopped at once, without saving; resume with `train run --resume`")
                os._exit(128 + number)


def _detach_from_terminal() -> None:
    """Redirect stdout and stderr to the null device: a lost terminal, or the pipe of its `tee`, refuses writing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        with suppress(OSError):  # closed from the start
            if not stat.S_ISREG(os.fstat(number).st_mode):
                os.dup2(nowhere, number)
    os.close(nowhere)
