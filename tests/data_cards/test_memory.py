"""Free memory: the smaller of what the machine and the container have left."""

import psutil

from data_cards.core import memory


def test_free_memory_is_the_containers_where_that_is_less(tmp_path, monkeypatch):
    files = [str(tmp_path / name) for name in ("max", "current", "stat")]
    monkeypatch.setattr(memory, "_CGROUPS", ((*files, "inactive_file"),))
    assert memory.measure_free_memory() <= psutil.virtual_memory().total  # no such files
    for name, text in {"max": "5000\n", "current": "3000\n", "stat": "anon 1\ninactive_file 400\n"}.items():
        (tmp_path / name).write_text(text)
    assert memory.measure_free_memory() == 2400
    (tmp_path / "current").write_text("9000")
    assert memory.measure_free_memory() == 0
    (tmp_path / "max").write_text("max\n")
    assert memory.measure_free_memory() > 10_000
