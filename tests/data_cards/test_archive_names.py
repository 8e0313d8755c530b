"""An archive stands for the folder that it would be unpacked to; shards of one name stand for one."""

import pytest

from data_cards.archives.names import is_archive_name, is_closed_name, name_folders, strip_suffix


@pytest.mark.parametrize(
    ("archives", "folders"),
    [
        pytest.param(["train.zip", "test.zip"], ["train", "test"], id="splits"),
        pytest.param(["real/cam-a.zip", "fake/sd15.tar"], ["real/cam-a", "fake/sd15"], id="sources"),
        pytest.param(
            ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-0-of-1.parquet"],
            ["data/train", "data/train", "data/test"],
            id="hugging-face",
        ),
        pytest.param(["train-00000-of-00001-a8b0c7a8e5c01234.parquet"], ["train"], id="with-a-hash"),
        pytest.param(["default/train/0000.parquet", "default/train/0001.parquet"], ["default/train"] * 2, id="numbers"),
        pytest.param(["000.tar", "001.tar"], ["", ""], id="numbers-alone"),
        pytest.param(["train-000.tar", "train-001.tar", "train-002.tar"], ["train"] * 3, id="shards"),
        pytest.param(["gan-000001.tar"], ["gan"], id="first-shard"),
        pytest.param(["set_part1.zip", "set_part2.zip"], ["set", "set"], id="parts"),
        pytest.param(["adm-256.zip", "adm-512.zip", "sd-2.zip"], ["adm-256", "adm-512", "sd-2"], id="not-shards"),
        pytest.param(["a/x-000.tar", "b/x-256.tar"], ["a/x", "b/x-256"], id="of-other-folders"),
    ],
)  # fmt: skip
def test_name_folders(archives, folders):
    assert list(name_folders(archives).values()) == folders


def test_names_of_archives():
    names = ["a.zip", "A.TAR", "b.parquet", "a.tar.gz", "a.z01", "x.7z", "y.arrow", "a.jpg", "zip", "a.zip.001"]
    assert [name for name in names if is_archive_name(name)] == names[:3]
    assert [name for name in names if is_closed_name(name)] == [*names[3:7], names[9]]
    assert [strip_suffix(name) for name in names[:4]] == ["a", "A", "b", "a.tar.gz"]
