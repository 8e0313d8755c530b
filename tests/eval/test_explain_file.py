"""`predict --explain`: a drawing of what decided, refusals, and nothing of the user's written over."""

import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise
from matplotlib.figure import Figure
from PIL import Image

from data_cards.image.decode import decode_with_remarks
from eval.cli.main import cli
from eval.explain.occlusion import Explanation
from eval.verdict.decide import Judgement, Reason
from eval.verdict.examine import Examined, Examiner
from eval.verdict.explain_png import plot_examined
from eval.verdict.predict import predict_files
from eval.verdict.wording import TITLES, format_verdict, summarise_examined, summarise_explanation
from train.model.calibration import Calibration
from train.model.detector import NETWORK_PART, Detector
from train.model.inference import predict_logits
from train.run.checkpoint import save_weights
from train.run.folder import load_detector, open_run
from train.run.weights_file import BEST


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    make_run(folder / "runs" / "001", make_store(folder / "features.zarr"))
    draw_noise(1, 60, 50).save(folder / "a$x^2$_<b>.png")
    return folder


@pytest.fixture
def call(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return lambda *arguments: CliRunner().invoke(cli, ["predict", "--device", "cpu", *arguments])


NAME = "a$x^2$_<b>.png"


def test_explain_writes_a_drawing(call, folder):
    result = call(NAME, "--explain", "why.png")
    assert result.exit_code == 0, result.output
    assert NAME in result.stdout
    assert result.stderr.splitlines()[-1] == "explained: why.png"
    with Image.open(folder / "why.png") as drawing:
        drawing.load()
        assert min(drawing.size) > 800
        assert len(drawing.convert("RGB").getcolors(1 << 24)) > 100
    assert call(NAME, "--explain", "why.png").exit_code == 0  # its own drawing may be written over
    assert not list(folder.glob("*.partial"))


def count_calls(monkeypatch, function) -> list:
    """Have every module that holds the function call it by way of a counter; the list grows by one a call."""
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()) if isinstance(module, ModuleType) else ():
            if value is function:
                monkeypatch.setattr(module, name, counted)
    return calls


def test_explain_loads_decodes_and_scores_once(call, monkeypatch):
    counters = [count_calls(monkeypatch, one) for one in (load_detector, decode_with_remarks, predict_logits)]
    assert call(NAME, "--explain", "once.png").exit_code == 0
    assert [len(calls) for calls in counters] == [1, 1, 1]


@pytest.fixture
def flipping(folder):
    """The run with its threshold between the picture as it is and the check that moves it most."""
    run = open_run(folder / "runs" / "001")
    detector = load_detector(run, "cpu").plane_detector
    before = detector.calibration
    (plain,) = predict_files(run, [folder / NAME], device="cpu", progress=False)
    own = plain.probability_fake
    threshold = (own + max(plain.judgement.checks.values(), key=lambda p: abs(p - own))) / 2
    detector.calibration = Calibration(before.temperature, threshold, threshold, threshold)
    save_weights(detector, run.path, BEST)
    yield
    detector.calibration = before
    save_weights(detector, run.path, BEST)


def test_explain_prints_and_draws_one_verdict(call, flipping, monkeypatch):
    drawn = []
    write = Figure.text
    monkeypatch.setattr(
        Figure, "text", lambda figure, x, y, s, **options: drawn.append(s) or write(figure, x, y, s, **options)
    )
    found = {}
    for quick in ((), ("--quick",)):
        drawn.clear()
        result = call(NAME, "--explain", "same.png", "--json", *quick)
        assert result.exit_code == 0, result.output
        (printed,) = json.loads(result.stdout)
        assert TITLES[printed["verdict"]] in drawn
        assert sum(title in drawn for title in TITLES.values()) == 1
        assert printed == json.loads(call(NAME, "--json", *quick).stdout)[0]
        found[quick] = printed
    assert (found[()]["verdict"], found[()]["reason"]) == ("unsure", "flips")
    assert found["--quick",]["verdict"] in ("real", "fake")
    assert found["--quick",]["checks"] == {}


