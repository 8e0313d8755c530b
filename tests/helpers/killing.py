"""Work for worker processes: a module that they import quickly."""

import os
import signal
import time


def double(number: int) -> int:
    """Return twice the number; a negative one kills its process."""
    if number < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def sleep_long(number: int) -> None:
    """Sleep for a minute."""
    time.sleep(60)
