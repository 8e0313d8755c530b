"""`pipeline.builder` estimates: the cost of a build, and refusal where the disk is too small."""

import errno
import json
import os
import re
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from data_cards.core.errors import UserError
from data_cards.core.text import format_bytes
from pipeline.builder import estimate as estimate_module
from pipeline.builder.build import build_store
from pipeline.builder.estimate import (
    Estimate,
    Measured,
    extrapolate,
    format_estimate,
    longest_share,
    measure_samples,
    translating_full_disk,
)
from pipeline.cli.main import main
from pipeline.features.settings import FeatureSettings
from pipeline.store.settings import BuildSettings

SETTINGS = BuildSettings(FeatureSettings(size=64))


def test_the_estimate_is_near_the_truth(kaggle_dir, tmp_path):
    out = tmp_path / "a.zarr"
    foreseen = build_store([str(kaggle_dir)], out, SETTINGS, workers=0, dry_run=True).estimate
    assert not list(tmp_path.glob("a.zarr*"))
    summary = build_store([str(kaggle_dir)], out, SETTINGS, workers=0)
    stored = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    assert foreseen.samples == summary.plan.rows
    assert 0.95 < foreseen.bytes / stored < 1.2
    assert foreseen.free > 0
    again = build_store([str(kaggle_dir)], out, SETTINGS, workers=0, dry_run=True)
    assert again.estimate is None


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        pytest.param(0, "free), about 8.0 s", id="this process"),
        pytest.param(1, "free), about 8.0 s with 1 worker", id="one worker"),
        pytest.param(2, "free), about 8.0 s with 2 workers", id="two workers"),
    ],
)
def test_format_estimate_names_the_workers(workers, words):
    assert format_estimate(Estimate(1600, 2, 1, 8.0, 1000, workers)).endswith(words)


def test_dry_run_prints_the_time_before_samples_too(kaggle_dir, tmp_path):
    for asked, workers in (("0", 0), ("3", 1)):  # more workers than shards have nothing to do
        options = ["--src", str(kaggle_dir), "--out", str(tmp_path / "a.zarr"), "--workers", asked, "--dry-run"]
        result = CliRunner().invoke(main, ["build", *options])
        assert "scan, audit and this estimate took" in result.stdout
        assert re.search(r"^test +fake +8 +2 +diffusion, gan$", result.stdout, re.MULTILINE)
        assert (
            json.loads(CliRunner().invoke(main, ["build", *options, "--json"]).stdout)["estimate"]["workers"] == workers
        )


def test_extrapolate_follows_measured_sizes_and_bounds_others():
    known, seconds = np.array([1_000_000, 10_000, 10_000]), np.array([2.0, 0.1, 0.3])
    pixels = np.array([10_000, 100_000, 1_000_000, 4_000_000, 5_000])
    np.testing.assert_allclose(extrapolate(known, seconds, pixels), [0.2, 0.4**0.5, 2.0, 4.0, 0.1])
    assert extrapolate(known[:0], seconds[:0], pixels).tolist() == [0] * 5


@pytest.mark.parametrize(
    ("waited", "idle", "workers", "cores", "slowdown"),
    [
        pytest.param(1.0, 1.0, 2, 2, 1, id="quiet"),
        pytest.param(1.0, 0.0, 2, 2, 1.5, id="another program on one core"),
        pytest.param(2.0, 0.0, 2, 2, 2.5, id="three other programs"),
        pytest.param(2.0, 0.0, 1, 2, 2, id="three other programs, one worker"),
        pytest.param(1.0, 0.0, 8, 2, 1.125, id="many workers"),
        pytest.param(1.0, 90.0, 2, 2, 1, id="idle cores beyond those of this container"),
        pytest.param(3.0, 62.0, 1, 1, 3, id="two other programs on the one core of this container"),
    ],
)
def test_slowdown_is_the_share_of_busy_cores(waited, idle, workers, cores, slowdown):
    assert Measured([0], [1.0], np.ones(1), waited, idle).slowdown(workers, cores) == pytest.approx(slowdown)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system gives a process every core")
@pytest.mark.parametrize(
    ("allowed", "idle"),
    [
        pytest.param({1}, 0, id="its core is busy"),
        pytest.param({0, 1}, 1, id="one of its cores is idle"),
        pytest.param({5}, 3, id="cores of a container have other numbers"),
    ],
)
def test_idle_time_is_of_the_cores_that_this_process_may_use(kaggle_dir, monkeypatch, allowed, idle):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed)

    def read_times(percpu=False):
        of_core = [SimpleNamespace(idle=7.0 if core == 1 else time.monotonic()) for core in range(4)]
        return of_core if percpu else SimpleNamespace(idle=sum(one.idle for one in of_core))

    monkeypatch.setattr(estimate_module.psutil, "cpu_times", read_times)
    pictures = [(path, bytes(32)) for path in sorted(kaggle_dir.rglob("*.png"))[:1]]
    assert measure_samples(pictures, SETTINGS).idle == pytest.approx(idle, abs=0.1)


def test_a_disk_too_small_is_refused_with_advice(kaggle_dir, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(estimate_module.shutil, "disk_usage", lambda _: usage)
    result = CliRunner().invoke(
        main, ["build", "--src", str(kaggle_dir), "--out", str(tmp_path / "a.zarr"), "--size", "64", "--workers", "0"]
    )
    assert result.exit_code == 1
    for advice in ("1.0 kB are free", "--size", "--variants clean", "fewer pictures"):
        assert advice in result.stderr
    assert not list(tmp_path.glob("a.zarr*"))


@pytest.mark.parametrize(
    ("shards", "workers", "cores", "longest"),
    [
        pytest.param([8, 8, 8, 8], 2, 2, 16, id="even"),
        pytest.param([8, 8, 8], 2, 2, 16, id="one waits for the other"),
        pytest.param([8, 8, 2], 2, 2, 10, id="ragged"),
        pytest.param([8, 3], 16, 16, 8, id="more workers than shards"),
        pytest.param([8, 8, 8, 8], 4, 2, 16, id="more workers than cores"),
        pytest.param([8, 8], 0, 2, 16, id="here"),
    ],
)
def test_time_is_that_of_the_workers_that_have_something_to_do(shards, workers, cores, longest):
    assert longest_share(shards, workers, cores) == longest


def test_a_disk_that_fills_up_is_told_what_is_still_needed(kaggle_dir, tmp_path):
    def fill(missing):
        with translating_full_disk("a.zarr", summary.plan, summary.estimate, lambda: missing):
            raise OSError(errno.ENOSPC, "No space left on device")

    summary = build_store([str(kaggle_dir)], tmp_path / "a.zarr", SETTINGS, workers=0, dry_run=True)
    for missing, needed in (([0], summary.estimate.bytes), ([], summary.estimate.tables)):
        amount = format_bytes(round(needed))
        with pytest.raises(UserError, match=f"a.zarr: the disk is full; about {amount} more are needed, .* are free"):
            fill(missing)


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--dry-run", "--json"]])
def test_dry_run_only_says(kaggle_dir, tmp_path, arguments):
    out = tmp_path / "deep/down/a.zarr"
    result = CliRunner().invoke(
        main, ["build", "--src", str(kaggle_dir), "--out", str(out), "--size", "32", "--workers", "0", *arguments]
    )
    assert result.exit_code == 0, result.stderr
    assert "128" in result.stdout
    assert not (tmp_path / "deep").exists()
