"""Sets in archives are built without unpacking, to the bytes of the unpacked folder, killed or grown."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.archives import list_files, pack_parquet, pack_tar, pack_zip
from helpers.folders import assert_same_files, read_files
from helpers.make_store import SMALL_BUILD
from helpers.pictures import draw_noise, make_kaggle_dir
from helpers.stepping import run_until_step

from data_cards.archives.zip import ZipArchive
from data_cards.core.errors import UserError
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.dataset.simulated import SIMULATION_MARKER
from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.cli.main import main
from pipeline.maintenance.repair import Cause, repair_store
from pipeline.maintenance.verify import verify_store
from pipeline.store.reader import open_store

pytestmark = pytest.mark.usefixtures("small_shards")


def split_files(folder):
    """The files of a set by split: {split: [(path below the split, bytes)]}."""
    splits = {}
    for name, data in list_files(folder):
        split, _, rest = name.partition("/")
        splits.setdefault(split, []).append((rest, data))
    return splits


def pack_split(pack, suffix):
    def make(folder, target):
        target.mkdir()
        for split, files in split_files(folder).items():
            pack(target / f"{split}{suffix}", files)
        return target

    return make


def pack_hugging_face(folder, target):
    """As a data set's repository has them: several files of a split, below data/."""
    (target / "data").mkdir(parents=True)
    for split, files in split_files(folder).items():
        for number in range(2):
            pack_parquet(target / f"data/{split}-0000{number}-of-00002.parquet", files[number::2])
    return target


def pack_shards(folder, target):
    target.mkdir()
    files = list_files(folder)
    for number in range(3):
        pack_tar(target / f"shard-00000{number}.tar", files[number::3])
    return target


