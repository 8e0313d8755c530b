"""`train list` and `train export`: runs compared, and a detector for other programs."""

import json
import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.make_store import make_store
from PIL import Image
from torch import nn

from data_cards.core.errors import UserError
from pipeline.features.extract import compute_file_features
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from train.cli import cli
from train.loop.trainer import train
from train.model.inference import compute_logits
from train.model.plane_detector import PlaneDetector
from train.run.export_onnx import write_onnx
from train.run.folder import load_detector, open_run
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
        "network": "radial",
        "side": 32,
        "epochs": 2,
        "best_epoch": best["epoch"],
        "val_loss": best["val_loss"],
        "val_accuracy": best["val_accuracy"],
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


def test_list_without_runs_is_refused(tmp_path):
    for folder, text in ((tmp_path, "no training run in it"), (tmp_path / "absent", "no such folder")):
        with pytest.raises(UserError, match=text):
            list_runs(folder)


@pytest.mark.parametrize(
    ("epochs", "best", "ended"),
    [(20, 20, "all 20 epochs done"), (19, 16, ""), (9, 5, "validation loss no better for 4 epochs"), (9, 6, "")],
)
def test_format_end_reason_names_the_cause(epochs, best, ended):
    assert format_end_reason(epochs, best, TrainSettings(epochs=20, patience=4)) == ended
    assert format_end_reason(9, 1, TrainSettings(epochs=20, patience=0)) == ""
    assert format_end_reason(epochs, best, TrainSettings(epochs=21, patience=4), prolonged=17) == ""


# --- ONNX


@pytest.mark.parametrize("name", ["first", pytest.param("second", marks=pytest.mark.slow)])
def test_an_exported_network_gives_calibrated_probabilities(runs, tmp_path, name):
    onnxruntime = pytest.importorskip("onnxruntime")
    result = call("export", "--run", str(runs / name), "--onnx", str(tmp_path / "network.onnx"), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["difference"] < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    run, store = open_run(runs / name), open_store(runs.parent / "features.zarr")
    detector = load_detector(run, "cpu").plane_detector
    wanted = detector.calibration.probability(compute_logits(detector, store, np.arange(7), progress=False))
    for count in (1, 7):
        found = session.run(None, {"levels": store.features[:count]})[0]
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["calibration"])["temperature"] == detector.calibration.temperature
    assert json.loads(properties["features"])["size"] == 32


def test_export_to_a_folder_is_refused(runs, tmp_path):
    for file in (tmp_path, tmp_path / "absent" / "x.onnx"):
        result = call("export", "--run", str(runs / "first"), "--onnx", str(file))
        assert result.exit_code == 2
        assert "expected a file name" in result.stderr


def test_export_without_the_libraries_names_them(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("train.run.export_onnx.find_spec", lambda name: None if name == "onnxruntime" else name)
    result = call("export", "--run", str(runs / "first"), "--onnx", str(tmp_path / "x.onnx"))
    assert result.exit_code == 1
    assert "ONNX needs onnxruntime: install them with pip install 'spectral-detector[onnx]'" in result.stderr
    assert list(tmp_path.iterdir()) == []


class Fickle(nn.Module):
    """Sure of what lies far from the mean picture; once exported, its log-odds are others."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        odds = 100 * x.mean(dim=(1, 2, 3))
        if torch.compiler.is_exporting():
            odds = self.spoil(odds)
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


@pytest.mark.parametrize(
    ("spoil", "refused"),
    [
        pytest.param(lambda odds: odds, False, id="the same"),
        pytest.param(lambda odds: odds + 0.01, True, id="a little off, which no sure probability shows"),
        pytest.param(lambda odds: odds + (50 - odds).sqrt() * 0, True, id="no number, for some samples"),
    ],
)
def test_export_of_a_differing_network_writes_nothing(tmp_path, spoil, refused):
    pytest.importorskip("onnxruntime")
    features = FeatureSettings(size=16)
    detector = PlaneDetector(np.full((9, 16, 16), 90.0), np.full((9, 16, 16), 10.0), "linear")
    detector.network = Fickle(spoil)
    file = tmp_path / "network.onnx"
    file.write_text("of another run")
    if not refused:
        assert write_onnx(detector, features, file) < 1e-6
        return
    with pytest.raises(UserError, match=r"network.onnx: onnxruntime's probabilities differ by .*; not written"):
        write_onnx(detector, features, file)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    assert file.read_text() == "of another run"


def test_exported_experts_give_numpys_probabilities_and_the_docs_snippet_reads_them(tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    result = call("export", "--run", str(ROOT / "train/starter"), "--onnx", "detector.onnx", "--json")
    assert result.exit_code == 0, result.output
    detector = load_detector(open_run(ROOT / "train/starter"), "cpu")

    rng = np.random.default_rng(0)
    scales = np.array([0, 1e-3, 1, 10, 1e6])  # from no contrast to beyond every clip
    profiles = (scales[:, None] * rng.normal(0, 1, (len(scales), PROFILE_LENGTH))).astype(np.float32)
    Image.fromarray(rng.integers(0, 256, (150, 170, 3), np.uint8)).save("picture.jpg")
    profiles = np.concatenate([profiles, compute_file_features("picture.jpg").profile[None]])
    wanted = detector.calibration.probability(detector.score([], profiles).logits)
    session = onnxruntime.InferenceSession("detector.onnx")
    for count in (1, len(profiles)):
        found = session.run(["probability_fake"], {"profiles": profiles[-count:]})[0]
        np.testing.assert_allclose(found, wanted[-count:], atol=1e-5)
    assert len(set(wanted.round(3))) > 2

    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "docs/training.md").read_text(), re.MULTILINE)
    [snippet] = [one for one in blocks if "InferenceSession" in one]
    exec(textwrap.dedent(snippet), {})
    assert float(capsys.readouterr().out.strip("[]\n")) == pytest.approx(wanted[-1], abs=1e-5)
