"""The `pipeline` commands as a user types them: output, exit statuses, errors of one line."""

import json
import os
import shutil
import stat
import subprocess
import sys
from functools import partial

import pytest
import zarr
from click.testing import CliRunner
from helpers.folders import assert_same_files
from helpers.pictures import draw_noise, make_kaggle_dir

from pipeline.builder import plan as plan_module
from pipeline.builder.build import build_store
from pipeline.builder.shard_task import build_shard
from pipeline.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


def build(source, out, *arguments):
    return run("build", "--src", source, "--out", out, "--size", 16, "--workers", 0, *arguments)


@pytest.fixture
def store(kaggle_dir, tmp_path):
    assert build(kaggle_dir, tmp_path / "a.zarr", "--variants", "clean").exit_code == 0
    return tmp_path / "a.zarr"


def one_line(result, status, *words):
    """One line on stderr that starts with error and holds the words; no traceback."""
    assert result.exit_code == status, result.output
    lines = [line for line in result.stderr.splitlines() if line]
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error") for line in lines) == 1
    for word in words:
        assert word in lines[-1]
    assert "Traceback" not in result.output


def test_build_ends_with_words_and_a_short_table(kaggle_dir, tmp_path):
    for number in range(25):
        (kaggle_dir / f"train/real/camera/broken{number}.jpg").write_bytes(b"no picture")
    for number in range(4):
        (kaggle_dir / f"test/fake/source{number}").mkdir()
        draw_noise(1000 + number, 40).save(kaggle_dir / f"test/fake/source{number}/0.jpg")
    result = build(kaggle_dir, tmp_path / "a.zarr", "--size", 64)
    assert result.exit_code == 0, result.output
    for words in ("set aside: 25 files", "broken0.jpg: not a picture", "and 5 more (--json names all)",
                  "36 of 36 pictures were upsampled"):  # fmt: skip
        assert words in result.stdout
    lines = result.stdout.splitlines()
    assert "36 pictures as 144 samples (variants: views)" in lines[0]
    assert any(line.startswith("test     fake") and line.endswith("and 2 more") for line in lines), result.stdout
    assert len(lines) < 36
    assert result.stderr.count("samples to make: about") == 1


def test_build_of_one_source_a_class_says_what_it_means_and_what_to_do(kaggle_dir, tmp_path):
    assert "one source" not in build(kaggle_dir, tmp_path / "many.zarr").output
    flat = tmp_path / "flat"
    for split in ("train", "test"):
        for label in ("real", "fake"):
            (flat / split / label).mkdir(parents=True)
            for picture in (kaggle_dir / split / label).rglob("*.*"):
                shutil.copy(picture, flat / split / label / f"{picture.parent.name}-{picture.name}")
    result = build(flat, tmp_path / "flat.zarr")
    assert "warning: each class has only one source (real: flat, fake: flat)" in result.stderr
    assert "so every verdict will be unsure" in result.stderr
    assert "train/fake/NAME/" in result.stderr
    assert result.output.count("one source") == 1
    # What the warning names helps.
    assert "one source" not in build(flat, tmp_path / "named.zarr", "--source-pattern", "/([a-z]+)-").output


def test_build_as_json_and_again(kaggle_dir, tmp_path):
    result = build(kaggle_dir, tmp_path / "a.zarr", "--json")
    facts = json.loads(result.stdout)
    assert (facts["samples"], facts["shards_made"], facts["added"]) == (128, 1, 32)
    facts = json.loads(build(kaggle_dir, tmp_path / "a.zarr", "--json").stdout)
    assert (facts["shards_made"], facts["shards_kept"], facts["added"]) == (0, 1, 0)


def test_build_without_a_test_split_says_so(kaggle_dir, tmp_path):
    result = build(kaggle_dir / "train", tmp_path / "a.zarr")
    assert "no test split" in result.stdout


def test_inspect_prints_the_store(store, tmp_path):
    text = run("inspect", store).stdout
    for words in ("9 x 16 x 16, uint8", "755, float32", "magnitude 0.", "cover to 16 px", "fingerprint"):
        assert words in text
    facts = json.loads(run("inspect", store, "--json").stdout)
    assert facts["shape"] == [32, 9, 16, 16]
    assert set(facts["compression"]) == {"magnitude", "phase", "dct", "profiles"}
    picture = tmp_path / "planes.png"
    assert run("inspect", store, "--png", picture, "--row", 3, "--row", 0).exit_code == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    one_line(run("inspect", store, "--png", picture, "--row", 32), 2, "row 32", "0 to 31")


