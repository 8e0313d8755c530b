"""The cores that this process may use."""

import os
from collections.abc import Collection


def list_cores() -> Collection[int]:
    """Return the numbers of the cores that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(list_cores())
