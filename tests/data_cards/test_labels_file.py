"""Sets whose classes, splits or sources a table says: every row and every picture is used or named."""

import json

import pytest

from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.find import find_files
from data_cards.dataset.labels_arrangement import Listing, arrange_by_labels
from data_cards.dataset.labels_file import read_labels
from data_cards.dataset.listing import format_left_out
from data_cards.dataset.settings import SetSettings


@pytest.fixture
def flat(tmp_path):
    """Six pictures in one folder, 0.jpg to 5.jpg."""
    folder = tmp_path / "my-set" / "images"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.jpg").write_bytes(b"x")
    return tmp_path / "my-set"


def write(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def find(table, *sources, **options):
    return find_files([str(one) for one in sources], SetSettings(labels=(str(table),), **options))


def places(found):
    return {one.image: f"{one.split} {one.label} {one.source}" for one in found.files}


def test_kaggle_ids_without_suffix(flat):
    table = write(
        flat / "train.csv", "id,label", *(f"{number},{'ai' if number % 2 else 'human'}" for number in range(4))
    )
    found = find(table, flat)
    assert places(found) == {
        f"images/{number}.jpg": f"train {'fake' if number % 2 else 'real'} my-set" for number in range(4)
    }
    (line,) = format_left_out(found.left_out)
    assert line.startswith("left out: 2 files not listed in train.csv: ")
    assert "4.jpg" in line
    assert "5.jpg" in line


def test_huggingface_metadata_of_each_split(tmp_path):
    for split in ("train", "test"):
        for number in range(2):
            write(tmp_path / "faces" / split / f"{number}.png")
        records = [{"file_name": f"{number}.png", "label": number, "text": ["a", "b"]} for number in range(2)]
        write(tmp_path / "faces" / split / "metadata.jsonl", *map(json.dumps, records))
    tables = tuple(str(tmp_path / "faces" / split / "metadata.jsonl") for split in ("train", "test"))
    expected = {("train", "real"), ("train", "fake"), ("test", "real"), ("test", "fake")}
    for sources in ([], [str(tmp_path / "faces")]):
        found = find_files(sources, SetSettings(labels=tables, meaning=("0=real,1=fake",)))
        assert {(one.split, one.label) for one in found.files} == expected
        assert {one.source for one in found.files} == {"faces"}
        assert not found.left_out


def test_all_columns(flat):
    table = write(
        flat / "list.csv", "Image Path;Label;Split;Generator", "images/0.jpg;REAL;train;coco",
        "images/1.jpg;AI-generated;validation;stabilityai/sdxl", "images/2.jpg;fake;test;", "images/3.jpg;photo;;x",
    )  # fmt: skip
    assert places(find(table)) == {
        "images/0.jpg": "train real coco", "images/1.jpg": "val fake stabilityai-sdxl",
        "images/2.jpg": "test fake my-set", "images/3.jpg": "train real x",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("column", "one"), [("is_fake", "fake"), ("AI Generated", "fake"), ("real", "real"), ("is_human", "real")]
)
@pytest.mark.parametrize("yes", ["1", "True", "yes", "1.0"])
def test_a_column_whose_name_says_what_yes_means(flat, column, one, yes):
    table = write(flat / "a.csv", f"file,{column}", f"0.jpg,{yes}", "1.jpg,0")
    labels = [found.label for found in find(table, flat).files]
    assert labels == [one, "fake" if one == "real" else "real"]


def test_declared_columns(flat):
    table = write(flat / "a.csv", "a,b,c", "0,p,1", "1,q,2")
    found = find(table, flat, columns="path=a,label=c,source=b", meaning=("1=real", "2=fake"))
    assert places(found) == {"images/0.jpg": "train real p", "images/1.jpg": "train fake q"}
    with pytest.raises(UserError, match="has no column d; expected one of a, b, c; correct --columns"):
        find(table, flat, columns="path=d")


def test_a_list_of_sources_for_the_classes_of_folders(tmp_path):
    for name in ("real/a.jpg", "real/b.jpg", "fake/a.jpg"):
        write(tmp_path / "set" / name)
    table = write(tmp_path / "sources.tsv", "path\tsource", "real/a.jpg\tcoco", "fake/a.jpg\tsdxl")
    assert places(find(table, tmp_path / "set")) == {
        "real/a.jpg": "train real coco", "real/b.jpg": "train real set", "fake/a.jpg": "train fake sdxl"
    }  # fmt: skip


def test_paths_of_other_places(flat):
    rows = [
        "/kaggle/input/my-set/images/0.jpg,real",
        "my-set/images/1.jpg,fake",
        "images\\2.jpg,real",
        "./images/3.jpg,fake",
    ]
    found = find(write(flat.parent / "labels.csv", "\ufeffpath,label", *rows), flat)
    assert sorted(places(found)) == [f"images/{number}.jpg" for number in range(4)]


def test_a_path_outside_of_the_set_is_not_found(flat):
    write(flat.parent / "secret.jpg")
    found = find(write(flat / "a.csv", "path,label", "0.jpg,real", "../secret.jpg,fake", "/etc/passwd,fake"), flat)
    assert sorted(places(found)) == ["images/0.jpg"]
    assert format_left_out(found.left_out)[0] == (
        "left out: 2 files listed in a.csv, but not found: ../secret.jpg, /etc/passwd"
    )


def test_paths_that_end_alike_are_looked_up_at_once(tmp_path):
    table = write(tmp_path / "a.csv", "path,label", *(f"d{number}/0.jpg,real" for number in range(20_000)))
    images = [f"all/d{number}/0.jpg" for number in range(20_000)]
    listing, settings = Listing(tmp_path / "set", images, "set"), SetSettings()
    found = arrange_by_labels([read_labels(table, settings)], [listing], settings)
    assert not found.missing
    assert len(found.places[0]) == 20_000


def test_rows_that_repeat_are_used_once_and_told(flat, capsys):
    find(write(flat / "a.csv", "path,label", "0.jpg,real", "images/0.jpg,real", "1,fake"), flat)
    assert "1 row repeats another one and is used once: images/0.jpg (line 3)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["0.jpg,cat", "1.jpg,dog", "2.jpg,cat"],
            r"unknown labels; expected .*, got cat \(line 2 and 1 more\), dog \(line 3\); .*cat=real,dog=fake, or",
        ),
        (["0.jpg,0", "1.jpg,1", "2.jpg,2"], "--meaning 0=real,1=fake,2=fake"),
        (["0.jpg,real", "1.jpg,sdxl", "2.jpg,dalle"], "--meaning sdxl=fake,dalle=fake"),
        (
            ["0.jpg,real", "0.jpg,fake"],
            r"with different values; .*, got 0.jpg, also in a.csv line 2 \(line 3\); remove or correct",
        ),
        (["7.jpg,real"], "none of its 1 files is below .*; the first: 7.jpg"),
        ([], "has no rows"),
        ([",real"], "line 2 has no path"),
    ],
)
def test_errors_of_rows(flat, rows, message):
    with pytest.raises(UserError, match=message):
        find(write(flat / "a.csv", "path,label", *rows), flat)


