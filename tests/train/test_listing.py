"""`train list`: runs compared, with their states and reported scores."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.make_store import make_store

from data_cards.core.errors import UserError
from data_cards.core.files import RUN_SETTINGS, ZARR_METADATA
from train.cli import cli
from train.loop.trainer import train
from train.run.folder import open_run, read_run
from train.run.history import format_end_reason
from train.run.listing import list_runs
from train.run.reported_score import ReportedScore, write_reported_score
from train.run.summary import read_summary
from train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("list")
    store = make_store(folder / "features.zarr")
    of_second = {"network": "radial", "channels": "magnitude,dct"}
    for name, settings in (("first", {"network": "small"}), ("second", of_second)):
        train(
            TrainSettings(
                experts="off",
                store=str(store),
                run=str(folder / "runs" / name),
                epochs=2,
                batch_size=8,
                device="cpu",
                precision="float32",
                **settings,
            )
        )
    return folder / "runs"


def call(*arguments: str):
    return CliRunner().invoke(cli, list(arguments))


def test_runs_are_listed_from_the_oldest(runs):
    result = call("list", str(runs))
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[2].startswith(str(runs / "first"))
    assert lines[3].startswith(str(runs / "second"))
    best = min(open_run(runs / "first").history, key=lambda row: row["val_loss"])
    for text in ("small", "32", f"{best['val_loss']:.4f}", f"{best['val_accuracy']:.1%}", "finished"):
        assert text in lines[2]


def test_list_json_has_the_runs(runs):
    listed = json.loads(call("list", str(runs), "--json").stdout)
    assert [Path(one["run"]).name for one in listed] == ["first", "second"]
    history = open_run(runs / "second").history
    best = min(history, key=lambda row: row["val_loss"])
    summary = read_summary(runs / "second")
    assert listed[1] | {"created": ""} == {
        "run": str(runs / "second"),
        "state": "finished",
        "problem": None,
        "created": "",
        "stores": [str(runs.parent / "features.zarr")],
        "store_fingerprint": open_run(runs / "second").store_fingerprint,
        "rows": "all",
        "where": [],
        "hold_out": [],
        "validate_on": [],
        "network": "radial",
        "side": 32,
        "epochs": 2,
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "val_accuracy": best["val_accuracy"],
        "loss": best["val_loss"],
        "accuracy": best["val_accuracy"],
        "measured_on": "validation",
        "test_auroc": None,
        "ended": "all 2 epochs done",
        "seconds": summary.seconds,
        "samples_per_second": summary.samples_per_second,
        "device_name": summary.device_name,
        "precision": "float32",
    }


def test_list_shows_states_and_reports(runs, tmp_path):
    for name in ("whole", "cut", "old", "begun", "lost", "bad"):
        shutil.copytree(runs / "first", tmp_path / name)
    (tmp_path / "no run").mkdir()
    created = open_run(runs / "first").created
    score = ReportedScore(created, "clean", 0.75, 0.5, 1.0, "2026-11-28T12:00:00+00:00")
    write_reported_score(tmp_path / "whole", score)
    (tmp_path / "cut" / "test_score.json").write_text(json.dumps({"auroc": 0.75}))
    (tmp_path / "old" / "settings.json").write_text("{")
    write_reported_score(tmp_path / "begun", replace(score, created="another"))
    history = (tmp_path / "cut" / "history.csv").read_text().splitlines()
    (tmp_path / "cut" / "history.csv").write_text("\n".join(history[:2]) + "\n")
    (tmp_path / "begun" / "history.csv").unlink()
    for name in ("cut", "begun"):  # killed
        (tmp_path / name / "summary.json").unlink()
    summary = json.loads((tmp_path / "bad" / "summary.json").read_text())
    (tmp_path / "bad" / "summary.json").write_text(
        json.dumps({**summary, "state": "failed", "ended": "the loss became nan"})
    )
    (tmp_path / "lost" / "best.safetensors").unlink()
    found = {one.run.name: one for one in list_runs(tmp_path)}
    states = {name: one.state for name, one in found.items()}
    assert states == {
        "whole": "finished", "cut": "unfinished", "old": "unusable", "begun": "unfinished", "lost": "unusable",
        "bad": "failed",
    }  # fmt: skip
    assert found["whole"].test_auroc == (0.75, 0.5, 1.0)
    assert found["cut"].test_auroc is None
    assert found["begun"].test_auroc is None
    result = call("list", str(tmp_path))
    assert "0.750 (0.500 to 1.000)" in result.stdout
    assert "old: its settings or history are damaged" in result.stderr
    assert "best.safetensors: no such file" in result.stderr
    assert "bad: failed: the loss became nan" in result.stderr


def change_record(run: Path, **values: object) -> None:
    """Change settings of a run, as another command line would have set them; "fingerprint" is that of its store."""
    record = json.loads((run / RUN_SETTINGS).read_text())
    record["store"]["fingerprint"] = values.pop("fingerprint", record["store"]["fingerprint"])
    record["train"] |= values
    (run / RUN_SETTINGS).write_text(json.dumps(record))


def test_list_shows_what_each_run_was_trained_on(runs, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copytree(runs / "first", tmp_path / name)
    change_record(tmp_path / "b", hold_out=["midjourney", "coco"], where=["variant=clean"])
    change_record(tmp_path / "c", validate_on=["coco"])
    result = call("list", str(tmp_path))
    header, _, *lines = result.stdout.splitlines()
    assert "store" not in header
    assert [line.split("finished")[1].strip() for line in lines] == [
        "all", "variant=clean, without coco and midjourney", "validated on coco",
    ]  # fmt: skip
    assert list_runs(tmp_path)[1].hold_out == ("coco", "midjourney")
    change_record(tmp_path / "c", fingerprint="abcdef0123")  # of a store that has grown
    same = list_runs(tmp_path)[0].store_fingerprint[:6]
    lines = call("list", str(tmp_path)).stdout.splitlines()[2:]
    assert [f"features.zarr ({one})" in line for one, line in zip((same, same, "abcdef"), lines, strict=True)] == [
        True
    ] * 3


def test_list_without_runs_is_refused(tmp_path):
    for folder, text in ((tmp_path, "no training run in it"), (tmp_path / "absent", "no such folder")):
        with pytest.raises(UserError, match=text):
            list_runs(folder)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RUN_SETTINGS).write_text("{}")
    with pytest.raises(UserError, match=r"is a run of `train run` itself; .* give the folder above it"):
        list_runs(tmp_path / "run")


def test_read_run_of_another_kind_names_it_and_what_to_give(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / ZARR_METADATA).touch()
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / RUN_SETTINGS).touch()
    (tmp_path / "file").touch()
    for name, text in {
        "a.zarr": "is a feature store; expected the folder of a run; `train run --store .*a.zarr` trains on it",
        "runs": "give one of the runs in it, such as .*first",
        "file": "is a file; expected the folder of a run",
    }.items():
        with pytest.raises(UserError, match=text):
            read_run(tmp_path / name)


@pytest.mark.parametrize(
    ("epochs", "best", "ended"),
    [(20, 20, "all 20 epochs done"), (19, 16, ""), (9, 5, "validation loss no better for 4 epochs"), (9, 6, "")],
)
def test_format_end_reason_names_the_cause(epochs, best, ended):
    assert format_end_reason(epochs, best, TrainSettings(epochs=20, patience=4)) == ended
    assert format_end_reason(9, 1, TrainSettings(epochs=20, patience=0)) == ""
    assert format_end_reason(epochs, best, TrainSettings(epochs=21, patience=4), prolonged=17) == ""
