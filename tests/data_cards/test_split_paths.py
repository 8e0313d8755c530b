"""Paths with spaces that were given without quotes."""

import pytest

from data_cards.core.split_paths import format_split_paths


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
