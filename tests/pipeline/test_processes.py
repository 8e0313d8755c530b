"""Ordered map over worker processes: order, a bound on what waits, killed workers, Ctrl-C, scripts without a guard."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import pytest
from helpers.killing import double
from helpers.waiting import wait_until

from pipeline.execution.processes import map_in_processes


def test_results_come_in_order_and_few_items_are_taken_ahead():
    taken = []

    def take():
        for number in range(40):
            taken.append(number)
            yield number

    found = []
    for result in map_in_processes(double, take(), lambda item: None, workers=2, ahead=3):
        found.append(result)
        assert len(taken) <= len(found) + 3
        time.sleep(0.002)
    assert found == [2 * number for number in range(40)]


def test_killed_worker_costs_the_item_that_kills_it_alone():
    items = [1, 2, -1, 3, 4, -2, 5]
    found = list(map_in_processes(double, items, lambda item: f"lost {item}", workers=2, ahead=3))
    assert found == [2, 4, "lost -1", 6, 8, "lost -2", 10]


def run_script(tmp_path, text: str) -> subprocess.Popen:
    script = tmp_path / "script.py"
    script.write_text(text, encoding="utf-8")
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
        # Tests that a shell started in the background hand on that it is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


IMPORTS = """from helpers.killing import double, sleep_long
from pipeline.execution.processes import map_in_processes
from pipeline.execution.tasks import run_tasks
"""


@pytest.mark.parametrize(
    "call",
    [
        "map_in_processes(double, [1, 2], str, workers=1, ahead=2)",
        "(result for _, result in run_tasks(double, [1, 2], workers=1))",
        "(result for _, result in run_tasks(lambda number: 2 * number, [1, 2], workers=1))",
    ],
)
def test_script_without_a_guard_runs_once(tmp_path, call):
    process = run_script(tmp_path, f"{IMPORTS}print('run', sorted({call}), __file__)")
    output, errors = process.communicate(timeout=60)
    assert (output, errors) == (f"run [2, 4] {tmp_path / 'script.py'}\n", "")


def list_children(process: subprocess.Popen) -> list[str]:
    found = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    )
    return [line.split()[0] for line in found.stdout.splitlines() if "spawn_main" in line]


def test_interrupt_of_all_processes_ends_the_workers_without_a_word(tmp_path):
    process = run_script(
        tmp_path,
        IMPORTS + 'if __name__ == "__main__":\n    list(map_in_processes(sleep_long, [1, 2], str, workers=2, ahead=2))',
    )
    wait_until(lambda: len(list_children(process)) == 2, "two workers", process=process)
    children = list_children(process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert errors.count("Traceback") == 1  # that of the script itself
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    assert not any(os.path.exists(f"/proc/{child}") for child in children)


def test_repeated_interrupts_of_a_cluster_are_answered_once(tmp_path):
    process = run_script(
        tmp_path,
        IMPORTS
        + "def tasks():\n    print('begun', flush=True)\n    yield 1\n"
        + 'if __name__ == "__main__":\n    list(run_tasks(sleep_long, tasks(), workers=1))',
    )
    assert process.stdout.readline() == "begun\n"
    errors = None
    while errors is None:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            errors = process.communicate(timeout=0.2)[1]
    assert errors.splitlines()[0] == "stopping; finished shards are kept"
    assert errors.count("Traceback") == 1  # that of the script itself
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
