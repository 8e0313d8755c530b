"""`train export`: detectors for other programs, which give this program's probabilities."""

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
from pipeline.features.extract import compute_file_features, compute_planes
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from train.cli import cli
from train.loop.trainer import train
from train.model.detector import Detector
from train.model.plane_detector import PlaneDetector
from train.model.planes_graph import build_planes_graph
from train.run.experts_file import load_experts, save_experts
from train.run.export_onnx import write_onnx
from train.run.folder import load_detector, open_run
from train.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "train/starter"
SNIPPETS = [
    textwrap.dedent(block)
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / "docs/training.md").read_text(), re.MULTILINE)
    if "InferenceSession" in block
]
OF_FEATURES, OF_PIXELS, OF_PIXELS_AND_PROFILES = SNIPPETS

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A run of experts and a network, which counts as much as they, and a run of the network alone."""
    folder = tmp_path_factory.mktemp("export")
    store = make_store(folder / "features.zarr")
    small = {"network": "linear", "epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"}
    for name, experts in (("both", "on"), ("network", "off")):
        train(TrainSettings(store=str(store), run=str(folder / name), experts=experts, **small))
    save_experts(replace(load_experts(folder / "both"), network_weight=1.0), folder / "both")
    return folder


@pytest.fixture
def picture(tmp_path, monkeypatch) -> Path:
    """A picture of the folder that the test runs in, with the spectrum of a photograph."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).standard_normal((150, 170, 3)).cumsum(0).cumsum(1)
    Image.fromarray((128 + 50 * values / values.std()).clip(0, 255).astype(np.uint8)).save("picture.jpg")
    return tmp_path / "picture.jpg"


def export(*arguments: str | Path):
    return CliRunner().invoke(cli, ["export", *map(str, arguments)])


def open_exported(run: Path, *options: str) -> tuple[onnxruntime.InferenceSession, dict]:
    """Export a run to detector.onnx; returns the open file and what the command printed as JSON."""
    result = export("--run", run, "--onnx", "detector.onnx", "--json", *options)
    assert result.exit_code == 0, result.output
    session = onnxruntime.InferenceSession("detector.onnx")
    printed = json.loads(result.stdout)
    assert [one.name for one in session.get_inputs()] == printed["inputs"]
    return session, printed


def score_file(detector: Detector, file: Path, features: FeatureSettings) -> float:
    levels, profile = compute_file_features(file, detector.choose_settings(features))
    [p] = detector.calibration.probability(detector.score([levels], profile[None]).logits)
    return p


def run_snippet(snippet: str, capsys) -> float:
    capsys.readouterr()
    exec(snippet, {})
    return float(capsys.readouterr().out.strip("[]\n"))


@pytest.mark.parametrize(("name", "inputs"), [("both", ["levels", "profiles"]), ("network", ["levels"])])
def test_an_exported_run_gives_the_probabilities_of_score_rows_and_the_docs_snippet_those_of_a_file(
    runs, picture, capsys, name, inputs
):
    session, printed = open_exported(runs / name)
    assert printed["inputs"] == inputs
    assert printed["difference"] < 1e-5
    assert {path.name for path in picture.parent.iterdir()} == {"picture.jpg", "detector.onnx"}
    run, store = open_run(runs / name), open_store(runs / "features.zarr")
    detector, rows = load_detector(run, "cpu"), np.arange(7)
    wanted = detector.calibration.probability(detector.score_rows(store, rows, progress=False).logits)
    values = {"levels": store.features[:7], "profiles": store.read_profiles(rows)}
    for count in (1, 7):
        [found] = session.run(None, {one: values[one][:count] for one in inputs})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)
    assert len(set(wanted.round(3))) > 3

    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["inputs"]).keys() == set(inputs)
    assert "class 1" in properties["output"]
    assert json.loads(properties["class_names"]) == ["real", "fake"]
    assert json.loads(properties["planes"])[:4] == ["magnitude_r", "magnitude_g", "magnitude_b", "phase_r"]
    assert json.loads(properties["features"])["size"] == 32
    assert json.loads(properties["calibration"])["low"] == pytest.approx(detector.calibration.low)
    assert properties["program"].startswith("spectral-detector ")
    assert properties["store_fingerprint"] == run.store_fingerprint
    assert properties.get("network_weight") == ("1.0" if name == "both" else None)

    found = run_snippet(OF_FEATURES, capsys)
    assert found == pytest.approx(score_file(detector, picture, run.build_settings.features), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "snippet", "inputs"),
    [("both", OF_PIXELS_AND_PROFILES, ["pixels", "profiles"]), ("network", OF_PIXELS, ["pixels"])],
)
def test_a_run_exported_with_pixels_gives_the_probability_of_a_file(runs, picture, capsys, name, snippet, inputs):
    _, printed = open_exported(runs / name, "--pixels")
    assert printed["inputs"] == inputs
    assert printed["difference"] < 1e-3
    run = open_run(runs / name)
    wanted = score_file(load_detector(run, "cpu"), picture, run.build_settings.features)
    assert run_snippet(snippet, capsys) == pytest.approx(wanted, abs=1e-3)


