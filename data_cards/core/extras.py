"""Command that installs the libraries of an extra of this program (setup.cfg)."""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

from data_cards.core.console import PROGRAM

_SOURCE = Path(__file__).resolve().parents[2]
_CONSTRAINTS = "constraints.txt"


def format_install(extra: str) -> str:
    """Return a shell command that installs an extra's libraries for this Python, in whichever folder it is typed.

    It is the command of the documentation if the program runs from its source, and else names the libraries.
    """
    if (_SOURCE / _CONSTRAINTS).exists():
        folder = Path() if Path.cwd() == _SOURCE else _SOURCE
        return " ".join([_find_installer(), "-c", quote(str(folder / _CONSTRAINTS)), "-e", quote(f"{folder}[{extra}]")])
    try:
        wanted = [text.partition(";") for text in requires(PROGRAM) or ()]
    except PackageNotFoundError:  # the program runs from a copy, uninstalled
        wanted = []
    named = [name.strip() for name, _, marker in wanted if f'extra=="{extra}"' in _squeeze(marker)]
    return " ".join([_find_installer(), *map(quote, named or [f"{_SOURCE}[{extra}]"])])


def _squeeze(marker: str) -> str:
    return marker.replace(" ", "").replace("'", '"')


def _find_installer() -> str:
    """Return "pip install" if that installs for this Python, else a command that does."""
    found, python = shutil.which("pip"), Path(sys.executable)
    if find_spec("pip") is None and shutil.which("uv"):  # uv makes environments without pip
        return f"uv pip install --python {quote(str(python))}"
    return "pip install" if found and Path(found).parent == python.parent else f"{quote(str(python))} -m pip install"
