"""Compare folders to the byte, and name the files that differ."""

from pathlib import Path


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder by its relative path, with forward slashes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def assert_same_files(found: Path | dict[str, bytes], expected: Path | dict[str, bytes]) -> None:
    """Fail unless two folders hold the same files with the same bytes; a dict is what `read_files` returned earlier."""
    found, expected = (one if isinstance(one, dict) else read_files(one) for one in (found, expected))
    differences = [f"missing: {name}" for name in sorted(expected.keys() - found.keys())]
    differences += [f"added: {name}" for name in sorted(found.keys() - expected.keys())]
    differences += [
        f"differs: {name}, from byte {_first_difference(found[name], content)} on "
        f"({len(found[name])} bytes, expected {len(content)})"
        for name, content in expected.items()
        if name in found and found[name] != content
    ]
    if differences:
        raise AssertionError("\n".join([f"{len(differences)} files are not as expected", *differences[:20]]))


def _first_difference(found: bytes, expected: bytes) -> int:
    shorter = min(len(found), len(expected))
    return next((at for at in range(shorter) if found[at] != expected[at]), shorter)
