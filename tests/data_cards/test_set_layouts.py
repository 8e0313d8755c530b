"""Layouts of sets as the field has them: each row is a tree of files, and where each picture belongs."""

from pathlib import Path

import pytest
from helpers.pictures import draw_noise

from data_cards.core.errors import UserError
from data_cards.dataset.find import find_files, name_apart
from data_cards.dataset.layout import Place, arrange_pictures
from data_cards.dataset.listing import format_left_out
from data_cards.dataset.names import find_own_name, names_source

REAL, FAKE = "0_real", "1_fake"

# A name; the paths below the set `my-set` with the place of each as "SPLIT CLASS SOURCE".
LAYOUTS = {
    "kaggle": {
        "train/real/a.jpg": "train real my-set",
        "train/fake/sd/b.jpg": "train fake sd",
        "test/real/phone/c.jpg": "test real phone",
        "test/fake/d.jpg": "test fake my-set",
    },
    "splits-twice": {"train/train/real/a.jpg": "train real my-set", "train/train/fake/b.jpg": "train fake my-set"},
    "split-in-class": {"real/train/a.jpg": "train real my-set", "fake/test/sd/b.jpg": "test fake sd"},
    "split-in-source": {
        "real/coco/train/a.jpg": "train real coco",
        "real/coco/test/b.jpg": "test real coco",
        "fake/sd/train/c.jpg": "train fake sd",
        "fake/sd/val/d.jpg": "val fake sd",
    },
    "split-and-class-in-one-name": {
        "training_real/a.jpg": "train real my-set",
        "training_fake/b.jpg": "train fake my-set",
        "test_fake/c.jpg": "test fake my-set",
        "test_real/d.jpg": "test real my-set",
    },
    "made-by-people": {
        "human_generated/a.jpg": "train real my-set",
        "ai_generated/b.jpg": "train fake my-set",
    },
    "by-generator": {  # CNNDetection, NPR, SAFE
        "biggan/0_real/a.jpg": "train real biggan",
        "biggan/1_fake/b.jpg": "train fake biggan",
        "progan/airplane/0_real/a.jpg": "train real progan",
        "progan/airplane/1_fake/b.jpg": "train fake progan",
        "progan/train/0_real/a.jpg": "train real progan",  # trains, of the railway
        "progan/train/1_fake/b.jpg": "train fake progan",
        "progan/tvmonitor/1_fake/b.jpg": "train fake progan",
        "deepfake/0_real/a.jpg": "train real deepfake",  # the name of a class, and here of a generator
        "deepfake/1_fake/b.jpg": "train fake deepfake",
    },
    "by-split-and-generator": {
        "train/car/0_real/a.jpg": "train real my-set",
        "train/car/1_fake/a.jpg": "train fake my-set",
        "train/horse/1_fake/a.jpg": "train fake my-set",
        "test/stargan/0_real/a.jpg": "test real stargan",
        "test/cyclegan/horse/1_fake/a.jpg": "test fake cyclegan",
        "test/cyclegan/horse/0_real/a.jpg": "test real cyclegan",
    },
    "one-class-a-generator": {
        "laion/0_real/a.jpg": "train real laion",
        "dalle/1_fake/b.jpg": "train fake dalle",
    },
    "genimage": {
        "Midjourney/imagenet_midjourney/train/nature/a.jpg": "train real Midjourney",
        "Midjourney/imagenet_midjourney/train/ai/a.jpg": "train fake Midjourney",
        "Midjourney/imagenet_midjourney/val/ai/b.jpg": "val fake Midjourney",
        "ADM/imagenet_ai_0508_adm/train/ai/a.jpg": "train fake ADM",
        "ADM/imagenet_ai_0508_adm/val/nature/n01440764/a.jpg": "val real ADM",
    },
    "genimage-one-generator": {
        "Midjourney/train/nature/a.jpg": "train real Midjourney",
        "Midjourney/val/ai/a.jpg": "val fake Midjourney",
    },
    "names-that-are-no-source": {
        "fake/images/a.jpg": "train fake my-set",
        "fake/2/b.jpg": "train fake my-set",
        "fake/v1.0/sdxl/c.jpg": "train fake sdxl",
        "fake/256x256/d.jpg": "train fake my-set",
        "real/0_real/coco/e.jpg": "train real coco",
        "real/2020/f.jpg": "train real 2020",
    },
    "service-folders": {
        "train/real/a.jpg": "train real my-set",
        "train/fake/b.jpg": "train fake my-set",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB.jpg": None,
        "__MACOSX/train/real/._a.jpg": None,
        ".ipynb_checkpoints/a.jpg": None,
        "train/@eaDir/x/a.jpg": None,
        "train/real/@eaDir/a.jpg": None,
        "notes/readme.txt": "that are not pictures",
        "docs/figure.jpg": "beside the set's folders",
        "sample/real/a.jpg": "beside the set's folders",
        "preview.jpg": "in no class folder",
    },
    "competition": {
        "train/real/a.jpg": "train real my-set",
        "train/ai/b.jpg": "train fake my-set",
        "test/1.jpg": "in no class folder",
        "sample_submission.csv": "that are not pictures",
    },
}


