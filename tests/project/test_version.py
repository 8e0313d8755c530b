"""Every command prints the program's version."""

from importlib.metadata import version

import pytest
from click.testing import CliRunner

from eval.cli.main import cli as eval_cli
from eval.cli.predict import page, predict
from pipeline.cli.main import main as pipeline_cli
from train.cli import cli as train_cli


@pytest.mark.parametrize("command", [pipeline_cli, train_cli, eval_cli, eval_cli.commands["report"], predict, page])
def test_version_is_that_of_the_installed_program(command):
    result = CliRunner().invoke(command, ["--version"])
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith(version("spectral-detector"))
