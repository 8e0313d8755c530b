"""Files that a stranger might make: small ones that unpack to much, and JSON with other values in it."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BLOCK = 2**17


@contextmanager
def bounded_memory(most: int) -> Iterator[None]:
    """Fail where the block takes more than `most` bytes at a time; elsewhere than on Linux it does not check."""
    before = _reset_peak()
    yield
    peak = _read_status("VmHWM") - before
    assert peak <= most, f"took {peak:,} bytes, expected at most {most:,}"


def _reset_peak() -> int:
    """Begin to measure the peak anew; returns the bytes that are resident now."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _read_status("VmRSS")


def _read_status(name: str) -> int:
    with suppress(OSError):
        found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        return 1024 * int(found[1])
    return 0


def zstd_bomb(size: int, declared: int | None = None, says_size: bool = True) -> bytes:
    """A zstd frame of a few bytes that unpacks to `size` zeros; it declares their number, another one, or none."""
    whole, rest = divmod(size, _BLOCK)
    blocks = [_BLOCK] * whole + [rest] * bool(rest)
    repeated = [
        ((number == len(blocks) - 1) | 1 << 1 | length << 3).to_bytes(3, "little") + b"\0"
        for number, length in enumerate(blocks)
    ]
    header = b"\xa0" + (size if declared is None else declared).to_bytes(4, "little") if says_size else b"\x00\x58"
    return b"\x28\xb5\x2f\xfd" + header + b"".join(repeated)


def edit_json(file: Path, path: str, value: Any) -> None:
    """Set the value at a path of keys and numbers, separated by slashes, in a JSON file."""
    document = json.loads(file.read_text(encoding="utf-8"))
    *keys, last = path.split("/")
    place = document
    for key in keys:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = value
    file.write_text(json.dumps(document), encoding="utf-8")


def deep_json(depth: int) -> str:
    """JSON of lists in one another."""
    return "[" * depth + "]" * depth