def touch(root: Path, names) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_find_files_of_a_layout_gives_every_picture_its_place(tmp_path, name):
    expected = LAYOUTS[name]
    root = touch(tmp_path / "my-set", expected)
    found = find_files([str(root)])
    places = {one.image: f"{one.split} {one.label} {one.source}" for one in found.files}
    places |= {Path(one.path).relative_to(root).as_posix(): one.reason for one in found.left_out}
    assert places == {image: place for image, place in expected.items() if place}


def test_arrange_pictures_is_a_function_of_paths():
    assert arrange_pictures(["gan/0_real/a", "gan/1_fake/b", "sd/1_fake/c"], "set") == [
        Place("train", "real", "gan"), Place("train", "fake", "gan"), Place("train", "fake", "sd"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (["0/a.jpg", "1/b.jpg"], r"found 0, 1; expected class folders .*--meaning 0=real,1=fake"),
        (["0/a.jpg", "1/b.jpg", "2/c.jpg"], r"--meaning 0=real,1=fake,2=fake\)"),
        (["fke/a.jpg", "x/b.jpg", "y/c.jpg"], r"--meaning fke=fake,x=real,y=fake\)"),
        (["real/a.jpg", "midjourney/b.jpg"], r"found midjourney; expected class folders .*--meaning midjourney=fake"),
        (["real/a.jpg", "sdxl/b.jpg", "dalle/c.jpg"], r"found dalle, sdxl; .*--meaning dalle=fake,sdxl=fake\)"),
        (["fake/a.jpg", "holiday/b.jpg"], r"--meaning holiday=real\)"),
        (["train/real/a.jpg", "train/fake/b.jpg", "test/rael/c.jpg", "test/fake/d.jpg"], r"--meaning rael=real\)"),
        (["fke/a.jpg", "originals/b.jpg"], r"--meaning fke=fake,originals=real\)"),
        (["A/a.jpg", "B/b.jpg"], r"--meaning A=real,B=fake, or the other way round\)"),
        (["real/a.jpg", "midjourney/photo/b.jpg"], "found midjourney"),  # photographs only in style
        (["train/real/a.jpg", "train/fake/b.jpg", "more/real/c.jpg"], "found more; expected split folders"),
        (["train/a.jpg", "test/b.jpg"], "found test, train; expected class folders"),
        (["a/" * 300 + "real/a.jpg"], "more than 200 folders"),
    ],
)
def test_arrange_pictures_of_unknown_folders_says_what_to_do(images, message):
    with pytest.raises(UserError, match=message):
        arrange_pictures(images, "set")


def test_errors_name_what_is_there(tmp_path):
    touch(tmp_path, ["set/a.jpg", "set/test.csv", "set/train.csv", "one/b.jpg"])
    with pytest.raises(UserError, match=r"--labels \S*set/train\.csv"):
        find_files([str(tmp_path / "set")])
    with pytest.raises(UserError, match=r"'cats' is not a class; .* --meaning cats=fake"):
        find_files([f"cats={tmp_path}/one"])
    with pytest.raises(UserError, match=r"found twice, as train/real \(.*b\.jpg\) and as train/fake \(.*b\.jpg\)"):
        find_files([f"real={tmp_path}/one", f"fake={tmp_path}/one"])