def test_a_name_of_several_files(flat):
    write(flat / "more/0.png")
    with pytest.raises(
        UserError, match=r"fit several files; .*, got 0 \(.*0.jpg or more/0.png\) \(line 2\); write longer paths"
    ):
        find(write(flat / "a.csv", "path,label", "0,real"), flat)


def test_a_name_in_two_splits_is_that_of_the_table(tmp_path):
    for split in ("train", "test"):
        for number in (1, 2):
            write(tmp_path / "set" / split / f"{number}.jpg")
    table = write(tmp_path / "set/train.csv", "id,label", "1,real", "2,fake")
    assert sorted(places(find(table))) == ["train/1.jpg", "train/2.jpg"]


def test_unknown_splits_and_empty_labels(flat):
    table = write(flat / "a.csv", "path,label,split", "0.jpg,real,train", "1.jpg,fake,holdout")
    with pytest.raises(
        UserError, match=r"unknown splits; expected train, val or test, got holdout \(line 3\); .*split=NAME"
    ):
        find(table, flat)
    found = find(write(flat / "b.csv", "path,label", "0.jpg,real", "1.jpg,"), flat)
    assert "left out: 1 file without a label in b.csv" in "\n".join(format_left_out(found.left_out))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"\xff\xfe\x00", "not UTF-8"),
        ("a.csv", b"path,label\n\x00,real\n", "not CSV"),
        ("a.csv", b'path,label\n"open,real\n', "not CSV"),
        ("a.csv", b"path,label\n" + b"a" * 200_000 + b",real\n", "not CSV"),
        ("a.csv", b"0.jpg,real\n1.jpg,fake\n", "has no column of paths .* it has 0.jpg, real.*--columns"),
        ("a.csv", b"path,text\n0.jpg,hello\n", "has no column of labels"),
        ("a.csv", b"", "has no column of paths"),
        ("a.csv", b"path,source\n0.jpg,coco\n", "a.csv: has no column of labels .*--columns label=NAME"),
        ("a.jsonl", b'{"path": "0.jpg", "label": }\n', "not JSON Lines .*line 1"),
        ("a.jsonl", b"[1, 2]\n", "line 1: expected an object"),
        ("a.jsonl", b"[" * 100_000, "not JSON Lines"),
        ("a.jsonl", b'{"path": ["0.jpg"], "label": {"a": 1}}\n', "has no rows"),
    ],
)
def test_files_that_are_no_tables(flat, name, content, message):
    (flat / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        find(flat / name, flat)


def test_no_table(flat):
    with pytest.raises(UserError, match=r"none\.csv: cannot be read: No such file"):
        find(flat / "none.csv", flat)


def test_declared_names_that_nothing_has_are_told(flat, capsys):
    find(write(flat / "a.csv", "path,label", "0.jpg,7", "1.jpg,fake"), flat, meaning=("7=real", "8=fake"))
    assert "--meaning 8: no folder and no label has this name" in capsys.readouterr().err


def test_source_pattern_of_a_flat_folder(flat, tmp_path, capsys):
    for name in ("real/coco_1.jpg", "real/ffhq_1.jpg", "fake/sdxl-7.jpg", "fake/other.jpg"):
        write(tmp_path / "kaggle" / name)
    found = find_files([str(tmp_path / "kaggle")], SetSettings(source_pattern=r"/([a-z]+)[_-]\d"))
    assert places(found) == {
        "real/coco_1.jpg": "train real coco",
        "real/ffhq_1.jpg": "train real ffhq",
        "fake/sdxl-7.jpg": "train fake sdxl",
        "fake/other.jpg": "train fake kaggle",
    }
    assert "finds no source in 1 of 4 paths" in capsys.readouterr().err
    with pytest.raises(UserError, match="finds no source in any of 4 paths"):
        find_files([str(tmp_path / "kaggle")], SetSettings(source_pattern="(zebra)"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_pattern": "("}, "not a regular expression"),
        ({"source_pattern": "abc"}, "expected one group"),
        ({"source_pattern": "(a)(b)"}, "expected one group.*got 2"),
        ({"columns": "path", "labels": ("a.csv",)}, "expected COLUMN=NAME"),
        ({"columns": "name=a", "labels": ("a.csv",)}, "COLUMN one of path, label, split, source"),
        ({"columns": "path=a"}, "no table is given"),
        ({"meaning": ("0=cat",)}, "expected NAME=real or NAME=fake"),
        ({"meaning": ("0=real", "0=fake")}, "declared as real too"),
    ],
)
def test_settings_of_other_values(options, message):
    with pytest.raises(UsageError, match=message):
        SetSettings(**options)


def test_a_table_without_pictures_beside_it_asks_for_their_folder(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,fake\n")
    with pytest.raises(UserError, match=r"the folder in which the paths of .*labels\.csv begin: give it as --src"):
        find(tmp_path / "labels.csv", tmp_path)
