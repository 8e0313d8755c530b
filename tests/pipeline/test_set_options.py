"""The commands on sets whose folders do not say it all: tables, declared names, patterns, generators."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.pictures import draw_noise

from pipeline.cli.main import main
from pipeline.store.reader import open_store

SMALL = ["--size", "16", "--variants", "clean", "--workers", "0"]


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


@pytest.fixture
def flat(tmp_path):
    """Twelve pictures in one folder, named after their source, and a table of their classes."""
    folder = tmp_path / "flat" / "images"
    folder.mkdir(parents=True)
    rows = ["id,target"]
    for number in range(12):
        source, label = (("coco", 0), ("phone", 0), ("sdxl", 1))[number % 3]
        draw_noise(number).save(folder / f"{source}_{number}.png")
        rows.append(f"{source}_{number},{label}")
    (tmp_path / "flat" / "train.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "flat"


def options(flat):
    return ["--labels", flat / "train.csv", "--meaning", "0=real,1=fake", "--source-pattern", r"([a-z]+)_\d"]


def count(store):
    columns = open_store(store).columns
    return sorted(set(zip(columns["label"].tolist(), columns["source"].tolist(), strict=True)))


def test_build_of_a_table_has_its_classes_and_sources_and_grows(flat, tmp_path):
    assert run("build", *options(flat), "--out", tmp_path / "a.zarr", *SMALL).exit_code == 0
    assert count(tmp_path / "a.zarr") == [(0, "coco"), (0, "phone"), (1, "sdxl")]
    draw_noise(99).save(flat / "images" / "sdxl_99.png")
    with open(flat / "train.csv", "a") as table:
        table.write("sdxl_99,1\n")
    result = run("build", *options(flat), "--out", tmp_path / "a.zarr", *SMALL, "--json")
    assert json.loads(result.stdout)["added"] == 1


def test_a_table_and_folders_make_the_same_features(flat, tmp_path):
    folders = tmp_path / "set"
    for picture in (flat / "images").iterdir():
        source = picture.stem.partition("_")[0]
        place = folders / ("fake" if source == "sdxl" else "real") / source / picture.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(picture, place)
    assert run("build", *options(flat), "--out", tmp_path / "a.zarr", *SMALL).exit_code == 0
    assert run("build", "--src", folders, "--out", tmp_path / "b.zarr", *SMALL).exit_code == 0
    one, other = open_store(tmp_path / "a.zarr"), open_store(tmp_path / "b.zarr")
    assert (one.columns["sha256"] == other.columns["sha256"]).all()
    assert (one.columns["split"] == other.columns["split"]).all()
    for name in sorted((tmp_path / "a.zarr" / "features" / "c").rglob("*")):
        if name.is_file():
            assert name.read_bytes() == (tmp_path / "b.zarr" / name.relative_to(tmp_path / "a.zarr")).read_bytes()


def test_audit_subset_and_card_take_the_same_options(flat, tmp_path):
    assert run("audit", *options(flat)).exit_code == 0
    result = run("subset", *options(flat), "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").glob("*/*/*")) == [
        "train/fake/sdxl", "train/real/coco", "train/real/phone"
    ]  # fmt: skip
    result = run("card", *options(flat), "--json", "--out", tmp_path / "card")
    assert {one["source"] for one in json.loads(result.stdout)["sources"]} == {"coco", "phone", "sdxl"}


@pytest.mark.parametrize("command", ["build", "subset", "card", "audit"])
def test_a_set_that_is_not_named_is_an_error(command, tmp_path):
    out = [] if command == "audit" else ["--out", tmp_path / "out"]
    result = run(command, *out)
    assert result.exit_code == 2
    assert "--src" in result.output


def test_options_of_a_set_are_refused_for_a_store(flat, tmp_path):
    assert run("build", *options(flat), "--out", tmp_path / "a.zarr", *SMALL).exit_code == 0
    for command in (["audit", "--store", tmp_path / "a.zarr"], ["card", tmp_path / "a.zarr"]):
        result = run(*command, "--meaning", "0=real")
        assert result.exit_code == 2
        assert "leave out --meaning 0=real" in result.output


def test_what_is_left_out_is_told(flat, tmp_path):
    (flat / "notes.txt").write_text("no picture")
    draw_noise(77).save(flat / "images" / "unlisted.png")
    result = run("build", *options(flat), "--out", tmp_path / "a.zarr", *SMALL, "--dry-run")
    assert "left out: 1 file that is not a picture: " in result.stderr
    assert "left out: 1 file not listed in train.csv" in result.stderr


def test_photographs_that_generators_share_are_in_one_split(tmp_path):
    for number in range(30):
        for generator in ("biggan", "stargan"):
            for label in ("0_real", "1_fake"):
                folder = tmp_path / "set" / generator / label
                folder.mkdir(parents=True, exist_ok=True)
                own = 0 if label == "0_real" else 100 if generator == "biggan" else 200
                draw_noise(number + own).save(folder / f"{number}.png")
    assert run("build", "--src", tmp_path / "set", "--out", tmp_path / "a.zarr", *SMALL).exit_code == 0
    columns = open_store(tmp_path / "a.zarr").columns
    assert count(tmp_path / "a.zarr") == [(0, "biggan"), (0, "stargan"), (1, "biggan"), (1, "stargan")]
    for sha256 in np.unique(columns["sha256"]):
        assert len(set(columns["split"][columns["sha256"] == sha256])) == 1
    validation = columns["split"] == "val"
    pairs = list(zip(columns["label"].tolist(), columns["source"].tolist(), strict=True))
    assert set(pairs) == {pair for pair, drawn in zip(pairs, validation, strict=True) if drawn}
