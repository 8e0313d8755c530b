"""Commands from their first moment: Ctrl-C while they load, and standard streams that are closed or not UTF-8."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = "from data_cards.core.startup import run_command; run_command('stages', 'main')"
STAGES = """
import sys, time
print("loading", flush=True)
if "load" in sys.argv: time.sleep(60)
def main():
    try: print("running", flush=True); time.sleep(60)
    except KeyboardInterrupt: print("handled", flush=True)
"""
NAMES = ["caf\u00e9", "\u7167\u7247", "\U0001f600"]
PRINTING = f"""
import sys
from data_cards.core.console import echo, print_json
def main():
    print_json({NAMES!a}) if "json" in sys.argv else echo(" ".join({NAMES!a}))
"""


def start(tmp_path, *arguments, **options):
    (tmp_path / "stages.py").write_text(STAGES)
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments],
        env=find_stages(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell started in the background hand on that it is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def find_stages(tmp_path):
    """Return the environment of a process that finds the module `stages`."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp437", "utf-8"])
def test_command_with_stdout_in_another_encoding_escapes_what_is_not_in_it(tmp_path, encoding):
    (tmp_path / "stages.py").write_text(PRINTING)
    environment = find_stages(tmp_path) | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", CODE]
    text, lines = (
        subprocess.run([*command, *mode], env=environment, capture_output=True, check=True).stdout
        for mode in ([], ["json"])
    )
    written = "utf-8" if encoding == "ascii" else encoding  # Click takes ASCII for a mistake
    assert text.decode(written).split() == [one.encode(written, "backslashreplace").decode(written) for one in NAMES]
    assert json.loads(lines.decode(written)) == NAMES


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
def test_run_command_interrupted_while_loading_ends_quietly(tmp_path):
    with start(tmp_path, "load") as process:
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGINT


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is no signal there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_command_interrupted_later_leaves_it_to_the_command(number, tmp_path):
    with start(tmp_path) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["loading\n", "running\n"]
        process.send_signal(number)
        assert process.communicate(timeout=30) == ("handled\n", "")


def test_entry_points_load_nothing_that_takes_time():
    code = "import sys, pipeline.__main__, train.__main__, eval.__main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"click", "numpy", "torch", "zarr", "dask"} & set(done.stdout.split())


@pytest.mark.skipif(os.name == "nt", reason="no shell that closes a stream")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_command_with_closed_streams_does_its_work(tmp_path, closed):
    command = f'"{sys.executable}" -m pipeline sample --out made --train-per-source 1 --test-per-source 1 --size 32'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-c", f"{command} {closed}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((tmp_path / "made").rglob("*.*"))) > 8