def test_a_network_of_weight_0_is_left_out_of_the_exported_file(runs, picture):
    weighed = load_experts(runs / "both")
    save_experts(replace(weighed, network_weight=0.0), runs / "both")
    try:
        session, printed = open_exported(runs / "both")
        refused = export("--run", runs / "both", "--onnx", "pixels.onnx", "--pixels")
    finally:
        save_experts(weighed, runs / "both")
    assert "got a network of weight 0 beside experts; leave out --pixels" in refused.stderr
    assert printed["inputs"] == ["profiles"]
    assert printed["bytes"] < 100_000  # the network's own numbers alone take 150 kB
    experts, profiles = Detector(weighed, None), open_store(runs / "features.zarr").read_profiles(np.arange(7))
    [found] = session.run(None, {"profiles": profiles})
    wanted = experts.calibration.probability(experts.score([], profiles).logits)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_exported_experts_give_the_probabilities_of_numpy(picture, capsys):
    session, printed = open_exported(STARTER)
    assert printed["inputs"] == ["profiles"]
    detector = load_detector(open_run(STARTER), "cpu")
    scales = np.array([0, 1e-3, 1, 10, 1e6])  # from no contrast to beyond every clip
    profiles = scales[:, None] * np.random.default_rng(0).normal(0, 1, (len(scales), PROFILE_LENGTH))
    profiles = profiles.astype(np.float32)
    wanted = detector.calibration.probability(detector.score([], profiles).logits)
    for count in (1, len(profiles)):
        [found] = session.run(["probability_fake"], {"profiles": profiles[:count]})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)
    assert len(set(wanted.round(3))) > 2
    wanted = score_file(detector, picture, FeatureSettings())
    assert run_snippet(OF_FEATURES, capsys) == pytest.approx(wanted, abs=1e-5)


def list_pixels(size: int) -> np.ndarray:
    """Pictures, uint8 (N, size, size, 3): a photograph's spectrum, noise, one point, one colour, a ramp."""
    rng = np.random.default_rng(0)
    walk = rng.standard_normal((size, size, 3)).cumsum(0).cumsum(1)
    point, colour, ramp = np.zeros((3, size, size, 3))
    point[size // 2, size // 2] = 255
    colour[:] = 10, 128, 255
    ramp[:] = np.arange(size)[:, None, None]
    pictures = [128 + 50 * walk / walk.std(), rng.uniform(0, 255, (size, size, 3)), point, colour, ramp]
    return np.stack(pictures).clip(0, 255).astype(np.uint8)


# Of a size that is no power of two, the store's phases of bins that are 0 are rounding noise: its pictures of one
# colour and of a ramp are left out.
@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"size": 64, "levels": "fine"}, 5),
        ({"size": 64, "levels": "coarse"}, 5),
        ({"size": 45, "levels": "fine"}, 3),
        ({"size": 45, "levels": "coarse"}, 3),
        ({"size": 64, "patch": 32}, 5),
        ({"size": 150, "patch": 64}, 5),  # patches do not reach the last pixels
    ],
)
def test_levels_of_the_graph_are_those_of_a_store_but_for_rounding(options, count):
    features = FeatureSettings(**options)
    pixels = list_pixels(features.size)[:count]
    wanted = np.stack([compute_planes(rgb, features) for rgb in pixels])
    found = build_planes_graph(features)(torch.from_numpy(pixels)).numpy()
    assert found.dtype == np.uint8
    assert (found != wanted).mean() < 2e-4
    if features.levels == "fine":
        assert np.abs((found.astype(int) - wanted + 128) % 256 - 128).max() <= 1


