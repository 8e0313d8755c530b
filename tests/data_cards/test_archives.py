"""Members of archives are read in place, to the byte; what cannot be read says why, and to unpack it."""

import copy
import io
import os
import pickle
import struct
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers.archives import pack_parquet, pack_tar, pack_zip

from data_cards.archives import archive as archive_module
from data_cards.archives.archive import ArchiveError
from data_cards.archives.members import Members, normalise_name
from data_cards.archives.place import (
    is_file,
    open_archive,
    open_place,
    read_file,
    read_start,
    read_unchanged,
    split_place,
)
from data_cards.core.errors import PictureError

FILES = [
    ("real/camera/a.jpg", os.urandom(3000)),
    ("real/b.png", b"x" * 70_000),
    ("fake/gan/é ü.png", b""),
    ("fake/gan/c.bin", bytes(range(256))),
]


def pack_stored(path, files):
    return pack_zip(path, files, zipfile.ZIP_STORED)


PACKERS = [pytest.param(pack_zip, id="zip"), pytest.param(pack_stored, id="stored"), pytest.param(pack_tar, id="tar")]


def list_by_class(path):
    """The members of an archive, with the folder that each belongs in."""
    archive = open_archive(path)
    return {name: archive.find_folder(name) for name in archive.members}


def refuse(place):
    """The reason why a member is not read."""
    with pytest.raises(PictureError) as error:
        read_file(place)
    return str(error.value)


@pytest.mark.parametrize("pack", PACKERS)
def test_members_are_the_files_that_were_packed(tmp_path, pack):
    path = pack(tmp_path / "set", FILES)
    members = open_archive(path).members
    assert list(members) == sorted((name for name, _ in FILES), key=str.encode)
    for name, data in FILES:
        assert read_file(path / name) == data
        assert open_place(path / name).read() == data
        assert read_start(path / name, 100) == data[:100]
        assert is_file(path / name)
        assert split_place(path / name) == (str(path), name)


def test_places_on_disk_are_what_they_were(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"abc")
    assert read_file(tmp_path / "a.jpg") == b"abc"
    assert read_start(tmp_path / "a.jpg", 2) == b"ab"
    assert is_file(tmp_path / "a.jpg")
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / "a.jpg/b")  # below a file that is not an archive
    assert split_place(tmp_path / "none/b.jpg") is None
    assert "cannot be read: No such file" in refuse(tmp_path / "none/b.jpg")
    assert "its archive cannot be read" in refuse(tmp_path / "a.jpg/b")
    assert "cannot be read" in refuse(f"{tmp_path}/a\0b")


def test_parquet_rows_are_files_that_belong_in_folders_of_their_class(tmp_path):
    path = pack_parquet(tmp_path / "train.parquet", [FILES[0], FILES[3], ("fake/flux/c.jpg", b"other")], group_rows=2)
    assert list_by_class(path) == {
        "0000000-a.jpg": "real/camera", "0000001-c.bin": "fake/gan", "0000002-c.jpg": "fake/flux"
    }  # fmt: skip
    assert read_file(path / "0000002-c.jpg") == b"other"
    assert read_file(path / "0000000-a.jpg") == FILES[0][1]
    assert read_start(path / "0000000-a.jpg", 5) == FILES[0][1][:5]


