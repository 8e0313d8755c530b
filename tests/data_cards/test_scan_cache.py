"""A scan remembers files by path, size, time and hash; a changed file is read again, a damaged cache is not used."""

import os
import time

import pytest
from helpers.pictures import draw_noise

from data_cards.dataset import scan as scan_module
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.scan_cache import ENVIRONMENT


@pytest.fixture
def pictures(kaggle_dir, tmp_path, monkeypatch):
    """The small set with files that are an hour old, and a cache folder of its own."""
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "cache"))
    for path in kaggle_dir.rglob("*.*"):
        age(path)
    return kaggle_dir


def age(path, seconds=3600):
    before = time.time() - seconds
    os.utime(path, (before, before))


@pytest.fixture
def decoded(monkeypatch):
    """Hashes of the files that a scan decodes."""
    seen = []
    measure = scan_module.compute_facts
    monkeypatch.setattr(scan_module, "compute_facts", lambda *values: seen.append(values[1]) or measure(*values))
    return seen


def scan(folder, **options):
    return scan_sources([str(folder)], max_pixels=options.pop("max_pixels", 10**8), **options)


def test_second_scan_decodes_nothing_and_is_equal(pictures, decoded):
    first = scan(pictures)
    assert len(decoded) == 32
    decoded.clear()
    assert scan(pictures) == first
    assert decoded == []
    assert scan(pictures, cache=False) == first
    assert len(decoded) == 32


def test_moved_or_touched_file_is_found_by_its_hash(pictures, decoded):
    scan(pictures)
    decoded.clear()
    (pictures / "train/real/camera/0.jpg").rename(pictures / "train/real/camera/moved.jpg")
    age(pictures / "train/real/camera/2.jpg", 60)
    scan(pictures)
    assert decoded == []


def test_changed_file_is_read_again(pictures, decoded):
    before = scan(pictures).pictures[0]
    decoded.clear()
    path = before.file.path
    draw_noise(77, 44).save(path)
    age(path, 60)
    after = scan(pictures).pictures[0]
    assert len(decoded) == 1
    assert after.facts.sha256 != before.facts.sha256


@pytest.mark.parametrize("how", ["replaced", "written in place"])
def test_changed_file_of_the_same_size_and_time_is_read_again(pictures, decoded, how):
    path = pictures / "train/real/camera/picture.bmp"
    draw_noise(50, 40).save(path)
    age(path)
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    before = facts_of(path, pictures)
    decoded.clear()
    other = path.with_suffix(".other") if how == "replaced" else path
    draw_noise(51, 40).save(other, format="BMP")
    os.utime(other, ns=times)
    other.rename(path)
    assert facts_of(path, pictures).sha256 != before.sha256
    assert len(decoded) == 1


def facts_of(path, folder):
    return next(one.facts for one in scan(folder).pictures if one.file.path == path)


def test_file_that_changed_a_moment_ago_is_not_cached(pictures, decoded):
    path = scan(pictures).pictures[0].file.path
    first, second = (draw_noise(seed, 40) for seed in (50, 51))
    for picture in (first, second):
        picture.convert("L").save(path.with_suffix(".bmp"))  # the same size, perhaps within a step of the clock
        facts = next(one.facts for one in scan(pictures).pictures if one.file.path.suffix == ".bmp")
        decoded.append(facts.phash)
    assert decoded[-1] != decoded[-3]


def test_smaller_limit_of_pixels_applies_to_cached_facts(pictures):
    everything = scan(pictures).pictures
    smaller = scan(pictures, max_pixels=36 * 32)
    assert len(smaller.set_aside) == sum(one.facts.width > 36 for one in everything) > 0
    assert "--max-pixels" in smaller.set_aside[0].reason


@pytest.mark.parametrize("damage", ["garbage", "folder", "rows"])
def test_damaged_cache_is_not_used(pictures, tmp_path, damage):
    first = scan(pictures)
    (path,) = (tmp_path / "cache").glob("*.sqlite")
    if damage == "garbage":
        path.write_bytes(b"no database at all" * 100)
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(path)) as database, database:
            database.execute("update files set facts = '{}'")
    assert scan(pictures) == first


def test_scan_does_not_depend_on_the_number_of_threads(pictures):
    assert scan(pictures, threads=1, cache=False) == scan(pictures, threads=7, cache=False)
