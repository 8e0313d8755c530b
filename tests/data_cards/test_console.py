"""Progress where there is no terminal."""

import pytest

from data_cards.core import console


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    with console.progress_bar(what="judging", unit="files", total=2) as bar:
        bar.mininterval = 0
        capsys.readouterr()
        bar.update()
        console.note("a note")
    lines = capsys.readouterr().err.splitlines()
    assert "judging: 1 of 2 files, 00:00 so far, 00:00 left" in lines
    assert "a note" in lines


@pytest.mark.parametrize("shown", [True, False])
def test_progress_of_short_work_without_a_terminal_is_silent(capsys, shown):
    for _ in console.progress_bar(range(3), what="judging", unit="files", shown=shown):
        pass
    assert capsys.readouterr().err == ""