def test_inspect_while_a_build_is_under_way(kaggle_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "MAX_SHARD_ROWS", 16)

    def stop(task):
        if task.shard == 2:
            raise KeyboardInterrupt
        return build_shard(task)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.cli.main.build_store", partial(build_store, shard_function=stop))
        stopped = build(kaggle_dir, tmp_path / "a.zarr")
        assert stopped.exit_code == 130
        assert stopped.stderr.endswith(
            "stopping; finished shards are kept\nerror: stopped; run the same command again\n"
        )
    facts = json.loads(run("inspect", tmp_path / "a.zarr", "--json").stdout)
    assert (facts["complete"], facts["shards_done"], facts["shards_missing"]) == (False, 2, [2, 3, 4, 5, 6, 7])
    assert "2 of 8 shards are done" in run("inspect", tmp_path / "a.zarr").stdout
    drawing = run("inspect", tmp_path / "a.zarr", "--png", tmp_path / "a.png")
    one_line(drawing, 3, "--png", "is not finished; expected a complete store; `pipeline inspect")
    one_line(run("verify", tmp_path / "a.zarr"), 3, "not finished", "pipeline build")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        pytest.param(["--src", "missing"], 1, ["missing", "no such folder"], id="missing-folder"),
        pytest.param(["--src", "empty"], 1, ["empty", "expected class folders"], id="empty-folder"),
        pytest.param(["--src", "real=kaggle/train/real"], 1, ["fake", "--src fake=FOLDER"], id="one-class"),
        pytest.param(["--src", "kaggle", "--size", "4"], 2, ["size 4", "8 to 8192"], id="size"),
        pytest.param(["--src", "kaggle", "--val-fraction", "1"], 2, ["fraction 1.0"], id="fraction"),
        pytest.param(["--src", "kaggle", "--workers", "-1"], 2, ["workers -1"], id="workers"),
        pytest.param(["--src", "kaggle", "--out", "file/x.zarr"], 1, ["file", "is a file"], id="out-in-file"),
        pytest.param(["--src", "kaggle", "--out", "file"], 1, ["file", "is a file"], id="out-is-file"),
        pytest.param(["--src", "kaggle", "--fit", "crop", "--size", "64"], 1, ["smaller than the crop"], id="crop"),
        pytest.param(["--src", "kaggle", "--out", "gopher://x/y"], 1, ["gopher"], id="unknown-protocol"),
    ],
)
def test_build_of_bad_input_is_one_line(kaggle_dir, tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    one_line(run("build", "--workers", 0, *arguments), status, *words)
    assert not list(tmp_path.glob("*.zarr*"))


def test_build_with_an_unknown_choice_exits_2(kaggle_dir):
    result = run("build", "--src", kaggle_dir, "--fit", "squeeze")
    assert result.exit_code == 2
    assert "cover" in result.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_build_into_a_read_only_folder_is_one_line(kaggle_dir, tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    one_line(build(kaggle_dir, folder / "a.zarr"), 1, "no permission", "--out")


@pytest.fixture
def places(store, kaggle_dir, tmp_path):
    """A thing of every kind, by name."""
    for name in ("run", "plotted", "empty", "text"):
        (tmp_path / name).mkdir()
    for name in ("settings.json", "summary.json"):
        for folder in ("run", "plotted"):
            (tmp_path / folder / name).write_text("{}")
    draw_noise(1).save(tmp_path / "plotted" / "curves.png")
    for file in ("file.txt", "text/a.txt"):
        (tmp_path / file).write_text("hello")
    return {"store": store, "pictures": kaggle_dir, **{path.name: path for path in tmp_path.iterdir()}}


OF_STORES = [["audit", "--store"], ["inspect"], ["verify"]]
OF_PICTURES = [["build", "--src"], ["audit", "--src"], ["subset", "--out", "x", "--src"]]


@pytest.mark.parametrize(
    ("commands", "place", "words"),
    [
        (OF_STORES, "absent", ["no such feature store", "pipeline build --src FOLDER"]),
        (OF_STORES, "file.txt", ["is a file, not a feature store"]),
        (OF_STORES, "empty", ["is an empty folder, not a feature store"]),
        (OF_STORES, "text", ["not a feature store (it has no zarr.json)"]),
        (OF_STORES, "pictures", ["not a feature store", "make one from pictures with `pipeline build --src "]),
        (OF_STORES, "run", ["is a run of `train run`, not a feature store", "give the store that it was trained on"]),
        (OF_PICTURES, "absent", ["no such folder", "expected --src FOLDER"]),
        (OF_PICTURES, "file.txt", ["not an archive of a known kind", "give the folder"]),
        (OF_PICTURES, "empty", ["is an empty folder", "--src real=FOLDER"]),
        (OF_PICTURES, "text", ["contains no picture files", "--src real=FOLDER"]),
        (OF_PICTURES, "store", ["is a feature store; expected a folder of pictures", "pipeline audit --store"]),
        ([*OF_PICTURES, ["card"]], "run", ["is a run of `train run`; expected a folder", "`report --run "]),
        ([*OF_PICTURES, ["card"]], "plotted", ["is a run of `train run`; expected a folder", "`report --run "]),
        ([["card"], ["card", "--diff", "."]], "absent", ["does not exist; expected a feature store, or a folder"]),
        ([["card"]], "file.txt", ["is a file; expected a store, or a folder or archive of pictures"]),
        ([["card"]], "empty", ["is an empty folder"]),
    ],
)
def test_commands_on_a_place_of_another_kind_name_it_and_what_to_do(commands, place, words, places, tmp_path):
    for command in commands:
        options = ["--workers", "0"] if command[0] == "build" else []
        result = run(*command, places.get(place, tmp_path / place), *options)
        one_line(result, result.exit_code, place if place != "pictures" else "kaggle", *words)
        assert result.exit_code in (1, 2, 3)


def test_options_that_would_do_nothing_are_refused(store, tmp_path):
    one_line(run("inspect", store, "--row", 0), 2, "--row 0", "add --png FILE")
    one_line(run("card", "--diff", store, store, "--out", tmp_path / "x"), 2, "--out", "a comparison writes no files")
    card = tmp_path / "card"
    assert run("card", store, "--out", card).exit_code == 0
    for command in (["audit", "--store", store], ["card", store], ["card", "--diff", store, card]):
        one_line(run(*command, "--max-pixels", 9), 2, f"{store}: has its pictures already", "leave out --max-pixels 9")
        one_line(run(*command, "--meaning", "0=real"), 2, f"{store}: has its classes", "leave out --meaning 0=real")


def test_options_for_pictures_hold_for_the_pictures_that_a_card_or_a_store_is_compared_with(store, kaggle_dir):
    for places in ((store, kaggle_dir), (kaggle_dir, store)):
        one_line(run("card", "--diff", *places, "--max-pixels", 1), 1, "at most 1 are allowed")


def test_commands_on_a_store_that_cannot_be_read_are_one_line(store, tmp_path):
    one_line(run("inspect", tmp_path / "none.zarr"), 1, "no such feature store", "pipeline build")
    (tmp_path / "odd").mkdir()
    one_line(run("inspect", tmp_path / "odd"), 3, "not a feature store")
    group = zarr.open_group(store)
    group.attrs["format_version"] = 99
    one_line(run("inspect", store), 3, "format version 99", "expected 2")
    group.attrs.update({"format_version": 2, "complete": False})
    one_line(run("inspect", store), 3, "the build is not finished")
    group.attrs["complete"] = True
    (store / "label/c/0").write_bytes(b"x")
    one_line(run("inspect", store), 3, "damaged")


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_has_examples_and_is_at_most_70_lines_of_100_columns(command):
    text = CliRunner().invoke(main, [command, "--help"], terminal_width=100).stdout
    assert f"\n    pipeline {command} " in text
    lines = text.splitlines()
    assert len(lines) <= 70
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("command", ["pipeline", f"{sys.executable} -m pipeline"], ids=["installed", "module"])
def test_installed_command_equals_the_module(command, kaggle_dir, tmp_path):
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    line = f"{command} build --src kaggle --size 16 --variants clean --out a.zarr --workers 0"
    result = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a.zarr").is_dir()


def test_build_defaults_equal_those_of_build_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_kaggle_dir(tmp_path / "kaggle", per_source=2)
    command = ["build", "--src", "kaggle", "--out", "command.zarr", "--workers", "0"]
    assert CliRunner().invoke(main, command).exit_code == 0
    build_store(["kaggle"], "code.zarr", workers=0)
    assert_same_files(tmp_path / "command.zarr", tmp_path / "code.zarr")
