"""Mistakes in command lines: each is one line that says what to type instead."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from data_cards.core.files import RUN_SETTINGS, RUN_SUMMARY, ZARR_METADATA
from eval.cli.main import cli as evaluation
from pipeline.cli.main import main as pipeline
from train.cli import cli as train

OF_STORE = (
    "has no option before it; it is a feature store: `train run --store a.zarr` trains on it, `report --store a.zarr` "
    "scores its pictures"
)
OF_UNFINISHED = (
    "has no option before it; it is a feature store whose build is not finished: `pipeline inspect b.zarr` shows its "
    "progress"
)
OF_PICTURES = (
    "has no option before it; it is a folder: `predict pictures` judges pictures, `pipeline build --src pictures` "
    "makes a feature store of them"
)
MISTAKES = [
    (pipeline, "build set", "set: has no option before it; did you mean `--src set`?"),
    (pipeline, "build set more", "set, more: has no option before it; did you mean `--src set --src more`?"),
    (pipeline, "build real=set", "real=set: has no option before it; did you mean `--src real=set`?"),
    (pipeline, "build --src set new.zarr", "new.zarr: has no option before it; did you mean `--out new.zarr`?"),
    (pipeline, "build --src", "--src: has no value; expected `--src FOLDER|CLASS=FOLDER`"),
    (pipeline, "build --input set", "--input: no such option; did you mean --src?"),
    (pipeline, "build -o a.zarr", "-o: no such option; did you mean --out?"),
    (pipeline, "build --sed 3", "--sed: no such option; did you mean --seed?"),
    (pipeline, "buld", "buld: no such command; expected audit, build, card, inspect, sample, subset, verify; "
     "did you mean `pipeline build`?"),
    (pipeline, "--src set", "--src: no such option; did you mean `pipeline audit --src` or `pipeline build --src` or "
     "`pipeline card --src` or `pipeline subset --src`?"),
    (pipeline, "audit a.zarr", "a.zarr: has no option before it; did you mean `--store a.zarr`?"),
    (pipeline, "subset set", "set: has no option before it; did you mean `--src set`?"),
    (pipeline, "subset --src set", "--out is missing; expected `--out FOLDER` (New or empty folder to write)"),
    (pipeline, "sample new", "new: has no option before it; did you mean `--out new`?"),
    (pipeline, "inspect --store a.zarr", "--store: no such option; did you mean `pipeline inspect a.zarr`?"),
    (pipeline, "inspect a.zarr b.zarr", "b.zarr: one too many; expected one STORE"),
    (pipeline, "card --store a.zarr", "--store: no such option; did you mean `pipeline card a.zarr`?"),
    (train, "run a.zarr", "a.zarr: has no option before it; did you mean `--store a.zarr`?"),
    (train, "run --src set", "--src: no such option; did you mean --store?"),
    (train, "list --run run", "--run: no such option; did you mean `train list .`?"),
    (train, "list --runs .", "--runs: no such option; did you mean `train list .`?"),
    (train, "list --run set", "--run: no such option; did you mean `train list [RUNS]`?"),
    (train, "export run --onnx x.onnx", "run: has no option before it; did you mean `--run run`?"),
    (train, "export", "--onnx is missing; expected `--onnx FILE` (File to write, such as detector.onnx)"),
    (evaluation, "report run", "run: has no option before it; did you mean `--run run`?"),
    (evaluation, "report runs/001", "runs/001: has no option before it; did you mean `--run runs/001`?"),
    (evaluation, "report a.zarr", "a.zarr: has no option before it; did you mean `--store a.zarr`?"),
    (evaluation, "report --model run", "--model: no such option; did you mean --run?"),
    (evaluation, "predict --src 'my pictures'", "--src: no such option; did you mean `eval predict 'my pictures'`?"),
    (evaluation, "predict picture.jpg --store a.zarr", "--store: no such option"),
    (evaluation, "page picture.jpg", "picture.jpg: has no option before it; it is a file: `predict picture.jpg` judges "
     "a picture"),
    (evaluation, "page a.zarr", f"a.zarr: {OF_STORE}"),
    (train, "export a.zarr", f"a.zarr: {OF_STORE}"),
    (pipeline, "subset a.zarr", f"a.zarr: {OF_STORE}"),
    (pipeline, "build a.zarr", "a.zarr: has no option before it; did you mean `--out a.zarr`?"),
    (pipeline, "build b.zarr.partial", f"b.zarr.partial: {OF_UNFINISHED}"),
    (train, "run b.zarr.partial", f"b.zarr.partial: {OF_UNFINISHED}"),
    (evaluation, "report b.zarr", f"b.zarr: {OF_UNFINISHED}"),
    (train, "run pictures", f"pictures: {OF_PICTURES}"),
    (evaluation, "report pictures", f"pictures: {OF_PICTURES}"),
    (pipeline, "audit run", "run: has no option before it; it is a run of `train run`: `report --run run` scores it, "
     "`predict --run run PICTURE` judges pictures with it"),
    (evaluation, "report detectors", "detectors: has no option before it; did you mean `--run detectors`?"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "words", "expected"), MISTAKES, ids=[words for _, words, _ in MISTAKES])
def test_command_with_a_mistaken_option_says_what_to_type(command, words, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = {"set": [], "more": [], "a.zarr": [ZARR_METADATA], "b.zarr.partial": [ZARR_METADATA]}
    folders |= {"run": [RUN_SETTINGS, RUN_SUMMARY], "detectors/1": [RUN_SETTINGS, RUN_SUMMARY], "pictures": ["1.jpg"]}
    for folder, files in folders.items():
        Path(folder).mkdir(parents=True)
        for file in files:
            Path(folder, file).touch()
    Path("picture.jpg").touch()
    name = {pipeline: "pipeline", train: "train", evaluation: "eval"}[command]
    result = CliRunner().invoke(command, words, prog_name=name)
    assert result.exit_code == 2
    of = f"{name} {words.split()[0]}" if not words.startswith("-") and words != "buld" else name
    assert result.stderr == f"error: {expected}; see `{of} --help`\n"


def test_help_is_shown_beside_a_mistake():
    result = CliRunner().invoke(pipeline, "build set --help")
    assert result.exit_code == 0
    assert "Build a feature store" in result.output


@pytest.mark.parametrize("words", ["", "build", "verify"])
def test_h_is_help(words):
    short, long = (CliRunner().invoke(pipeline, f"{words} {flag}") for flag in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)
    assert short.output.startswith("Usage: ")


@pytest.mark.parametrize("name", ["b.zarr", "b.zarr.partial"])
@pytest.mark.parametrize(
    ("command", "words", "expected"),
    [
        (evaluation, "predict", "expected pictures"),
        (evaluation, "report --run", "expected the folder of a run"),
        (train, "list", "expected a folder of run folders"),
    ],
)
def test_unfinished_store_in_place_of_another_thing_is_named(command, words, expected, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("b.zarr.partial").mkdir()
    Path("b.zarr.partial", ZARR_METADATA).touch()
    result = CliRunner().invoke(command, f"{words} {name}")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {name}: is a feature store whose build is not finished; {expected}; `pipeline inspect b.zarr` "
        "shows its progress"
    )
