"""What a store says of its folders survives growth: files set aside, stated facts of sources, selections."""

import json
import shutil
from pathlib import Path

import pytest
import zarr
from helpers.folders import assert_same_files, read_files
from helpers.make_store import SMALL_BUILD
from helpers.pictures import draw_noise, make_kaggle_dir

from data_cards.core.errors import UserError
from data_cards.dataset.settings import SetSettings
from data_cards.selection.subset import Selection
from pipeline.builder.build import build_store
from pipeline.builder.card import write_card
from pipeline.builder.shard_task import build_shard
from pipeline.cli.summary import format_build
from pipeline.datasets.subset import write_subset
from pipeline.store.digests import add_digests
from pipeline.store.filesystem import Storage
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from pipeline.store.writer import write_attributes


@pytest.fixture
def more(tmp_path):
    """Another set, with one file that is no picture any more."""
    root = make_kaggle_dir(tmp_path / "more", per_source=2, first_seed=300)
    truncate(root / "train/real/phone/0.jpg")
    return root


def truncate(file):
    file.write_bytes(file.read_bytes()[:200])


def list_set_aside(path):
    store = open_store(path)
    assert len(store.card["set_aside"]) == len(store.attributes["set_aside"])
    return [one["path"] for one in store.attributes["set_aside"]]


def test_a_folder_whose_files_all_became_unusable_loses_its_pictures(build, kaggle_dir, more):
    build(kaggle_dir, more)
    files = sorted(more.rglob("*.*"))
    for file in files:
        truncate(file)
    summary = build(kaggle_dir, more)
    assert sorted(list_set_aside(summary.path)) == [str(file) for file in files]
    assert len(open_store(summary.path)) == 32
    assert "because missing or set aside: 15 pictures\n" in format_build(summary)


def test_files_set_aside_in_a_folder_that_a_build_does_not_name_stay_recorded(build, kaggle_dir, more, tmp_path):
    broken = str(more / "train/real/phone/0.jpg")
    build(more)
    truncate(kaggle_dir / "train/real/phone/1.png")

    def stop(task):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(kaggle_dir, shard_function=stop)
    summary = build(kaggle_dir)
    both = sorted([broken, str(kaggle_dir / "train/real/phone/1.png")])
    assert list_set_aside(summary.path) == both
    before = read_files(Path(summary.path))
    assert build(kaggle_dir).made == 0
    assert_same_files(Path(summary.path), before)
    draw_noise(5).save(kaggle_dir / "train/real/phone/1.png")
    assert list_set_aside(build(kaggle_dir).path) == [broken]
    link = tmp_path / "link"
    link.symlink_to(more)
    draw_noise(6).save(broken)
    assert list_set_aside(build(link).path) == []


def test_files_set_aside_in_a_folder_that_was_moved_are_recorded_once(build, kaggle_dir, more, tmp_path):
    build(kaggle_dir, more)
    shutil.move(more, tmp_path / "moved")
    assert list_set_aside(build(tmp_path / "moved").path) == [str(tmp_path / "moved/train/real/phone/0.jpg")]


def test_an_edited_description_of_a_source_renews_the_card(build, kaggle_dir):
    about = kaggle_dir / "train/real/camera/source.toml"
    about.write_text('licence = "CC0"')
    path = build().path

    def licence():
        return {one["source"]: one["provenance"]["licence"] for one in open_store(path).card["sources"]}["camera"]

    assert licence() == "CC0"
    about.write_text('licence = "MIT"')
    assert build().made == 0
    assert licence() == "MIT"
    about.unlink()  # what was stated remains, as for folders that are gone
    before = read_files(Path(path))
    build()
    assert_same_files(Path(path), before)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("card.json", '{"a": 1}', "card.json: not a data card"),
        ("train/real/source.toml", "licence = CC0", "source.toml: not TOML"),
    ],
)
def test_a_wrong_description_is_found_before_the_store_is_touched(build, kaggle_dir, name, text, words):
    path = Path(build().path)
    before = read_files(path)
    (kaggle_dir / name).write_text(text)
    draw_noise(5).save(kaggle_dir / "train/real/camera/new.png")
    made = []
    with pytest.raises(UserError, match=words):
        build(shard_function=lambda task: made.append(task) or build_shard(task))
    assert made == []
    assert_same_files(path, before)


def test_surrogates_in_descriptions_are_replaced(build, kaggle_dir, tmp_path):
    subset = tmp_path / "subset"
    write_subset([str(kaggle_dir)], subset, Selection(fraction=0.5))
    card = json.loads((subset / "card.json").read_text())
    card["selections"][0]["from"] = ["a\ud83d"]
    (subset / "card.json").write_text(json.dumps(card))
    (subset / "source.json").write_text(json.dumps({"name": "b\ud83d"}))
    files = sorted(path.relative_to(subset).as_posix() for path in subset.rglob("*") if path.suffix in (".jpg", ".png"))
    rows = [{"path": file, "label": file.split("/")[1], "generator": "c\ud83d"} for file in files]
    (subset / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    reading = SetSettings(labels=(str(subset / "labels.jsonl"),))
    summary = build(subset, reading=reading)
    store = open_store(summary.path)
    assert set(store.columns["source"]) == {"c?"}
    assert store.card["selections"][0]["from"] == ["a?"]
    assert {one["provenance"]["name"] for one in store.card["sources"]} == {"b?"}
    before = read_files(Path(summary.path))
    build(subset, reading=reading)
    assert_same_files(Path(summary.path), before)


@pytest.mark.parametrize(
    "change", [{"sources": [{}]}, {"sources": [{"class": 1, "source": [], "provenance": {}}]}, {"selections": [1]}]
)
def test_a_hostile_card_does_not_stop_growth(build, kaggle_dir, change):
    path = build().path
    card = open_store(path).card
    write_card(zarr.open_group(path, mode="r+"), card | change)
    storage = Storage(path)
    write_attributes(storage, add_digests(storage, open_store(path).attributes))
    draw_noise(5).save(kaggle_dir / "train/real/camera/new.png")
    assert build().plan.growth.added == 1
    assert open_store(path).card["pictures"] == card["pictures"] + 1


def test_a_store_of_test_pictures_takes_test_pictures_alone(kaggle_dir, more, tmp_path):
    def grow(*sources):
        return build_store(sources, tmp_path / "a.zarr", BuildSettings(SMALL_BUILD.features, "conditions"), workers=0)

    assert set(open_store(grow(kaggle_dir).path).columns["split"]) == {"test"}
    before = read_files(tmp_path / "a.zarr")
    with pytest.raises(UserError, match="the store has test pictures alone, and no test picture was found; add"):
        grow(f"real={more}/train/real", f"fake={more}/train/fake")
    assert_same_files(tmp_path / "a.zarr", before)
    assert grow(more).plan.growth.added == 8
    assert set(open_store(tmp_path / "a.zarr").columns["split"]) == {"test"}
    # Without the folder's test pictures, all others are taken, as in a new store.
    shutil.rmtree(kaggle_dir / "test")
    shutil.rmtree(more / "test")
    grow(kaggle_dir, more)
    assert set(open_store(tmp_path / "a.zarr").columns["split"]) == {"train", "val"}
