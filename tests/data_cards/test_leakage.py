"""Near-duplicates across splits and classes: listed, drawn, refused by a build, left out of a report's scores."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise, make_kaggle_dir
from PIL import Image

from data_cards.core.errors import UserError
from data_cards.dataset.leakage import Side, find_leaks, format_leaks, plot_contact_sheet
from data_cards.dataset.scan import scan_sources
from eval.report.report import make_report
from pipeline.cli.main import main


@pytest.fixture
def leaking(kaggle_dir):
    """The set with one training picture again in test, smaller and saved anew, and one fake again as real."""
    draw_noise(1, 40).resize((30, 24)).save(kaggle_dir / "test/real/camera/again.jpg", quality=60)
    twice = kaggle_dir / "train/fake/gan/0.jpg"
    (kaggle_dir / "train/real/camera/twice.jpg").write_bytes(twice.read_bytes())
    return kaggle_dir


def build(source, out, *arguments):
    return CliRunner().invoke(
        main, ["build", "--src", str(source), "--out", str(out), "--size", "16", "--workers", "0", "--variants",
               "clean", *arguments])  # fmt: skip


def test_groups_across_splits_and_classes_are_listed(leaking):
    leaks = find_leaks(scan_sources([str(leaking)], max_pixels=10**8).pictures)
    (splits,), (classes,) = leaks.across(Side.SPLIT), leaks.across(Side.CLASS)
    assert [one.file.split for one in splits.pair] == ["test", "train"]
    assert {one.file.label for one in classes.pair} == {"real", "fake"}
    assert leaks.worst == [splits.pictures, classes.pictures]
    found = leaks.to_dict()
    assert (found["groups_across_splits"], found["groups_across_classes"], found["exact_copies"]) == (1, 1, 1)
    assert [one["split"] for one in found["across_splits"][0]] == ["test", "train"]
    assert {one["class"] for one in found["across_classes"][0]} == {"real", "fake"}
    text = "\n".join(format_leaks(leaks))
    for picture in (*splits.pictures, *classes.pictures):
        assert str(picture.file.path) in text
    assert format_leaks(find_leaks([])) == ["no near-duplicate pictures"]


def test_contact_sheet_shows_both_sides_of_each_group(leaking, tmp_path):
    leaks = find_leaks(scan_sources([str(leaking)], max_pixels=10**8).pictures)
    assert plot_contact_sheet(leaks.worst, tmp_path / "sheet.png", 10**8) == 2
    with Image.open(tmp_path / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    # The two pictures of the first row, side by side, are alike; the row below shows something else.
    middle = [pixels[60:100, left : left + 40] for left in (60, 60 + 168)]
    assert np.abs(middle[0] - middle[1]).mean() < 25
    assert pixels.shape == (8 + 2 * 202, 8 + 2 * 168, 3)
    with pytest.raises(UserError, match="name a file in a folder"):
        plot_contact_sheet(leaks.worst, tmp_path / "none/none.png", 10**8)


def test_build_refuses_given_splits_that_leak(leaking, tmp_path):
    refused = build(leaking, tmp_path / "a.zarr")
    assert refused.exit_code == 1
    message = refused.stderr.splitlines()[-1]
    for words in (
        "again.jpg",
        "1 group",
        "across splits",
        "--contact-sheet FILE.png` lists and draws",
        "--allow-leakage",
    ):
        assert words in message
    assert not (tmp_path / "a.zarr").exists()
    allowed = build(leaking, tmp_path / "a.zarr", "--allow-leakage")
    assert allowed.exit_code == 0, allowed.output
    for words in ("warning: 1 group", "across splits", "across classes", "twice.jpg"):
        assert words in allowed.stderr


def test_build_without_leaks_does_not_warn(kaggle_dir, tmp_path):
    result = build(kaggle_dir, tmp_path / "a.zarr")
    assert result.exit_code == 0
    assert "near-duplicate" not in result.stderr


def test_report_scores_with_and_without_leaked_pictures(tmp_path):
    import zarr

    store = make_store(tmp_path / "a.zarr")
    group = zarr.open_group(store, mode="r+")
    splits, groups = group["split"][:], group["group"][:]
    tested, trained = np.flatnonzero(splits == "test"), np.flatnonzero(splits == "train")
    groups[tested[:3]] = groups[trained[:3]]
    group["group"][:] = groups
    report = make_report(make_run(tmp_path / "run", store), device="cpu", progress=False)
    scopes = json.loads(report.json.read_text())["scopes"]
    assert {name: part["pictures"] for name, part in scopes.items()} == {"clean": 12, "unleaked": 9}
    assert "3 of 12 pictures were in the run's training" in report.contents["warnings"][0]
    assert report.contents["warnings"][0].endswith("can be too high; read those without leaked pictures")
    assert "without leaked pictures" in report.html.read_text()


def test_report_finds_near_duplicates_in_the_store_that_the_run_was_trained_on(tmp_path):
    build(make_kaggle_dir(tmp_path / "one"), tmp_path / "one.zarr")
    other = make_kaggle_dir(tmp_path / "other", first_seed=500)
    draw_noise(1, 40).save(other / "test/real/camera/0.jpg", quality=55)  # a training picture of the first set
    build(other, tmp_path / "other.zarr")
    run = make_run(tmp_path / "run", tmp_path / "one.zarr")
    report = make_report(run, tmp_path / "other.zarr", device="cpu", progress=False)
    pictures = {name: part["pictures"] for name, part in report.contents["scopes"].items()}
    assert pictures == {"clean": 16, "unleaked": 15}
