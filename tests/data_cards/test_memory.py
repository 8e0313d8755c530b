"""Free memory: the smaller of what the machine, the container and its groups have left."""

import psutil
import pytest

from data_cards.core.memory import measure_free_memory

V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def make_group(folder, version, limit, used, droppable=400):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(version, (f"{limit}\n", f"{used}\n"), strict=False):
        (folder / name).write_text(text)
    (folder / "memory.stat").write_text(f"anon 1\n{version[2]} {droppable}\n")


def set_membership(root, lines):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)


def test_free_memory_is_the_containers_where_that_is_less(tmp_path):
    assert 10_000 < measure_free_memory(tmp_path) <= psutil.virtual_memory().total  # no such files
    container = tmp_path / "sys/fs/cgroup"
    make_group(container, V2, 5000, 3000)
    assert measure_free_memory(tmp_path) == 2400
    make_group(container, V2, 5000, 9000)
    assert measure_free_memory(tmp_path) == 0
    make_group(container, V2, "max", 9000)
    assert measure_free_memory(tmp_path) > 10_000


@pytest.mark.parametrize(
    ("version", "top", "membership"),
    [
        pytest.param(V2, "sys/fs/cgroup", "0::/slurm/job_7\n", id="v2"),
        pytest.param(V1, "sys/fs/cgroup/memory", "5:cpu,memory:/slurm/job_7\n4:pids:/other\n0::/\n", id="v1"),
    ],
)
def test_free_memory_is_that_of_the_process_group_and_of_those_around_it(tmp_path, version, top, membership):
    set_membership(tmp_path, membership)
    make_group(tmp_path / top / "slurm/job_7", version, 5000, 3000)
    make_group(tmp_path / top / "other", version, 10, 0)
    assert measure_free_memory(tmp_path) == 2400
    make_group(tmp_path / top / "slurm", version, 5000, 4000)
    assert measure_free_memory(tmp_path) == 1400


def test_group_that_the_container_does_not_show_is_ignored(tmp_path):
    set_membership(tmp_path, "4:memory:/docker/0123\n")
    make_group(tmp_path / "sys/fs/cgroup/memory", V1, 5000, 3000)
    assert measure_free_memory(tmp_path) == 2400
