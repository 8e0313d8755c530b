"""Folders are recognised in the usual spellings; any other name is a clear error."""

import pytest
from helpers.pictures import draw_noise

from data_cards.core.errors import UserError
from data_cards.dataset.find import find_pictures
from data_cards.dataset.names import match_class, match_split


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def found(src):
    return {(one.split, one.label, one.source, one.image) for one in find_pictures(str(src))}


@pytest.mark.parametrize(
    "name",
    ["real", "REAL", "Real", "0_real", "real_images", "RealArt", "photos", "nature", "real faces", "Photographs"],
)
def test_match_class_of_names_for_real(name):
    assert match_class(name) == "real"


@pytest.mark.parametrize(
    "name", ["fake", "FAKE", "ai", "AI", "1_fake", "generated", "AiArtData", "ai-generated", "AI_Generated_Images",
             "synthetic", "deepfake", "fakes"]
)  # fmt: skip
def test_match_class_of_names_for_fake(name):
    assert match_class(name) == "fake"


@pytest.mark.parametrize("name", ["cats", "not_ai", "non-fake", "images", "realistic", "train", ""])
def test_match_class_of_other_names_is_none(name):
    assert match_class(name) is None


def test_match_split_of_names_for_splits():
    names = ["train", "Training", "test", "testing_set", "valid", "val", "Validation", "trainer"]
    assert [match_split(name) for name in names] == ["train", "train", "test", "test", "val", "val", "val", None]


def test_kaggle_layout(tmp_path):
    touch(tmp_path / "set", "train/REAL/a.jpg", "train/FAKE/sd/b.PNG", "test/REAL/x/y/c.webp", "test/FAKE/d.jpeg",
          "train/REAL/notes.txt", "train/REAL/.hidden.jpg", "__MACOSX/._a.jpg", "manifest.csv")  # fmt: skip
    assert found(tmp_path / "set") == {
        ("train", "real", "set", "train/REAL/a.jpg"),
        ("train", "fake", "sd", "train/FAKE/sd/b.PNG"),
        ("test", "real", "x", "test/REAL/x/y/c.webp"),
        ("test", "fake", "set", "test/FAKE/d.jpeg"),
    }


def test_classes_without_splits(tmp_path):
    touch(tmp_path / "set", "real/a.jpg", "ai/gan/b.jpg")
    assert found(tmp_path / "set") == {("train", "real", "set", "real/a.jpg"), ("train", "fake", "gan", "ai/gan/b.jpg")}


def test_splits_below_classes(tmp_path):
    touch(tmp_path / "set", "real/train/a.jpg", "real/test/b.jpg", "fake/train/gan/c.jpg")
    assert {one[:3] for one in found(tmp_path / "set")} == {
        ("train", "real", "set"), ("test", "real", "set"), ("train", "fake", "gan")
    }  # fmt: skip


@pytest.mark.parametrize("wrapper", ["archive", "photos", "real-vs-fake/real_vs_fake"])
def test_wrapping_folders_are_skipped(tmp_path, wrapper):
    touch(tmp_path, f"{wrapper}/train/real/a.jpg", f"{wrapper}/valid/fake/b.jpg")
    assert {one[:2] for one in found(tmp_path)} == {("train", "real"), ("val", "fake")}


def test_folder_inside_one_of_the_same_name_is_not_a_source(tmp_path):
    touch(tmp_path / "set", "AiArtData/AiArtData/a.jpg", "RealArt/RealArt/b.jpg")
    assert {one[1:3] for one in found(tmp_path / "set")} == {("fake", "set"), ("real", "set")}


def test_unlabelled_folder(tmp_path):
    touch(tmp_path / "holiday", "2020/a.jpg", "b.jpg")
    assert found(f"real={tmp_path}/holiday") == {
        ("train", "real", "holiday", "2020/a.jpg"), ("train", "real", "holiday", "b.jpg")
    }  # fmt: skip
    assert {one[:2] for one in found(f"test/fake={tmp_path}/holiday")} == {("test", "fake")}


def test_links_in_a_circle_are_followed_once(tmp_path):
    touch(tmp_path, "real/a/x.jpg", "fake/b/y.jpg")
    (tmp_path / "real/a/again").symlink_to(tmp_path / "real")
    assert len(found(tmp_path)) >= 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param(["cats/a.jpg", "dogs/b.jpg"], "found cats, dogs; expected class folders", id="classes"),
        pytest.param(["train/cats/a.jpg", "train/real/b.jpg"], "found cats", id="class-in-split"),
        pytest.param(["train/real/a.jpg", "extra/real/b.jpg"], "found extra; expected split folders", id="splits"),
        pytest.param(["a.jpg"], "pictures, but no folders.* Put them into such folders", id="flat"),
        pytest.param(["foo/a.jpg"], "foo: found pictures.*--meaning foo=fake", id="unknown-class"),
        pytest.param(["real/a.txt", "fake/b.txt"], "contains no picture files", id="no-pictures"),
    ],
)
def test_errors_list_what_was_found(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UserError, match=message):
        find_pictures(str(tmp_path))


def test_missing_folder_and_file(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        find_pictures(str(tmp_path / "none"))
    with pytest.raises(UserError, match="no such folder"):
        find_pictures(f"real={tmp_path}/none")
    draw_noise(1).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="is a file"):
        find_pictures(str(tmp_path / "a.png"))