def pack_sources(folder, target):
    """A zip for each source, in the folders of splits and classes."""
    for source in sorted(folder.glob("*/*/*")):
        path = target / source.relative_to(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        pack_zip(path.with_name(f"{path.name}.zip"), list_files(source))
    return target


def pack_pairs(folder, target):
    """As WebDataset has them: numbered samples of a picture and its class, a shard for each split."""
    target.mkdir()
    for split, files in split_files(folder).items():
        members = []
        for number, (name, data) in enumerate(files):
            label, source, file = name.split("/")
            key = f"{source}/{number:06}"
            members += [(f"{key}.cls", label.encode()), (f"{key}{Path(file).suffix}", data)]
        pack_tar(target / f"{split}-000000.tar", members)
    return target


FAST = ["--size", "16", "--variants", "clean", "--workers", "0"]
WHOLE = {
    "zip": lambda folder, target: pack_zip(target.with_suffix(".zip"), list_files(folder)),
    "tar": lambda folder, target: pack_tar(target.with_suffix(".tar"), list_files(folder)),
}
PACKED = WHOLE | {
    "web-dataset": pack_pairs,
    "zips": pack_split(pack_zip, ".zip"),
    "tars": pack_split(pack_tar, ".tar"),
    "shards": pack_shards,
    "sources": pack_sources,
    "hugging-face": pack_hugging_face,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_kaggle_dir(tmp_path_factory.mktemp("set") / "kaggle")


def invoke(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def list_differences(one, other):
    one, other = read_files(Path(one)), read_files(Path(other))
    return {name.split("/")[0] for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.fixture(scope="module")
def unpacked(folder, tmp_path_factory):
    """The store of the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "MAX_SHARD_ROWS", 6)  # as `small_shards` sets it
        out = tmp_path_factory.mktemp("unpacked") / "a.zarr"
        return open_store(build_store([str(folder)], out, SMALL_BUILD, workers=0).path)


@pytest.mark.parametrize("kind", PACKED)
def test_store_of_an_archive_has_the_bytes_of_the_folder(folder, unpacked, tmp_path, kind):
    packed = PACKED[kind](folder, tmp_path / "kaggle")
    summary = build_store([str(packed)], tmp_path / "a.zarr", SMALL_BUILD, workers=0)
    assert summary.plan.set_aside == []
    names = {"zarr.json", "provenance"}  # they say which archive; of one archive all else is the same
    if kind not in WHOLE:
        names |= {"image"}
    if kind in ("hugging-face", "web-dataset"):
        names |= {"card"}  # its near-duplicates would be rows of a table
    assert list_differences(unpacked.path, summary.path) <= names
    store = open_store(summary.path)
    members = [store.picture_path(row) for row in range(len(store))]
    assert all(str(member).startswith(str(packed)) for member in members)
    if kind in WHOLE:
        assert store.roots == (str(packed),)
        assert [packed / image for image in unpacked.columns["image"]] == members
    assert verify_store(summary.path).sound


@pytest.mark.slow
def test_store_of_an_archive_built_by_workers_has_the_same_bytes(folder, tmp_path):
    packed = pack_zip(tmp_path / "set.zip", list_files(folder))
    for name, workers in (("a", 0), ("b", 2)):
        build_store([str(packed)], tmp_path / f"{name}.zarr", SMALL_BUILD, workers=workers)
    assert_same_files(tmp_path / "a.zarr", tmp_path / "b.zarr")


def test_an_archive_is_read_once_in_a_process(folder, tmp_path, monkeypatch):
    packed = pack_zip(tmp_path / "set.zip", list_files(folder))
    opened = []
    original = ZipArchive.__init__
    monkeypatch.setattr(ZipArchive, "__init__", lambda self, path: (opened.append(path), original(self, path))[1])
    build_store([str(packed)], tmp_path / "a.zarr", SMALL_BUILD, workers=0)
    assert opened == [str(packed)]


def test_build_from_an_archive_after_a_kill_keeps_finished_shards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 256)  # as in the process that is killed
    packed = PACKED["zip"](folder, tmp_path / "set")
    command = ["build", "--src", packed, "--size", "512", "--variants", "clean", "--workers", "0", "--json", "--out"]
    out, whole = tmp_path / "features.zarr", tmp_path / "whole.zarr"
    done = Path(f"{out}.partial/build/done")
    assert run_until_step(done / "00000001", 2, ["pipeline", *map(str, command), str(out)])
    for place, kept in ((out, 1), (whole, 0)):
        result = invoke(*command, place)
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["shards_kept"] == kept
    assert_same_files(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar", "hugging-face"])
def test_build_from_an_archive_killed_at_any_step_ends_in_the_same_bytes(tmp_path, kind):
    folder = make_kaggle_dir(tmp_path / "folder", per_source=12)
    packed = PACKED[kind](folder, tmp_path / "set")
    command = ["pipeline", "build", "--src", str(packed), "--size", "64", "--workers", "0", "--out"]
    out, whole = tmp_path / "features.zarr", tmp_path / "whole.zarr"
    assert not run_until_step(whole, 10**9, [*command, str(whole)])
    killed = sum(run_until_step(out, step, [*command, str(out)]) for step in (3, 40, 11, 75, 22, 60))
    assert killed >= 4
    assert not run_until_step(out, 10**9, [*command, str(out)])
    assert_same_files(out, whole)


def grow_zip(packed, more):
    with zipfile.ZipFile(packed, "a") as opened:
        for name, data in more:
            opened.writestr(name, data)


def grow_tar(packed, more):
    import io
    import tarfile

    with tarfile.open(packed, "a") as opened:
        for name, data in more:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))


@pytest.mark.parametrize(("kind", "grow"), [("zip", grow_zip), ("tar", grow_tar)])
def test_a_grown_archive_adds_its_pictures_alone(build, kaggle_dir, tmp_path, kind, grow):
    packed = PACKED[kind](kaggle_dir, tmp_path / "set")
    build(packed, out="b.zarr")
    build(kaggle_dir)
    for number in range(5):
        draw_noise(500 + number).save(kaggle_dir / f"train/fake/gan/new{number}.png")
    more = [(f"train/fake/gan/new{n}.png", (kaggle_dir / f"train/fake/gan/new{n}.png").read_bytes()) for n in range(5)]
    grow(packed, more)
    ours, theirs = build(kaggle_dir), build(packed, out="b.zarr")
    assert (theirs.made, theirs.plan.growth.added, theirs.plan.growth.removed) == (ours.made, 5, [])
    assert list_differences(ours.path, theirs.path) <= {"zarr.json", "provenance"}


def test_a_new_shard_adds_its_pictures_alone(build, kaggle_dir, tmp_path):
    packed = pack_hugging_face(kaggle_dir, tmp_path / "set")
    before = build(packed)
    files = [(f"{('real', 'fake')[n % 2]}/new/{n}.png", draw_png(600 + n)) for n in range(6)]
    pack_parquet(packed / "data/train-00002-of-00003.parquet", files)
    after = build(packed)
    assert after.plan.growth.added == 6
    assert after.plan.growth.removed == []
    assert len(open_store(after.path)) == before.plan.rows + 6


def draw_png(seed):
    import io

    data = io.BytesIO()
    draw_noise(seed).save(data, "PNG")
    return data.getvalue()


def test_removed_and_changed_members_are_found(build, kaggle_dir, tmp_path):
    files = dict(list_files(kaggle_dir))
    packed = pack_zip(tmp_path / "set.zip", files.items())
    build(packed)
    del files["train/real/camera/0.jpg"]
    files["train/real/phone/1.png"] = draw_png(900)
    pack_zip(packed, files.items())
    growth = build(packed).plan.growth
    assert [path[-12:] for path in growth.removed] == ["camera/0.jpg"]
    assert [path[-11:] for path in growth.changed] == ["phone/1.png"]
    assert growth.added == 0


def test_damaged_shards_are_rebuilt_from_an_archive(build, kaggle_dir, tmp_path):
    packed = pack_tar(tmp_path / "set.tar", list_files(kaggle_dir))
    path = Path(build(packed).path)
    before = read_files(path)
    shard = path / "features/c/0/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-10])
    assert not repair_store(verify_store(str(path)))
    assert_same_files(path, before)
    shard.unlink()
    packed.unlink()
    [problem] = repair_store(verify_store(str(path)))
    assert problem.cause == Cause.LOST_PICTURES
    assert all(str(packed) in one for one in problem.details)


def test_broken_members_are_set_aside_by_name(build, kaggle_dir, tmp_path):
    files = [
        *list_files(kaggle_dir),
        ("train/real/camera/bad.jpg", b"\xff\xd8\xff nothing"),
        ("train/real/notes.txt", b""),
    ]
    packed = pack_zip(tmp_path / "set.zip", files)
    summary = build(packed)
    assert [one.path for one in summary.plan.set_aside] == [f"{packed}/train/real/camera/bad.jpg"]


def test_archives_beside_pictures_are_told_and_not_read(kaggle_dir, tmp_path):
    pack_zip(kaggle_dir / "archive.zip", list_files(kaggle_dir))
    (kaggle_dir / "old.tar.gz").write_bytes(b"\x1f\x8b")
    result = invoke("build", "--src", kaggle_dir, "--out", tmp_path / "a.zarr", *FAST)
    assert result.exit_code == 0
    assert len(open_store(tmp_path / "a.zarr").read_pictures()) == 32
    beside = "left out: 1 file packed beside pictures"
    assert f"{beside} (--src ARCHIVE reads an archive): {kaggle_dir / 'archive.zip'}\n" in result.stderr
    assert f"{beside} (unpack an archive to read it): {kaggle_dir / 'old.tar.gz'}\n" in result.stderr


def test_archives_in_an_archive_are_told(folder, tmp_path):
    inner = pack_zip(tmp_path / "inner.zip", list_files(folder)).read_bytes()
    both = pack_zip(tmp_path / "both.zip", [*list_files(folder), ("more/inner.zip", inner)])
    found = scan_sources([str(both)], max_pixels=10**8)
    assert [one.path for one in found.left_out] == [f"{both}/more/inner.zip"]
    assert "unpack it" in found.left_out[0].reason
    only = pack_tar(tmp_path / "only.tar", [("a/inner.zip", inner), ("b.tar.gz", b"")])
    with pytest.raises(UserError, match=r"only.tar: holds archives, such as a/inner.zip, and no pictures; unpack it"):
        scan_sources([str(only)], max_pixels=10**8)


def test_pictures_that_are_no_set_do_not_keep_archives_from_being_read(build, kaggle_dir, tmp_path):
    """As the preview in the repository of a data set."""
    packed = pack_hugging_face(kaggle_dir, tmp_path / "set")
    for name in ("preview.png", "assets/logo.png"):
        (packed / name).parent.mkdir(exist_ok=True)
        draw_noise(1).save(packed / name)
    found = scan_sources([str(packed)], max_pixels=10**8)
    assert len(found.pictures) == 32
    beside = [one.path for one in found.left_out if one.reason == "beside a set in archives"]
    assert beside == [str(packed / "assets/logo.png"), str(packed / "preview.png")]


def test_labels_that_are_numbers_need_a_meaning(folder, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    files = list_files(folder / "train")
    labels = [int(name.startswith("fake")) for name, _ in files]
    pq.write_table(pa.table({"image": [data for _, data in files], "label": labels}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"found 0, 1.*--meaning"):
        scan_sources([str(tmp_path)], max_pixels=10**8)
    reading = SetSettings(meaning=("0=real,1=fake",))
    found = scan_sources([str(tmp_path / "train.parquet")], reading, max_pixels=10**8).pictures
    assert sorted(one.file.label for one in found) == ["fake"] * 8 + ["real"] * 8
    assert {one.file.split for one in found} == {"train"}


def test_a_table_of_labels_names_members(folder, tmp_path):
    files = [(f"{number:04}.jpg", data) for number, (_, data) in enumerate(list_files(folder / "train"))]
    lines = [f"{number:04},{number % 2},set-{number % 3}" for number in range(len(files))]
    (tmp_path / "train.csv").write_text("\n".join(["id,is_fake,source", *lines]))
    packed = pack_zip(tmp_path / "train.zip", files)
    reading = SetSettings(labels=(str(tmp_path / "train.csv"),))
    for sources in ([], [str(packed)]):
        found = scan_sources(sources, reading, max_pixels=10**8).pictures
        assert len(found) == 16
        assert {(one.file.image[-8:], one.file.label, one.file.source) for one in found} >= {
            ("0000.jpg", "real", "set-0"), ("0001.jpg", "fake", "set-1")
        }  # fmt: skip


def test_archives_that_stay_closed_say_unpack(kaggle_dir, tmp_path):
    closed = pack_tar(tmp_path / "set.tar.gz", list_files(kaggle_dir), "w:gz")
    for src in (closed, f"real={closed}"):
        result = invoke("build", "--src", src, "--out", tmp_path / "a.zarr")
        assert result.exit_code == 1
        assert f"{closed}: a gzip file cannot be read in place" in result.stderr
        assert "Unpack it and give the folder" in result.stderr
    inside = tmp_path / "folder"
    inside.mkdir()
    shutil.move(closed, inside)
    assert "set.tar.gz: a gzip file cannot be read in place" in invoke("build", "--src", inside).stderr
    pack_zip(inside / "set.zip", list_files(kaggle_dir))
    result = invoke("build", "--src", inside, "--out", tmp_path / "a.zarr", *FAST)
    assert result.exit_code == 0
    assert "left out: 1 file not read in place (a gzip file cannot be read in place" in result.stderr
    assert "Unpack it and give the folder): " in result.stderr


def test_an_archive_s_own_name_says_its_split(build, kaggle_dir, tmp_path):
    splits = split_files(kaggle_dir)
    sources = [pack_zip(tmp_path / f"{split}.zip", files) for split, files in splits.items()]
    whole = build(*sources)
    columns = open_store(whole.path).columns
    assert np.unique(columns["split"]).tolist() == ["test", "train", "val"]


def test_a_folder_in_an_archive_can_be_a_source(build, kaggle_dir, tmp_path):
    packed = pack_zip(tmp_path / "set.zip", list_files(kaggle_dir))
    store = open_store(build(f"real={packed}/train/real", f"fake={packed}/train/fake/gan").path)
    assert len(store) == 12
    assert store.roots == (f"{packed}/train/fake/gan", f"{packed}/train/real")
    with pytest.raises(UserError, match="contains no picture files"):
        build(f"real={packed}/none", out="b.zarr")


def test_subset_of_an_archive_is_that_of_the_folder(folder, tmp_path):
    packed = pack_zip(tmp_path / "kaggle.zip", list_files(folder))
    for src, out in ((folder, "a"), (packed, "b")):
        result = invoke("subset", "--src", src, "--out", tmp_path / out, "--fraction", "0.5")
        assert result.exit_code == 0, result.stderr
    found, expected = ({name: data for name, data in read_files(tmp_path / one).items() if name.endswith(("g", "csv"))}
                       for one in ("b", "a"))  # fmt: skip
    assert_same_files(found, expected)
    result = invoke("subset", "--src", packed, "--out", tmp_path / "c", "--links")
    assert result.exit_code == 1
    assert "a symbolic link cannot lead into an archive; leave out --links" in result.stderr
    assert not (tmp_path / "c").exists()


def test_audit_and_card_of_an_archive_are_those_of_the_folder(folder, tmp_path):
    packed = pack_tar(tmp_path / "kaggle.tar", list_files(folder))
    audits = [json.loads(invoke("audit", "--src", src, "--json").stdout)["audit"] for src in (folder, packed)]
    assert audits[0] == audits[1]
    cards = [json.loads(invoke("card", src, "--out", tmp_path / "c", "--json").stdout) for src in (folder, packed)]
    assert cards[0] == cards[1]
    assert json.loads(invoke("card", "--diff", folder, packed, "--json").stdout) == []


def test_what_a_set_says_of_itself_is_read_from_an_archive(build, kaggle_dir, tmp_path):
    (kaggle_dir / SIMULATION_MARKER).write_text("{}")
    (kaggle_dir / "train/real/camera/source.toml").write_text('name = "A camera"\nlicence = "CC0"\n')
    store = open_store(build(pack_zip(tmp_path / "set.zip", list_files(kaggle_dir))).path)
    assert store.is_simulated
    [camera] = [one for one in store.card["sources"] if one["source"] == "camera"]
    assert camera["provenance"]["licence"] == "CC0"
