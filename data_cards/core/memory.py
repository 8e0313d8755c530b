"""Free memory of the machine, or of the control groups (cgroups: containers, Slurm jobs) that the process is in."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

# Of cgroups v2 and v1: the controller's name in /proc/self/cgroup, the folder of all groups, the files with a group's
# limit and use, and the name of the part that the system can free at once.
_VERSIONS = (
    ("", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    ("memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def measure_free_memory(root: Path = Path("/")) -> int:
    """Return how many bytes processes can still allocate without swapping, 0 or more.

    Parameters
    ----------
    root : folder that contains `proc` and `sys`
    """
    free = psutil.virtual_memory().available
    for controller, top, limit, used, droppable in _VERSIONS:
        for group in _list_groups(root, controller, root / top):
            with suppress(OSError, ValueError, KeyError):  # no such file, or "max": no limit
                left = int((group / limit).read_text()) - int((group / used).read_text())
                dropped = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())[droppable]
                free = min(free, left + int(dropped))
    return max(free, 0)


def _list_groups(root: Path, controller: str, top: Path) -> Iterator[Path]:
    """List the folder of all groups, then those that lead to the group of this process; each limits the memory.

    In a container the first may be the container's own, and the others missing.
    """
    yield top
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                names = Path(path.lstrip("/")).parts
                yield from (top.joinpath(*names[:depth]) for depth in range(1, len(names) + 1))
