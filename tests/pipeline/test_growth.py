"""`build_store` on a store that exists: it grows by what is new, and by nothing else."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.folders import assert_same_files, read_files
from helpers.pictures import draw_noise, make_kaggle_dir
from PIL import Image

from data_cards.core.errors import UserError
from data_cards.dataset.settings import SetSettings
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import build_shard
from pipeline.cli.main import main
from pipeline.cli.summary import format_build, format_dry_run
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings

pytestmark = pytest.mark.usefixtures("small_shards")


def rows_by_picture(path):
    """(image, sha256) -> (row, split, features) of every row."""
    store = open_store(path)
    columns = store.columns
    features = store.features[:]
    return {
        (columns["image"][row], columns["sha256"][row]): (row, columns["split"][row], features[row])
        for row in range(len(store))
    }


def check_features(path):
    """Every clean row is what its file gives."""
    store = open_store(path)
    for row in range(len(store)):
        file = store.picture_path(row)
        assert (store.features[row] == next(compute_features(file, store.settings.features)).levels[0]).all()


def test_build_of_unchanged_pictures_does_nothing(build):
    first = build()
    before = read_files(Path(first.path))
    again = build()
    assert (again.made, again.plan.growth.added) == (0, 0)
    assert_same_files(Path(again.path), before)


def test_new_pictures_come_behind_and_old_rows_stay(build, kaggle_dir, capsys):
    before = rows_by_picture(build().path)
    for number in range(5):
        draw_noise(500 + number).save(kaggle_dir / f"train/fake/gan/new{number}.png")
    assert "other programs cannot read it" not in capsys.readouterr().err
    summary = build()
    assert f"{summary.path}: is {summary.path}.partial until this build is finished" in capsys.readouterr().err
    after = rows_by_picture(summary.path)
    assert summary.plan.growth.added == 5
    assert summary.made == 2  # 32 rows in shards of 6: the ragged last one and one more
    assert len(after) == len(before) + 5
    for key, (row, split, features) in before.items():
        assert after[key][:2] == (row, split)
        assert (after[key][2] == features).all()
    check_features(summary.path)
    store = open_store(summary.path)
    training = store.features[:][store.rows("train")].astype(np.float64)
    assert np.allclose(store.mean, training.mean(0), atol=1e-4)


def test_another_source_adds_its_pictures_alone(build, tmp_path):
    before = rows_by_picture(build().path)
    own = tmp_path / "own"
    own.mkdir()
    for number in range(8):
        draw_noise(700 + number).save(own / f"{number}.jpg")
    summary = build(f"real={own}")
    after = rows_by_picture(summary.path)
    assert len(after) == len(before) + 8
    assert {key: value[:2] for key, value in after.items() if key in before} == {
        key: value[:2] for key, value in before.items()
    }
    new = [value[1] for key, value in after.items() if key not in before]
    assert sorted(new) == ["train"] * 6 + ["val"] * 2
    assert set(open_store(summary.path).columns["source"]) >= {"own", "camera"}
    check_features(summary.path)


def test_pictures_of_another_source_are_made_again_and_not_called_removed(build, kaggle_dir):
    summary = build()
    again = build(reading=SetSettings(source_pattern="/([a-z]+)/[0-9]+"))
    assert (again.plan.growth.added, again.plan.growth.removed, again.plan.growth.reassigned) == (0, [], [])
    again = build(reading=SetSettings(source_pattern="/([a-z])[a-z]+/[0-9]+"))
    assert (again.plan.growth.added, again.plan.growth.removed) == (0, [])
    assert len(again.plan.growth.reassigned) == 32
    assert set(open_store(summary.path).columns["source"]) == {"c", "p", "g", "d"}
    assert "made again, with another class, source or split than before: 32 pictures" in format_build(again)
    check_features(summary.path)


def test_removed_and_changed_pictures_are_found(build, kaggle_dir):
    build()
    (kaggle_dir / "train/real/camera/0.jpg").unlink()
    draw_noise(900).save(kaggle_dir / "train/real/phone/1.png")
    dry = format_dry_run(build(dry_run=True))
    assert "would be removed from the store, because missing or set aside: 1 picture\n" in dry
    assert "would be made again, because the file changed: 1 picture\n" in dry
    summary = build()
    growth = summary.plan.growth
    assert [path[-12:] for path in growth.removed] == ["camera/0.jpg"]
    assert [path[-11:] for path in growth.changed] == ["phone/1.png"]
    assert growth.added == 0
    assert len(open_store(summary.path)) == 31
    assert "removed from the store, because missing or set aside: 1 picture\n" in format_build(summary)
    assert "made again, because the file changed: 1 picture\n" in format_build(summary)
    check_features(summary.path)


def test_a_file_that_another_picture_of_the_store_replaces_is_removed(build, kaggle_dir):
    build()
    shutil.move(kaggle_dir / "train/real/camera/2.jpg", kaggle_dir / "train/real/camera/0.jpg")
    growth = build().plan.growth
    assert (growth.added, [path[-12:] for path in growth.removed], growth.changed) == (0, ["camera/0.jpg"], [])


def test_one_of_two_equal_files_that_takes_the_source_of_the_other_is_not_counted_twice(build, kaggle_dir):
    camera, phone = (kaggle_dir / "train/real" / name for name in ("camera/1p.png", "phone/1q.png"))
    for copy in (camera, phone):
        draw_noise(900).save(copy)
    build(reading=SetSettings(source_pattern="/([a-z])[a-z]+/[^/]+$"))
    phone.unlink()
    growth = build(reading=SetSettings(source_pattern="(.)[.]")).plan.growth
    assert (growth.added, len(growth.removed), len(growth.reassigned)) == (0, 1, 32)


@pytest.mark.parametrize("first", ["", "train"])
def test_overlapping_folders_hold_each_picture_once(build, kaggle_dir, first):
    other = "" if first else "train"
    before = rows_by_picture(build(str(kaggle_dir / first)).path)
    summary = build(str(kaggle_dir / other))
    assert (summary.plan.growth.added, summary.plan.growth.repeated) == ((0, 16) if other else (16, 16))
    assert "kept once: 16 files of the store, found again by an overlapping folder" in format_build(summary)
    after = rows_by_picture(summary.path)
    assert len(after) == 32
    assert {key: value[:2] for key, value in after.items() if key in before} == {
        key: value[:2] for key, value in before.items()
    }
    draw_noise(900).save(kaggle_dir / "train/real/phone/1.png")
    growth = build(str(kaggle_dir / other)).plan.growth
    assert (growth.added, growth.removed, [path[-11:] for path in growth.changed]) == (0, [], ["phone/1.png"])
    assert len(open_store(summary.path)) == 32
    check_features(summary.path)


def test_overlapping_folders_that_differ_in_split_are_refused(build, kaggle_dir):
    path = Path(build().path)
    before = read_files(path)
    with pytest.raises(UserError, match=r"is in the store as test/\w+ \(.*and is found as train/\w+; .*--src .*kaggle"):
        build(str(kaggle_dir / "test"))
    assert_same_files(path, before)


def test_a_moved_picture_keeps_its_row(build, kaggle_dir):
    before = {sha: value for (_, sha), value in rows_by_picture(build().path).items()}
    shutil.move(kaggle_dir / "train/real/camera/0.jpg", kaggle_dir / "train/real/camera/renamed.jpg")
    summary = build()
    assert (summary.made, summary.plan.growth.added, summary.plan.growth.removed) == (0, 0, [])
    after = rows_by_picture(summary.path)
    assert {sha: value[:2] for (_, sha), value in after.items()} == {sha: value[:2] for sha, value in before.items()}
    assert any(image.endswith("renamed.jpg") for image, _ in after)
    check_features(summary.path)


@pytest.mark.parametrize("way", ["moved", "linked"])
def test_a_folder_by_another_path_is_the_same_folder(build, kaggle_dir, tmp_path, way):
    before = rows_by_picture(build().path)
    other = tmp_path / "other"
    if way == "moved":
        shutil.move(kaggle_dir, other)
        (other / "train/real/phone/1.png").unlink()  # whether it was moved too is unknown, so its row is kept
    else:
        other.symlink_to(kaggle_dir)
    summary = build(str(other))
    assert (summary.made, summary.plan.growth.added, summary.plan.growth.removed) == (0, 0, [])
    assert {key: value[:2] for key, value in rows_by_picture(summary.path).items()} == {
        key: value[:2] for key, value in before.items()
    }


def test_fewer_pictures_leave_no_shard_behind(build, kaggle_dir, tmp_path):
    build()
    shutil.rmtree(kaggle_dir / "test")
    summary = build()
    assert summary.plan.shards == 3
    assert len(list((tmp_path / "a.zarr/features/c").iterdir())) == 3
    check_features(summary.path)


def test_a_near_duplicate_joins_its_group_s_split(build, kaggle_dir):
    store = open_store(build().path)
    columns = store.columns
    row = store.rows("val")[0]
    file = kaggle_dir / columns["image"][row]
    with Image.open(file) as picture:
        picture.convert("RGB").save(file.with_name("copy.jpg"), quality=60)
    grown = open_store(build().path).columns
    copy = [name.endswith("copy.jpg") for name in grown["image"]].index(True)
    assert grown["split"][copy] == "val"
    assert grown["group"][copy] == grown["group"][row]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            BuildSettings(FeatureSettings(size=24), "clean", 0, 0.25),
            "size is 16, 24 was asked for; to add to it, leave out every option under Planes",
        ),
        (BuildSettings(FeatureSettings(size=16, fit="crop"), "clean", 0, 0.25), "fit is cover, crop was asked for"),
        (BuildSettings(FeatureSettings(size=16), "clean", 3, 0.25), "seed is 0, 3 was asked for"),
        (
            BuildSettings(FeatureSettings(size=16), "clean", 0, 0.25, packing="none"),
            "packing is mirror",
        ),
    ],
)
def test_other_settings_are_refused_by_name(build, kaggle_dir, tmp_path, other, message):
    build()
    with pytest.raises(UserError, match=message):
        build_store([str(kaggle_dir)], tmp_path / "a.zarr", other, workers=0)
    open_store(tmp_path / "a.zarr")


def test_growth_without_settings_keeps_those_of_the_store(build, kaggle_dir, tmp_path, capsys):
    build()
    for number in range(3):
        draw_noise(900 + number).save(kaggle_dir / f"train/real/camera/new{number}.png")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "b.zarr")
    build()
    capsys.readouterr()
    build_store([str(kaggle_dir)], tmp_path / "b.zarr", workers=0)
    assert "b.zarr: keeps its settings, --size 16 --variants clean --val-fraction 0.25" in capsys.readouterr().err
    assert_same_files(tmp_path / "a.zarr", tmp_path / "b.zarr")


def test_a_stopped_build_resumes_without_settings(kaggle_dir, tmp_path):
    settings = BuildSettings(FeatureSettings(size=16), "clean")
    build_store([str(kaggle_dir)], tmp_path / "a.zarr", settings, workers=0)

    def stop(task):
        if task.shard == 2:
            raise KeyboardInterrupt
        return build_shard(task)

    with pytest.raises(KeyboardInterrupt):
        build_store([str(kaggle_dir)], tmp_path / "b.zarr", settings, workers=0, shard_function=stop)
    build_store([str(kaggle_dir)], tmp_path / "b.zarr", workers=0)
    assert_same_files(tmp_path / "a.zarr", tmp_path / "b.zarr")


def test_command_grows_a_store_with_its_settings_unless_others_are_given(build, kaggle_dir, tmp_path):
    build()
    command = ["build", "--src", str(kaggle_dir), "--out", str(tmp_path / "a.zarr"), "--workers", "0", "--no-cache"]
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, "keeps its settings, --size 16" in result.stderr) == (0, True), result.output
    result = CliRunner().invoke(main, [*command, "--seed", "0"])
    assert result.exit_code == 1
    assert "size is 16, none was asked for" in result.stderr


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (BuildSettings(), ""),
        (BuildSettings(FeatureSettings(size=1024)), "--size 1024"),
        (BuildSettings(FeatureSettings(estimator="averaged", size=512)), "--estimator averaged"),
        (BuildSettings(FeatureSettings(patch=64, overview=64, size=256)), "--size 256 --patch 64 --overview 64"),
        (BuildSettings(FeatureSettings(levels="fine", size=64), seed=3), "--size 64 --levels fine --seed 3"),
    ],
)
def test_options_of_settings_are_the_fewest_that_give_them(settings, options):
    assert " ".join(settings.list_options()) == options


def test_a_folder_that_is_no_store_of_ours_is_left_alone(build, tmp_path):
    zarr.create_group(tmp_path / "a.zarr")
    with pytest.raises(UserError, match="exists but is not a feature store"):
        build()
    (tmp_path / "b.zarr").mkdir()
    (tmp_path / "b.zarr" / "diary.txt").write_text("mine")
    with pytest.raises(UserError, match="exists but is not a feature store"):
        build(out="b.zarr")
    assert (tmp_path / "b.zarr" / "diary.txt").read_text() == "mine"


def test_the_grown_store_holds_what_a_fresh_one_would(build, kaggle_dir, tmp_path):
    """Rows stand in another order, but every sample is the same."""
    shutil.move(kaggle_dir / "train/fake/gan", tmp_path / "gan")
    build()
    shutil.move(tmp_path / "gan", kaggle_dir / "train/fake/gan")
    grown, fresh = rows_by_picture(build().path), rows_by_picture(build(out="fresh.zarr").path)
    assert grown.keys() == fresh.keys()
    assert all((grown[key][2] == fresh[key][2]).all() for key in grown)


def test_more_pictures_while_a_build_is_under_way(kaggle_dir, tmp_path, build):
    def stop(task):
        if task.shard == 3:
            raise KeyboardInterrupt
        return build_shard(task)

    with pytest.raises(KeyboardInterrupt):
        build(shard_function=stop)
    make_kaggle_dir(tmp_path / "more", per_source=2)
    draw_noise(950).save(kaggle_dir / "train/real/camera/new.png")
    summary = build()
    assert summary.kept == 3
    check_features(summary.path)
