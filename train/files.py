"""Files that are whole or not there: written under a temporary name, then renamed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"  # behind the name of a file that is being written, or was when its writer was killed


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file takes its own name only if the block ends well, and is on the disk."""
    temporary = path.with_name(path.name + PARTIAL)
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())  # else a power failure may leave the name with nothing in it
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: dict) -> None:
    """Write JSON, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