def test_parquet_read_in_any_order_and_by_threads_gives_each_row_its_bytes(tmp_path, monkeypatch):
    files = [(f"{('real', 'fake')[number % 2]}/{number}.jpg", os.urandom(200 + number)) for number in range(60)]
    from data_cards.archives import parquet

    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1000)  # several batches in a row group
    path = pack_parquet(tmp_path / "set.parquet", files, group_rows=20)
    names = list(open_archive(path).members)
    expected = dict(zip(names, (data for _, data in files), strict=True))
    wrong = []

    def read(order):
        for number in order:
            if read_file(path / names[number]) != expected[names[number]]:
                wrong.append(names[number])

    rng = np.random.default_rng(0)
    threads = [threading.Thread(target=read, args=(rng.permutation(60),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("columns", "folders"),
    [
        pytest.param({"image": [b"a", b"b"], "label": ["real", "fake"]}, ["real", "fake"], id="words"),
        pytest.param({"img": [b"a", b"b"], "label": [0, None]}, ["0", "unlabelled"], id="numbers"),
        pytest.param({"image": [b"a", b"b"]}, ["", ""], id="no-label"),
        pytest.param({"image": [b"a", b"b"], "is_ai": [1, 0]}, ["fake", "real"], id="yes-and-no"),
        pytest.param({"image": [b"a", b"b"], "is_ai_generated": [1, 0]}, ["fake", "real"], id="as-in-a-table"),
        pytest.param({"image": [b"a"], "is_real": [False]}, ["fake"], id="truth"),
        pytest.param({"jpg": [b"a"], "label": ["../x"], "generator": ["/a/b"]}, [".._x/_a_b"], id="slashes"),
    ],
)
def test_parquet_of_other_columns(tmp_path, columns, folders):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert list(list_by_class(tmp_path / "a.parquet").values()) == folders
    assert read_file(tmp_path / "a.parquet/0000000") == b"a"


def test_parquet_without_pictures_or_with_several_names_its_columns(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "none.parquet")
    pq.write_table(pa.table({"left": [b"a"], "right": [b"a"]}), tmp_path / "two.parquet")
    with pytest.raises(ArchiveError, match=r"none.parquet: expected one column of pictures.*got none \(text, label\)"):
        open_archive(tmp_path / "none.parquet")
    with pytest.raises(ArchiveError, match=r"got several \(left, right\)"):
        open_archive(tmp_path / "two.parquet")


def test_parquet_that_holds_only_names_says_so(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([{"bytes": None, "path": "/a/x.jpg"}], kind)}), tmp_path / "a.parquet")
    assert "only its name" in refuse(tmp_path / "a.parquet/0000000-x.jpg")


def test_webdataset_pairs_belong_in_folders_of_their_class(tmp_path):
    files = [("a/0.cls", b"0\n"), ("a/0.jpg", b"zero"), ("1.png", b"one"), ("1.cls", b"fake"), ("2.jpg", b"two")]
    path = pack_tar(tmp_path / "shard.tar", files)
    assert list_by_class(path) == {"1.png": "fake", "2.jpg": "", "a/0.jpg": "0"}
    assert read_file(path / "a/0.jpg") == b"zero"
    path = pack_tar(
        tmp_path / "json.tar", [("0.jpg", b"x"), ("0.json", b'{"label": 1}'), ("1.json", b"[[["), ("1.jpg", b"")]
    )
    assert list_by_class(path) == {"0.jpg": "1", "1.jpg": "", "1.json": ""}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.jpg", "a/b.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../a.jpg", "a.jpg"),
        ("./a//b/../c.jpg", "a/b/c.jpg"),
        ("real\\a.jpg", "real/a.jpg"),
        ("..", ""),
    ],
)
def test_names_are_paths_below_the_archive(name, expected):
    assert normalise_name(name) == expected


@pytest.mark.parametrize("pack", PACKERS)
def test_hostile_names_reach_nothing_outside(tmp_path, pack):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    outside = str(tmp_path / "secret.jpg")
    path = pack(
        tmp_path / "set.bin", [("../secret.jpg", b"one"), (outside, b"two"), ("real/../../secret.jpg", b"three")]
    )
    assert read_file(path / "secret.jpg") == b"one"
    assert read_file(f"{path}{outside}") == b"two"
    assert read_file(path / "real/secret.jpg") == b"three"
    assert "not in its archive" in refuse(f"{path}/../secret.jpg")


