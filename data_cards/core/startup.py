"""Start of a command: standard streams that are closed or not UTF-8, and Ctrl-C in the second in which modules load.

This module imports nothing slow.
"""

import os
import signal
import sys
from importlib import import_module


def run_command(module: str, function: str) -> None:
    """Import a module and call its function, which handles Ctrl-C itself.

    During the import Ctrl-C ends the process, which is the system's default, unless the caller has set another handler.
    """
    _open_missing_streams()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a name in another script is no error
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        getattr(import_module(module), function)()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = getattr(import_module(module), function)
    signal.signal(signal.SIGINT, handler)
    command()


def _open_missing_streams() -> None:
    """Open closed standard streams (`2>&-`) on the null device, so that no other file gets their descriptors."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, open until the end
