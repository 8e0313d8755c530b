"""What is installed: every extra that a text tells to install, every sub-package, and the files beside the code."""

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("data_cards", "pipeline", "train", "eval")
TEXTS = sorted(
    file.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "Makefile", ".ci/*", "docs/*.md", "notebooks/*.ipynb", *(f"{one}/**/*" for one in PACKAGES))
    for file in ROOT.glob(pattern)
    if file.suffix in ("", ".md", ".ipynb", ".py", ".html") and file.is_file()
)
EXTRA = re.compile(r"(?:spectral-detector|['\"]\.)\[([a-z0-9,_ -]+)\]")


@pytest.fixture(scope="module")
def setup():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def find_extras():
    """Every extra that a text names, with the texts that name it."""
    found = {}
    for text in TEXTS:
        for names in EXTRA.findall((ROOT / text).read_text()):
            for name in names.split(","):
                found.setdefault(name.strip(), []).append(text)
    return found


def test_extras_that_texts_name_exist(setup):
    named = find_extras()
    assert named.keys() >= {"page", "video", "s3", "onnx", "tensorboard", "dev"}
    defined = setup["options.extras_require"]
    missing = {name: texts for name, texts in named.items() if name not in defined}
    assert not missing


def test_dev_extra_holds_all_others(setup):
    defined = setup["options.extras_require"]
    [names] = EXTRA.findall(defined["dev"])
    assert {"dev", *names.split(",")} == set(defined)


def test_tensorboard_extra_brings_the_command_too(setup):
    assert "tensorboard>=" in setup["options.extras_require"]["tensorboard"]  # tensorboardX writes events alone


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_beside_the_code_is_installed(setup, package):
    patterns = [one.strip() for one in setup["options.package_data"]["*"].split(",")]
    for file in (ROOT / package).rglob("*"):
        if file.is_dir() or "__pycache__" in file.parts:
            continue
        if file.suffix == ".py":
            assert (file.parent / "__init__.py").exists(), f"{file.parent} is no package, so it is not installed"
        else:
            parent = next(one for one in file.parents if (one / "__init__.py").exists())
            assert any(file in parent.glob(pattern) for pattern in patterns), f"no package_data has {file}"
