"""The benchmarks run, each as a whole and as small as it goes: what no test runs breaks unseen."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.simulate.sample_set import write_sample

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks") / "pictures"
    write_sample(folder, train_per_source=12, test_per_source=2, size=64)
    return folder


def run(folder, name, *options):
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *options], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("build.py", "--src {src} --sizes 0,32 --samples 1 --trials 1", ["2 workers", "times as fast"]),
        (
            "levels.py",
            "--src {src} --pairs {src} --out study --size 16 --network small --epochs 1 --folds 2 --seeds 2",
            ["sources left out", "pairs", "coarse less fine", "rounded less fine", "fine, seed 1 less 0"],
        ),
        ("levels_speed.py", "--src {src} --size 16 --samples 8 --rounds 1", ["bytes", "read, cold, wall ms"]),
        ("memory.py", "--counts 100", ["planned, MB", "peak, MB"]),
        ("scan.py", "--src {src} --pictures 40", ["pictures a second", "near-duplicate search"]),
        ("stream.py", "--size 32 --rows 48 --rounds 1", ["this reader", "tensorstore"]),
    ],
)
def test_benchmark_runs(pictures, tmp_path, name, options, said):
    printed = run(tmp_path, name, *options.format(src=pictures).split())
    for words in said:
        assert words in printed


@pytest.mark.parametrize("name", ["build.py", "detection.py", "levels.py", "levels_speed.py", "scan.py", "verdict.py"])
def test_a_folder_that_does_not_exist_is_one_line(tmp_path, name):
    pairs = ["--pairs", "gone", "--out", "study"] if name in ("detection.py", "levels.py") else []
    command = [sys.executable, str(BENCHMARKS / name), "--src", "gone", *pairs]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr[:27]) == (1, "error: gone: no such folder")


def test_detection_study_runs_and_resumes(pictures, tmp_path):
    (tmp_path / "study.toml").write_text("folds = 2\npartitions = [0]\ngroups = []\npairs_of_same_quality = []\n")
    for source in sorted(pictures.glob("train/*/*")):  # four sources a class, so that two are left to calibrate on
        for number, file in enumerate(sorted(source.iterdir())):
            folder = tmp_path / "more" / source.parent.name / f"{source.name}{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder)
    command = [
        "detection.py",
        "--src",
        "more",
        "--pairs",
        str(pictures),
        "--out",
        "study",
        "--settings",
        "study.toml",
    ]
    printed = run(tmp_path, *command)
    for words in ("experts", "prototype", "trivial", "wrong of sure"):
        assert words in printed
    results = (tmp_path / "study/results.json").read_text()
    assert run(tmp_path, *command) == printed
    assert (tmp_path / "study/results.json").read_text() == results
