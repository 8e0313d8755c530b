"""Paths with spaces that were given without quotes."""

import pytest
from click.testing import CliRunner

from data_cards.core.split_paths import format_split_paths
from pipeline.cli.main import main


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["my", "photos"], ["my photos"]),
        (["a.jpg", "my", "photos", "a.jpg"], ["my photos"]),
        (["my", "photos", "all", "of", "it"], ["my photos", "all of it"]),
        (["my", "absent"], []),
        (["a.jpg", "b.jpg"], []),  # both are there
        (["my photos"], []),
        ([], []),
    ],
)
def test_words_that_name_a_path_together_are_asked_about(tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    for name in ("my photos", "all of it", "a.jpg", "b.jpg", "a.jpg b.jpg"):
        (tmp_path / name).mkdir()
    assert format_split_paths(words) == [f'did you mean "{one}"? Quote a path with spaces' for one in expected]


@pytest.mark.parametrize(
    "command",
    ["build --src", "audit --src", "subset --out x --src", "verify", "card", "card --src", "card --diff pictures"],
)
def test_commands_ask_about_a_path_that_was_given_without_quotes(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My Pictures").mkdir()
    result = CliRunner().invoke(main, [*command.split(), "My", "Pictures"])
    assert result.exit_code == 2
    assert 'did you mean "My Pictures"? Quote a path with spaces' in result.stderr
