"""Commands that install extras."""

import configparser
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from data_cards.core import extras

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = ("s3", "tensorboard", "onnx", "page", "video", "parquet", "heif")


@pytest.mark.parametrize("extra", EXTRAS)
def test_install_command_of_an_installed_program_names_the_libraries(extra, monkeypatch, tmp_path):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    wanted = config["options.extras_require"][extra].split()
    monkeypatch.setattr(extras, "_SOURCE", tmp_path)
    monkeypatch.setattr(extras, "requires", lambda name: [f"{one}; extra == '{extra}'" for one in wanted] + ["numpy"])
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    assert shlex.split(extras.format_install(extra)) == ["/my env/bin/python", "-m", "pip", "install", *wanted]


def test_install_command_of_an_environment_without_pip_uses_uv(monkeypatch, tmp_path):
    (tmp_path / "uv").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    command = shlex.split(extras.format_install("page"))
    assert command[:5] == ["uv", "pip", "install", "--python", sys.executable]


def test_install_command_of_a_program_in_its_source_is_that_of_the_documentation(monkeypatch, tmp_path):
    page = (ROOT / "docs/verdicts.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    assert re.search(r"    pip (install .*page.*)", page)[1] in extras.format_install("page")
    monkeypatch.chdir(tmp_path)
    assert shlex.split(extras.format_install("page"))[-4:] == ["-c", f"{ROOT}/constraints.txt", "-e", f"{ROOT}[page]"]


def test_install_command_of_a_copy_that_is_not_installed_names_its_folder(monkeypatch, tmp_path):
    def fail(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "_SOURCE", tmp_path)
    monkeypatch.setattr(extras, "requires", fail)
    assert shlex.split(extras.format_install("page"))[-1] == f"{tmp_path}[page]"
