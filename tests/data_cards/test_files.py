"""Files and folders are written whole or not at all, and read only where they are regular, bounded and unchanged."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_cards.archives.place import read_file, read_unchanged
from data_cards.core.errors import PictureError, UserError, format_error
from data_cards.core.files import (
    MAX_BYTES,
    PARTIAL,
    check_new_folder,
    create_file,
    is_temporary,
    temporary_name,
    whole_file,
    whole_folder,
    write_json,
)


def test_whole_folder_that_succeeds_is_renamed(tmp_path):
    (tmp_path / "set").mkdir()  # empty: allowed
    with whole_folder(tmp_path / "set") as folder:
        assert folder.name.endswith(PARTIAL)
        (folder / "a").write_text("a")
    assert os.listdir(tmp_path) == ["set"]
    assert (tmp_path / "set" / "a").read_text() == "a"


@pytest.mark.parametrize("name", ["a.json", "n" * 250])
def test_whole_file_has_its_name_only_when_it_is_complete(tmp_path, name):
    with whole_file(tmp_path / name) as temporary:
        temporary.write_text("new")
        assert is_temporary(temporary.name)
        assert os.listdir(tmp_path) == [temporary.name]
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(KeyError), whole_file(tmp_path / name) as temporary:
        raise KeyError
    assert (tmp_path / name).read_text() == "new"
    assert os.listdir(tmp_path) == [name]


def test_whole_file_follows_no_link_that_waits_for_it(tmp_path):
    (folder := tmp_path / "run").mkdir()
    (tmp_path / "mine").write_text("mine")
    for name in ("a.json", "a.json.partial"):
        (folder / name).symlink_to(tmp_path / "mine")
    write_json(folder / "a.json", {"a": 1})
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (folder / "a.json").is_symlink()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "link")


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    texts = [str(number) * 300_000 for number in range(4)]

    def write(text):
        for _ in range(20):
            with whole_file(tmp_path / "a") as temporary:
                temporary.write_text(text)
            assert (tmp_path / "a").read_text() in texts

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, texts))
    assert os.listdir(tmp_path) == ["a"]


def test_whole_file_that_cannot_be_made_is_named_as_the_user_named_it(tmp_path):
    with pytest.raises(FileNotFoundError) as error, whole_file(tmp_path / "none" / "a.png"):
        pass
    assert error.value.filename == str(tmp_path / "none" / "a.png")


def test_whole_folder_removes_no_folder_but_its_own(tmp_path):
    (tmp_path / f".set.{os.getpid()}{PARTIAL}").mkdir()
    with whole_folder(tmp_path / "set"):
        pass
    assert sorted(os.listdir(tmp_path)) == [f".set.{os.getpid()}{PARTIAL}", "set"]


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        pytest.param(temporary_name("a.json"), True, id="as it is made"),
        ("0.0123456789abcdef0123456789abcdef.partial", True),
        ("a.json.partial", False),
        ("0.0123.partial", False),
        (".0123456789abcdef0123456789abcdef.partial", False),
        ("a.0123456789ABCDEF0123456789ABCDEF.partial", False),
        ("a.0123456789abcdef0123456789abcdef.partial.jpg", False),
    ],
)
def test_is_temporary_knows_only_names_of_ours(name, ours):
    assert is_temporary(name) is ours
    assert is_temporary(name, of={"b.json"}) is False


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
