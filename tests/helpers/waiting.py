"""Wait for something that another thread or process does, and fail when it does not come."""

import subprocess
import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool], what: str, *, process: subprocess.Popen | None = None, seconds: float = 60
) -> None:
    """Return when the condition holds.

    Parameters
    ----------
    what : is waited for, for the message of a failure
    process : whose end, before the condition holds, is a failure too
    seconds : to wait at most
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            if condition():  # it did that last
                return
            raise AssertionError(f"the process ended (exit status {process.returncode}) before {what}")
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(0.01)
