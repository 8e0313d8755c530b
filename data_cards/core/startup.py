"""Start of a command: standard streams that are closed, and Ctrl-C while its modules are loaded, which takes a second.

Imports nothing that takes time.
"""

import os
import signal
import sys
from importlib import import_module


def run_command(module: str, function: str) -> None:
    """Import a module and call its function, which handles Ctrl-C itself.

    Until then Ctrl-C has the system's own meaning, the end of the process, unless the caller chose that it is ignored.
    """
    _open_missing_streams()
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        getattr(import_module(module), function)()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = getattr(import_module(module), function)
    signal.signal(signal.SIGINT, handler)
    command()


def _open_missing_streams() -> None:
    """Open standard streams that the caller closed (`2>&-`) on nothing: another file would take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, open until the end
