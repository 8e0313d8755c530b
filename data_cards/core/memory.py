"""Free memory of the machine, or of the container that the process runs in."""

from contextlib import suppress
from pathlib import Path

import psutil

# Files with the limit and the use of a container's memory, and the name of the part that the system can free at once.
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
        "total_inactive_file",
    ),
)


def measure_free_memory() -> int:
    """Return how many bytes processes can still allocate without swapping, 0 or more."""
    free = psutil.virtual_memory().available
    for limit, used, parts, droppable in _CGROUPS:
        with suppress(OSError, ValueError, KeyError):  # no such file, or "max": no limit
            left = int(Path(limit).read_text()) - int(Path(used).read_text())
            dropped = dict(line.split() for line in Path(parts).read_text().splitlines())[droppable]
            free = min(free, left + int(dropped))
    return max(free, 0)
