"""What is installed: every extra that a text names, every sub-package, the files beside the code, and the image."""

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


@pytest.fixture(scope="module")
def dockerfile():
    """Its instructions as (name, arguments), continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def test_dockerfile_copies_what_an_installation_needs(setup, dockerfile):
    copied = [one.split() for name, one in dockerfile if name == "COPY" and not one.startswith("--from")]
    sources = {source for *sources, _ in copied for source in sources}
    assert sources >= {"setup.cfg", "pyproject.toml", "constraints.txt", *PACKAGES}
    assert setup["metadata"]["long_description"].removeprefix("file: ") in sources
    assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == sources
    assert all(target == source for *_, source, target in copied if source in PACKAGES)  # else the packages are merged


def test_dockerfile_installs_extras_that_exist_on_the_tested_python(setup, dockerfile):
    [extras] = [one.removeprefix("EXTRAS=") for name, one in dockerfile if name == "ARG"]
    assert set(extras.split(",")) <= setup["options.extras_require"].keys()
    [tested] = re.findall(r"tested with on Python ([0-9.]+);", (ROOT / "constraints.txt").read_text())
    images = [one.split()[0] for name, one in dockerfile if name == "FROM"]
    assert len(images) == 2
    assert len(set(images)) == 1  # the virtual environment's links hold in the same image alone
    assert images[0].startswith(f"python:{tested}-slim")
    assert [one for name, one in dockerfile if name == "USER"] == ["1000"]  # no root


def test_commands_that_texts_run_in_the_image_exist(setup):
    commands = {line.split(" = ")[0] for line in setup["options.entry_points"]["console_scripts"].split("\n") if line}
    named = {text: re.findall(r"docker run .*?spectral-detector ([a-z]+)", (ROOT / text).read_text()) for text in TEXTS}
    assert {one for found in named.values() for one in found} >= {"predict", "page"}
    assert all(set(found) <= commands for found in named.values())