def test_of_members_of_one_name_the_last_counts(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = pack_zip(tmp_path / "a.zip", [("a.jpg", b"one"), ("a.jpg", b"two")])
    assert list(open_archive(path).members) == ["a.jpg"]
    assert read_file(path / "a.jpg") == b"two"
    assert read_file(pack_tar(tmp_path / "a.tar", [("a.jpg", b"one"), ("./a.jpg", b"two")]) / "a.jpg") == b"two"


def set_flag(path, mask):
    """Set bits of the first member's flags, in its local header and in the directory."""
    data = bytearray(path.read_bytes())
    for at, field in ((data.index(b"PK\x03\x04"), 6), (data.index(b"PK\x01\x02"), 8)):
        struct.pack_into("<H", data, at + field, struct.unpack_from("<H", data, at + field)[0] | mask)
    path.write_bytes(data)


def test_encrypted_members_are_refused_and_others_read(tmp_path):
    path = pack_zip(tmp_path / "a.zip", [("a.jpg", b"one"), ("b.jpg", b"two")])
    set_flag(path, 1)
    assert "encrypted in its archive; unpack the archive with its password" in refuse(path / "a.jpg")
    assert read_file(path / "b.jpg") == b"two"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_other_methods_say_unpack(tmp_path, method):
    path = pack_zip(tmp_path / "a.zip", [("a.jpg", b"one")], method)
    assert f"compressed as {zipfile.compressor_names[method]}" in refuse(path / "a.jpg")
    assert "unpack the archive" in refuse(path / "a.jpg")


def test_links_and_holes_say_unpack_and_hard_links_are_read(tmp_path):
    info = zipfile.ZipInfo("link.jpg")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(info, "a.jpg")
    assert "a link in an archive" in refuse(tmp_path / "a.zip/link.jpg")
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        first = tarfile.TarInfo("a.jpg")
        first.size = 3
        packed.addfile(first, io.BytesIO(b"one"))
        for name, kind in (
            ("soft.jpg", tarfile.SYMTYPE),
            ("hard.jpg", tarfile.LNKTYPE),
            ("pipe.jpg", tarfile.FIFOTYPE),
        ):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "a.jpg"
            packed.addfile(link)
    assert list(open_archive(tmp_path / "a.tar").members) == ["a.jpg", "hard.jpg", "soft.jpg"]
    assert read_file(tmp_path / "a.tar/hard.jpg") == b"one"
    assert "a link in an archive" in refuse(tmp_path / "a.tar/soft.jpg")


def test_a_bomb_costs_no_more_than_the_bound(tmp_path, monkeypatch):
    """Also one whose directory says a small size."""
    path = pack_zip(tmp_path / "a.zip", [("a.jpg", bytes(30_000_000)), ("b.jpg", bytes(30_000_000))])
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)  # the first member's size
    path.write_bytes(data)
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1_000_000)
    tracemalloc.start()
    assert "damaged in its archive" in refuse(path / "a.jpg")
    assert "too large: 30,000,000 bytes, at most 1,000,000" in refuse(path / "b.jpg")
    assert tracemalloc.get_traced_memory()[1] < 3_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("pack", [*PACKERS, pytest.param(pack_parquet, id="parquet")])
def test_damage_at_any_byte_gives_the_bytes_or_an_error(tmp_path, pack):
    files = [(name, bytes(np.random.default_rng(1).integers(0, 256, 400, dtype=np.uint8))) for name, _ in FILES[:2]]
    path = pack(tmp_path / "whole", files)
    whole = path.read_bytes()
    names = list(open_archive(path).members)
    expected = {name: read_file(path / name) for name in names}
    for seed in range(150):
        rng = np.random.default_rng(seed)
        damaged = bytearray(whole)
        if seed % 3 == 0:
            damaged = damaged[: rng.integers(1, len(whole))]
        else:
            damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path = tmp_path / f"{seed}"
        path.write_bytes(damaged)
        for name in names:
            try:
                found = read_file(path / name)
            except PictureError:
                continue
            assert pack in (pack_tar, pack_parquet) or found == expected[name]  # those have no checksum of a member


@pytest.mark.parametrize("pack", PACKERS)
def test_a_truncated_archive_is_refused_whole(tmp_path, pack):
    whole = pack(tmp_path / "a", FILES).read_bytes()
    for share in (0.1, 0.5, 0.9):
        path = tmp_path / f"{share}"
        path.write_bytes(whole[: int(len(whole) * share) // 512 * 512 + 100])
        with pytest.raises(ArchiveError, match=r"not a complete|not an archive"):
            open_archive(path)


def test_a_damaged_header_hides_no_member_of_a_tar(tmp_path):
    """Python's `tarfile` takes one for the archive's end."""
    path = pack_tar(tmp_path / "a.tar", FILES)
    data = bytearray(path.read_bytes())
    data[data.index(b"fake/gan/c.bin")] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged header at byte"):
        open_archive(path)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x1f\x8b", "a gzip file"),
        (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
        (b"Rar!\x1a\x07", "a RAR archive"),
        (b"abc", "a file that is not an archive of a known kind"),
        (b"", "a file that is not an archive of a known kind"),
    ],
)
def test_other_kinds_say_unpack(tmp_path, start, what):
    (tmp_path / "a.tar.gz").write_bytes(start + bytes(100))
    with pytest.raises(ArchiveError, match=rf"a.tar.gz: {what} cannot be read in place.*Unpack it and give") as error:
        open_archive(tmp_path / "a.tar.gz")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_a_part_of_an_archive_in_several_files_says_unpack(tmp_path):
    path = pack_zip(tmp_path / "a.zip", FILES)
    data = bytearray(path.read_bytes())
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 0, 2)
    at = data.index(b"PK\x05\x06")
    data[at:at] = locator
    path.write_bytes(data)
    with pytest.raises(
        ArchiveError, match="one part of an archive in several files cannot be read in place; unpack it"
    ):
        open_archive(path)


