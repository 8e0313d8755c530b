"""Run a command that is killed, or stops for a look, at a chosen step of its writing: by count, not by the clock.

A step is a file opened to write, renamed or removed, or a folder made, whose path begins with `place`. The command is
stopped right before it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_STEPPING = """
import os, runpy, signal, sys

place, signal_name, every, first = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
sys.argv = sys.argv[5:]
steps = 0


def count_step(event, arguments):
    global steps
    if event == "open":
        writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    else:
        writes = event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
    if writes and str(arguments[0]).startswith(place):
        steps += 1
        if steps >= first and (steps - first) % every == 0:
            os.kill(os.getpid(), getattr(signal, signal_name))


sys.addaudithook(count_step)
runpy.run_module(sys.argv[0], run_name="__main__")
"""


def _start(place: Path, signal_name: str, first: int, every: int, command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", _STEPPING, str(place), signal_name, str(every), str(first), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run_until_step(place: Path, step: int, command: list[str]) -> bool:
    """Run `python -m` with a command that is killed by SIGKILL before a step; whether it came to that step."""
    with _start(place, "SIGKILL", step, sys.maxsize, command) as process:
        try:
            errors = process.communicate(timeout=300)[1]
        finally:
            process.kill()
    assert process.returncode in (0, -signal.SIGKILL), errors
    return process.returncode != 0


def stop_at_steps(place: Path, every: int, command: list[str]) -> Iterator[None]:
    """Run `python -m` with a command, and yield before each `every`th step, while the command stands still."""
    process = _start(place, "SIGSTOP", every, every, command)
    try:
        while os.WIFSTOPPED(status := os.waitpid(process.pid, os.WUNTRACED)[1]):
            yield
            os.kill(process.pid, signal.SIGCONT)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
