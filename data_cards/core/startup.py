"""Start of a command: Ctrl-C while its modules are loaded, which takes a second, ends it without a traceback.

Imports nothing that takes time.
"""

import signal
from importlib import import_module


def run_command(module: str, function: str) -> None:
    """Import a module and call its function, which handles Ctrl-C itself.

    Until then Ctrl-C has the system's own meaning, the end of the process, unless the caller chose that it is ignored.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is not signal.default_int_handler:
        getattr(import_module(module), function)()
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = getattr(import_module(module), function)
    signal.signal(signal.SIGINT, handler)
    command()