@pytest.mark.parametrize(
    ("root", "whole"), [("/a/set/train/real", "/a/set"), ("/a/my set/0_fake", "'/a/my set'"), ("/a/real", "/a")]
)
def test_arrange_pictures_of_a_class_folder_names_the_set_above_it(root, whole):
    with pytest.raises(UserError) as caught:
        arrange_pictures(["camera-a/a.jpg", "camera-b/b.jpg"], "set", where=root)
    assert f"Its own name is a class: give the folder of the whole set (--src {whole})" in str(caught.value)
    assert "--meaning" not in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "advice"),
    [
        (["set/test"], ["{0}/set"]),
        (["set/validation"], ["{0}/set"]),
        (["beside/test"], ["test/real=FOLDER --src test/fake=FOLDER"]),
        (["real=set/test/real", "fake=set/test/fake"], ["test/real={0}/set/test/real", "test/fake={0}/set/test/fake"]),
        (["real=set/test"], ["test/real={0}/set/test"]),
        (["set"], []),
        (["set/train"], []),
        (["test/real=set/test/real"], []),
        (["nested/test"], []),
    ],
)
def test_split_in_the_name_of_a_root_is_not_lost_silently(sources, advice, tmp_path, capsys):
    files = [f"{label}/{label}.jpg" for label in ("real", "fake")]
    of_set = [f"set/{split}/{file}" for split in ("train", "validation", "test") for file in files]
    beside = [f"beside/{folder}" for folder in ("test/real/a.jpg", "test/fake/b.jpg", "other/c.jpg")]
    nested = [f"nested/test/{split}/{file}" for split in ("train", "test") for file in files]
    touch(tmp_path, [*of_set, *beside, *nested])
    parts = [one.rpartition("=") for one in sources]
    find_files([f"{spec}{equals}{tmp_path}/{folder}" for spec, equals, folder in parts])
    said = [line.partition("give --src ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said == [f"{one.format(tmp_path)} (in Python: sources)" for one in advice]


@pytest.mark.parametrize("other", ["set", "set/train", "link", "linked/train"])
def test_files_below_two_folders_are_found_once_and_counted(other, tmp_path, capsys):
    touch(tmp_path, ["set/train/real/a.jpg", "set/train/fake/b.jpg", "set/test/real/c.jpg", "set/test/fake/d.jpg"])
    (tmp_path / "link").symlink_to(tmp_path / "set")
    (tmp_path / "linked").symlink_to(tmp_path / "set")
    alone = find_files([str(tmp_path / "set")])
    assert capsys.readouterr().err == ""
    assert find_files([str(tmp_path / "set"), str(tmp_path / other)]) == alone
    count = 2 if "train" in other else 4
    assert f"used once, because folders overlap or are linked: {count} files, such as {tmp_path}" in (
        capsys.readouterr().err
    )


def test_arrange_pictures_with_declared_names():
    meaning = {"0": "real", "1": "fake", "midjourney": "fake"}
    assert arrange_pictures(["0/a", "1/b"], "set", meaning) == [
        Place("train", "real", "set"), Place("train", "fake", "set")
    ]  # fmt: skip
    assert arrange_pictures(["real/a", "midjourney/b"], "set", meaning)[1] == Place("train", "fake", "midjourney")


def test_files_of_any_name_are_found_by_their_content(tmp_path):
    names = ["b", "c.jpg_large", "d.jpg!d", "e.jpeg~orig", "f.jpg?w=512", "g.JFIF", "h.txt"]
    for folder in ("real", "fake"):
        (tmp_path / folder).mkdir()
        for name in names:
            draw_noise(1).save(tmp_path / folder / name, "JPEG")
        (tmp_path / folder / "notes").write_text("BM is no picture")
        (tmp_path / folder / "empty").touch()
        (tmp_path / folder / "dead").symlink_to(tmp_path / "nowhere")
    found = find_files([str(tmp_path)])
    assert sorted(one.image for one in found.files) == sorted(
        f"{of}/{name}" for of in ("real", "fake") for name in names
    )
    assert [line.partition(str(tmp_path))[0] for line in format_left_out(found.left_out)] == [
        "left out: 2 files behind broken links: ",
        "left out: 4 files that are not pictures: ",
    ]


def test_folders_of_one_name_are_told_apart(tmp_path):
    def own(*folders):
        return list(name_apart([tmp_path / folder for folder in folders]).values())

    assert own("biggan/0_real", "biggan/1_fake", "stargan/0_real") == ["biggan", "biggan", "stargan"]
    assert own("a/photos", "b/photos") == ["a", "b"]
    assert own("set/train/photos", "set/test/photos") == ["photos", "photos"]
    assert own("a/x/photos", "b/x/photos", "b/y/photos") == ["a-x", "b-x", "y"]
    assert own("disk/1/photos", "disk/2/photos") == ["photos-1", "photos-2"]
    assert own("progan/bird/1_fake", "progan/cat/1_fake") == ["progan", "progan"]
    assert own("cifake/versions/3") == ["cifake"]
    # Where one path is the end of the other, the root of the file system is no name.
    assert list(name_apart([Path("/data/coco"), Path("/backup/data/coco")]).values()) == ["coco", "backup"]
    assert list(name_apart([Path("/coco"), Path("/data/coco"), Path("/x/data/coco")]).values()) == [
        "coco",
        "coco-data",
        "x-data",
    ]


def test_own_name_is_never_that_of_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    assert find_own_name(tmp_path / "anna/real")[0] == "real"
    assert find_own_name(tmp_path / "anna/holiday/real")[0] == "holiday"


@pytest.mark.parametrize(
    "name", ["0_real", "images", "2", "v1.2", "512px", "n01440764", "Train", "ai_generated", "a" * 40]
)
def test_names_source_of_other_names(name):
    assert not names_source(name)


@pytest.mark.parametrize("name", ["sd_v1_4", "coco", "photos", "gan", "2019", "写真", "x"])
def test_names_source_of_sources(name):
    assert names_source(name)


def test_links_among_folders_end(tmp_path):
    root = touch(tmp_path / "set", ["real/a.jpg", "fake/b.jpg"])
    touch(tmp_path / "elsewhere", ["c.jpg"])
    (root / "real/elsewhere").symlink_to(tmp_path / "elsewhere")
    (root / "fake/up").symlink_to(root)
    (root / "fake/itself").symlink_to(root / "fake/itself")
    assert {one.image for one in find_files([str(root)]).files} == {"real/a.jpg", "real/elsewhere/c.jpg", "fake/b.jpg"}
