"""Ctrl-C is answered at once, also within a computation that Python cannot interrupt."""

import signal
import subprocess
import sys
from pathlib import Path

# The hash takes minutes, and runs no handler of a signal meanwhile.
CODE = """
import hashlib
from train.loop import signals
signals._PATIENCE = 0.1
with signals.StopSignals(exits=True) as stop:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_signals_in_a_long_computation_are_answered_at_once_and_the_second_ends_it():
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "stopping after this step; press again to stop now\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopped at once, without saving; resume with")
        assert process.wait(20) == 130
