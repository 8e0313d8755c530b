"""Local clusters that cannot start: workers that die, and a machine without a loopback address."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_cards.core.errors import UserError
from pipeline.execution.cluster import local_cluster

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")  # of Dask, which leaves coroutines behind
def test_local_cluster_whose_workers_die_is_refused(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        'import os, sys\nif "--multiprocessing-fork" in sys.orig_argv: os._exit(9)\n'
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    with pytest.raises(UserError, match=r"the worker processes do not start \(.+\); build in this process"):
        local_cluster(1).__enter__()


def test_local_cluster_without_loopback_is_refused():
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace without a loopback address can be made here")
    code = "from pipeline.execution.cluster import local_cluster; local_cluster(1).__enter__()"
    done = subprocess.run([unshare, "-rn", sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "UserError: 127.0.0.1: cannot be reached" in done.stderr
    assert "--workers 0" in done.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks there")
def test_workers_of_a_local_cluster_are_not_interrupted():
    """A terminal sends Ctrl-C to all processes of a command; a worker that it meets at its start prints a traceback."""
    from distributed import Client

    def read_blocked():
        return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())

    with local_cluster(1) as cluster, Client(cluster, set_as_default=False) as client:
        assert client.submit(read_blocked).result(timeout=60)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