@pytest.mark.parametrize("name", ["a.z01", "a.zip.001", "a.part2.rar"])
def test_parts_of_archives_are_known_by_their_names(tmp_path, name):
    (tmp_path / name).write_bytes(b"more of it")
    with pytest.raises(ArchiveError, match="one part of an archive in several files cannot be read in place"):
        open_archive(tmp_path / name)


def test_a_table_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ArchiveError, match=r"a.parquet: Parquet needs pyarrow: `.*install.*(pyarrow|parquet)"):
        open_archive(tmp_path / "a.parquet")


def test_a_member_of_negative_size_ends_the_reading_of_a_tar(tmp_path):
    path = pack_tar(tmp_path / "a.tar", FILES)
    data = bytearray(path.read_bytes())
    with tarfile.open(path) as opened:
        second = opened.getmembers()[1]
    header = bytearray(data[second.offset : second.offset + 512])
    header[124:136] = (-512).to_bytes(12, "big", signed=True)  # as GNU writes numbers: leads back to this very header
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    data[second.offset : second.offset + 512] = header
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="not a complete tar archive"):
        open_archive(path)


def test_members_of_a_zip_that_overlap_are_refused(tmp_path):
    """Many entries of its directory for one member."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("0.jpg", os.urandom(1000))
        first = packed.infolist()[0]
        for number in range(1, 9):
            entry = copy.copy(first)
            entry.filename = f"{number}.jpg"
            packed.filelist.append(entry)
    with pytest.raises(ArchiveError, match="its members overlap"):
        open_archive(tmp_path / "a.zip")


def test_names_longer_than_a_path_may_be_are_read(tmp_path):
    name = "/".join(["x" * 300] * 20) + "/a.jpg"
    path = pack_tar(tmp_path / "a.tar", [(name, b"one")])
    assert read_file(path / name) == b"one"


def test_the_last_part_of_a_zip_says_unpack(tmp_path):
    path = pack_zip(tmp_path / "a.zip", FILES)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x05\x06") + 4] = 2  # the number of this part
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a.zip: one part of an archive in several files cannot be read in place"):
        open_archive(path)


def test_a_zip_behind_a_program_is_read(tmp_path):
    path = pack_zip(tmp_path / "a.exe", FILES)
    path.write_bytes(b"MZ program" * 100 + path.read_bytes())
    assert read_file(path / FILES[0][0]) == FILES[0][1]


def test_a_zip64_archive_is_read(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open("a.jpg", "w", force_zip64=True) as member,
    ):
        member.write(b"zip64")
    assert read_file(tmp_path / "a.zip/a.jpg") == b"zip64"


def test_an_archive_that_changed_is_read_again(tmp_path):
    path = pack_tar(tmp_path / "a.tar", [("a.jpg", b"one")])
    assert read_file(path / "a.jpg") == b"one"
    time.sleep(0.01)
    pack_tar(path, [("b.jpg", b"two"), ("a.jpg", b"three")])
    assert read_file(path / "a.jpg") == b"three"
    with pytest.raises(PictureError, match="has changed since the scan"):
        read_unchanged(path / "a.jpg", b"another hash")


def test_members_find_every_name_and_no_other():
    names = [f"folder-{number % 7}/{number}.jpg" for number in range(500)] + ["a", "a/b", "a.b", "\udcff"]
    members = Members(((name, (number,)) for number, name in enumerate(names)), 1)
    assert len(members) == len(names)
    assert all(members.find(name) == (number,) for number, name in enumerate(names))
    assert not any(name in members for name in ("", "folder-1", "folder-1/", "z", "b", 3))
    assert list(members.below("a")) == ["a/b"]
    assert list(members.below("")) == members[:]
