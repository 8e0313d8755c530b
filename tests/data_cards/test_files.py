"""Files and folders are written whole or not at all, and read only where they are regular, bounded and unchanged."""

import hashlib
import os

import pytest

from data_cards.archives.place import read_file, read_unchanged
from data_cards.core.errors import PictureError, UserError, format_error
from data_cards.core.files import MAX_BYTES, PARTIAL, check_new_folder, whole_folder


def test_whole_folder_that_succeeds_is_renamed(tmp_path):
    (tmp_path / "set").mkdir()  # empty: allowed
    with whole_folder(tmp_path / "set") as folder:
        assert folder.name.endswith(PARTIAL)
        (folder / "a").write_text("a")
    assert os.listdir(tmp_path) == ["set"]
    assert (tmp_path / "set" / "a").read_text() == "a"


def test_whole_folder_that_fails_leaves_nothing(tmp_path):
    def fail():
        with whole_folder(tmp_path / "below" / "set") as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.listdir(tmp_path / "below") == []


@pytest.mark.parametrize(("name", "reason"), [("file", "is a file"), ("full", "is not empty")])
def test_check_new_folder_refuses_what_is_in_use(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(UserError, match=f"{name}: {reason}; name a new folder"):
        check_new_folder(tmp_path / name)
    check_new_folder(tmp_path / "none")


def test_read_file_of_a_pipe_or_a_large_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room
    for name, reason in (
        ("pipe", "not a regular file"),
        ("large", "too large"),
        ("none", "No such file"),
        ("\0", "null"),
    ):
        with pytest.raises(PictureError, match=reason):
            read_file(tmp_path / name)


def test_read_unchanged_refuses_another_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"now")
    assert read_unchanged(tmp_path / "a", hashlib.sha256(b"now").digest()) == b"now"
    with pytest.raises(PictureError, match="changed since the scan"):
        read_unchanged(tmp_path / "a", hashlib.sha256(b"before").digest())


def test_format_error_without_a_message_is_its_type():
    assert format_error(ValueError("one\ntwo")) == "one"
    assert format_error(ValueError()) == "ValueError"