def test_explain_gives_the_verdict_of_predict(folder):
    examiner = Examiner(open_run(folder / "runs" / "001"), "cpu")
    examined = examiner.examine((folder / NAME).read_bytes())
    (verdict,) = predict_files(examiner.run, [folder / NAME], device="cpu", progress=False)
    assert examined.judgement.verdict == verdict.verdict
    assert examined.judgement.probability_fake == pytest.approx(verdict.probability_fake, abs=1e-5)
    assert examined.explanation.log_odds == pytest.approx(verdict.judgement.log_odds, abs=1e-4)
    assert examiner.spectra is not None
    plain = plot_examined("x", examined, examiner.detector, None, "a notice")
    assert Image.open(io.BytesIO(plain)).format == "PNG"


def test_explain_of_unusable_arguments_is_refused(call, folder, tmp_path):
    before = (folder / NAME).read_bytes()
    (folder / "text.png").write_text("no picture")
    (folder / "my own.png").write_bytes(before)
    for arguments, status, text in (
        ((NAME, NAME, "--explain", "why.png"), 2, "expected one picture, got 2"),
        (("my", "own.png", "--explain", "why.png"), 2, 'expected one picture, got 2; did you mean "my own.png"?'),
        ((NAME, "--explain", "why.jpg"), 2, "give a name that ends in .png"),
        ((NAME, "--explain", NAME), 2, "was not written by --explain"),
        ((NAME, "--explain", "text.png"), 2, "was not written by --explain"),
        ((NAME, "--explain", "absent/why.png"), 2, "its folder does not exist"),
    ):
        result = call(*arguments)
        assert result.exit_code == status, result.output
        assert text in result.stderr.splitlines()[-1]
    assert (folder / NAME).read_bytes() == before
    result = call("text.png", "--explain", "other.png")
    assert result.exit_code == 1
    assert not (folder / "other.png").exists()


BAND = Calibration(threshold=0.5, low=0.2, high=0.8)


@pytest.mark.parametrize(
    ("judgement", "calibration", "text"),
    [
        (Judgement("fake", 0.9, 2.2), BAND, "At most 5 of 100 photographs"),
        (Judgement("real", 0.1, -2.2), BAND, "At most 5 of 100 generated pictures"),
        (Judgement("fake", 0.9, 2.2), Calibration(), "calls no score unsure"),
        (Judgement("unsure", 0.6, 0.4, Reason.IN_BAND), BAND, "not clear enough"),
        (
            Judgement("unsure", 0.9, 2.2, Reason.FLIPS, flips=("JPEG 75",)),
            BAND,
            "indicates “fake”, but after JPEG 75 it indicates “real”",
        ),
        (Judgement("unsure", 0.6, 0.4, Reason.FRAMES_DISAGREE), BAND, "a quarter of the frames"),
        (
            Judgement("unsure", 0.1, -2.2, Reason.FLIPS, flips=("crop to 90%",)),
            BAND,
            "indicates “real”, but after crop to 90% it indicates “fake”",
        ),
    ],
)
def test_verdict_text_names_the_score(judgement, calibration, text):
    assert text in format_verdict(judgement, Detector(None, SimpleNamespace(calibration=calibration)))


def test_explanation_text_names_what_decided():
    import numpy as np

    edges = np.array([0, 0.25, 0.5, 0.71])
    found = Explanation(1.0, edges, np.array([-0.5, 2.0, 0.01]), {"phase": 1.0, "dct": -0.1}, edges[1:], edges[1:])
    first, second, third = summarise_explanation(found, "periodogram")
    assert "sign of “fake”" in first
    assert "2.0 to 4.0 pixels" in first
    assert "sign of “real”" in second
    assert "position of patterns" in third
    nothing = Explanation(0.0, edges, np.zeros(3), {"phase": 0.0, "dct": 0.0}, edges[1:], edges[1:])
    assert summarise_explanation(nothing, "periodogram") == []
    assert "agreement of the colours" in summarise_explanation(found, "averaged")[2]
    for network, count in ((0.01, 0), (0.5, 3)):  # added to the log-odds, beside an expert's 1.0
        judgement = Judgement("fake", 0.9, 2.2, parts={"light": 1.0, NETWORK_PART: network})
        sentences = summarise_examined(Examined(judgement, (), found, None, Image.new("RGB", (9, 9)), "averaged"))
        assert sum(sentence.startswith("Network: ") for sentence in sentences) == count