@pytest.mark.filterwarnings("ignore")  # of the exporter about its own libraries
@pytest.mark.parametrize("options", [{"size": 64, "levels": "coarse"}, {"size": 48, "patch": 32}])
def test_onnxruntime_gives_the_levels_of_a_store_but_for_rounding(options):
    features = FeatureSettings(**options)
    pixels = list_pixels(features.size)
    program = torch.onnx.export(build_planes_graph(features).eval(), (torch.from_numpy(pixels),), verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    [found] = session.run(None, {session.get_inputs()[0].name: pixels})
    wanted = np.stack([compute_planes(rgb, features) for rgb in pixels])
    assert (found != wanted).mean() < 2e-4


@pytest.mark.parametrize(
    ("run", "found"),
    [
        (STARTER, "experts alone"),
        (ROOT / "tests/data/run", "one that reads magnitude, phase, overview-magnitude, overview-phase"),
    ],
)
def test_pixels_without_a_network_or_with_an_overview_are_refused(tmp_path, run, found):
    result = export("--run", run, "--onnx", tmp_path / "x.onnx", "--pixels")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert f"expected a network that reads no overview, got {found}; leave out --pixels" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_export_of_an_unfinished_run_says_so(runs, picture, tmp_path):
    shutil.copytree(runs / "network", tmp_path / "stopped")
    summary = json.loads((tmp_path / "stopped" / "summary.json").read_text())
    (tmp_path / "stopped" / "summary.json").write_text(json.dumps(summary | {"state": "interrupted"}))
    for run, said in ((tmp_path / "stopped", 1), (runs / "network", 0)):
        result = export("--run", run, "--onnx", "detector.onnx")
        assert result.exit_code == 0, result.output
        assert result.stderr.count(f"warning: {run}: the run is unfinished (2 of 2 epochs); unless") == said


def test_export_to_a_folder_is_refused(runs, tmp_path):
    for file in (tmp_path, tmp_path / "absent" / "x.onnx"):
        result = export("--run", runs / "network", "--onnx", file)
        assert result.exit_code == 2
        assert "expected a file name" in result.stderr


def test_export_without_the_libraries_names_them(tmp_path, monkeypatch):
    monkeypatch.setattr("train.run.export_onnx.find_spec", lambda name: None if name == "onnxruntime" else name)
    result = export("--run", STARTER, "--onnx", tmp_path / "x.onnx")
    assert result.exit_code == 1
    assert "ONNX needs onnxruntime: `" in result.stderr
    assert list(tmp_path.iterdir()) == []


class Fickle(nn.Module):
    """Sure of what is far from the mean picture; once exported, its log-odds differ."""

    def __init__(self, spoil):
        super().__init__()
        self.spoil = spoil

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        odds = 100 * x.mean(dim=(1, 2, 3))
        if torch.compiler.is_exporting():
            odds = self.spoil(odds)
        return torch.stack([torch.zeros_like(odds), odds], dim=1)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda odds: odds + 0.01, id="a little off, which no sure probability shows"),
        pytest.param(lambda odds: odds + (50 - odds).sqrt() * 0, id="no number, for some samples"),
    ],
)
def test_export_of_a_differing_network_writes_nothing(tmp_path, spoil):
    network = PlaneDetector(np.full((9, 16, 16), 90.0), np.full((9, 16, 16), 10.0), "linear")
    network.network = Fickle(spoil)
    file = tmp_path / "network.onnx"
    file.write_text("of another run")
    with pytest.raises(UserError, match=r"network.onnx: onnxruntime's probabilities differ .*; not written"):
        write_onnx(Detector(None, network), FeatureSettings(size=16), file)
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]
    assert file.read_text() == "of another run"
