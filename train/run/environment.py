"""Environment of a run: versions, machine, and the git commit of the folder that it was started in."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.features.versions import get_program_version

_LIBRARIES = ("torch", "numpy", "scipy", "zarr", "numcodecs", "safetensors")
_TIMEOUT = 5  # seconds to wait for git


def collect_versions() -> dict[str, str]:
    """Collect the versions of this program, of Python and of the libraries that a run's numbers depend on."""
    found = {"program": get_program_version(), "python": platform.python_version(), "platform": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # runs from a place where it was not installed by its name
            found[name] = "unknown"
    return found


def find_commit(folder: Path) -> dict[str, object] | None:
    """Find the git commit of a folder and whether tracked files differ from it; None without a repository.

    Also None for any failure of git: it is not a reason to refuse a run.
    """
    # No lock: another git may be at work in the repository.
    start = ["git", "--no-optional-locks", "-C", str(folder)]
    try:
        commit = _run_git([*start, "rev-parse", "--verify", "HEAD"])
        changed = _run_git([*start, "status", "--porcelain", "--untracked-files=no"])
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return {"commit": commit, "dirty": bool(changed)}


def _run_git(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT, stdin=subprocess.DEVNULL)
    return done.stdout.decode("utf-8").strip()
