"""Start of a command: streams that are closed or not UTF-8, Ctrl-C in the second in which modules load, and SIGTERM.

This module imports nothing slow.
"""

import os
import signal
import sys
from importlib import import_module
from types import FrameType

from data_cards.core.errors import Terminated


def run_command(module: str, function: str) -> None:
    """Import a module and call its function, which handles Ctrl-C itself.

    During the import Ctrl-C ends the process, which is the system's default, unless the caller has set another handler.
    Later, SIGTERM raises `Terminated`.
    """
    _open_missing_streams()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a name in another script is no error
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        command = getattr(import_module(module), function)
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        command = getattr(import_module(module), function)
        signal.signal(signal.SIGINT, handler)
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        command()
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        command()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Raise `Terminated` once: `timeout` sends SIGTERM twice, and the second would interrupt the clean-up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


def _open_missing_streams() -> None:
    """Open closed standard streams (`2>&-`) on the null device, so that no other file gets their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, open until the end
