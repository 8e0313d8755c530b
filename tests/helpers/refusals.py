"""What a command prints when it refuses."""

from click.testing import Result


def assert_refused(result: Result, status: int, *texts: str) -> None:
    """One line on stderr that holds the texts, nothing on stdout, and that exit status."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for text in texts:
        assert text in lines[0]
