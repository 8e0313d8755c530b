"""README.md shows what the commands print, apart from numbers."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.simulate.sample_set import draw_picture, write_sample

ROOT = Path(__file__).parents[2]


def _read_examples() -> list[tuple[str, list[str]]]:
    """Return each command after "$ " in README.md, with the lines that it prints; "..." is for lines left out."""
    examples = []
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "README.md").read_text(), re.MULTILINE):
        lines = [line[4:] for line in block.splitlines() if line.strip()]
        if lines[0].startswith("$ "):
            examples.append((lines[0][2:], [line for line in lines[1:] if line != "..."]))
    return examples


def _mask(line: str) -> str:
    """Replace numbers, bytes and durations, and runs of spaces and rules, whose lengths depend on the numbers."""
    masked = re.sub(r"\d+(?:[.,]\d+)*(?: [kM]B\b)?", "0", re.sub(r"\d+ (min|h) (?=\d)", "", line))
    masked = re.sub(r"\b0 (s|min)\b", "0 s", masked)
    return re.sub(r"[ -]{2,}", " ", masked).strip()


@pytest.mark.timeout(600)  # four commands, each a process of its own
def test_readme_shows_what_the_commands_print(tmp_path):
    examples = _read_examples()
    assert [command for command, _ in examples] == [
        "predict holiday.jpg",
        "pipeline build --src pictures",
        "train run --store features.zarr",
        "eval report",
    ]

    def run(command: str) -> list[str]:
        first, *rest = shlex.split(command)
        words = [sys.executable, "-m", *(("eval", first) if first == "predict" else (first,)), *rest]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [_mask(line) for line in (done.stderr + done.stdout).splitlines()]

    write_sample(tmp_path / "pictures", train_per_source=12, test_per_source=6)
    pixels, quality, subsampling = draw_picture(0, "test", "real", "camera-b", 0, size=800)
    Image.fromarray(pixels).save(tmp_path / "holiday.jpg", quality=quality, subsampling=subsampling)
    for command, shown in examples:
        printed = run(command)
        missing = [line for line in shown if _mask(line) not in printed]
        assert not missing, f"README.md shows what `{command}` does not print: {missing}; it prints {printed}"
