"""`eval predict --explain`: a drawing of what decided, refusals, and nothing of the user's written over."""

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import draw_noise
from make_run import make_run
from make_store import make_store
from PIL import Image

from eval.cli import cli
from eval.examine import Examiner
from eval.explain import Explanation
from eval.judge import Judgement
from eval.plots_picture import draw_examined
from eval.predict import predict_files
from eval.verdict_words import tell_deciding, tell_verdict
from train.calibrate import Calibration
from train.run_folder import open_run


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


def test_the_drawing(call, folder):
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


def test_examined_is_what_is_predicted(folder):
    examiner = Examiner(open_run(folder / "runs" / "001"), "cpu")
    examined = examiner.examine((folder / NAME).read_bytes())
    (verdict,) = predict_files(examiner.run, [folder / NAME], device="cpu", progress=False)
    assert examined.judgement.verdict == verdict.verdict
    assert examined.judgement.probability_fake == pytest.approx(verdict.probability_fake, abs=1e-5)
    assert examined.explanation.log_odds == pytest.approx(verdict.judgement.log_odds, abs=1e-4)
    assert examiner.profiles is not None
    plain = draw_examined("x", examined, examiner.calibration, None, "a notice")
    assert Image.open(io.BytesIO(plain)).format == "PNG"


def test_refusals(call, folder, tmp_path):
    before = (folder / NAME).read_bytes()
    (folder / "text.png").write_text("no picture")
    for arguments, status, text in (
        ((NAME, NAME, "--explain", "why.png"), 2, "explains one picture, and 2 were given"),
        ((NAME, "--explain", "why.jpg"), 2, "give a name that ends in .png"),
        ((NAME, "--explain", NAME), 2, "was not made by --explain"),
        ((NAME, "--explain", "text.png"), 2, "was not made by --explain"),
        ((NAME, "--explain", "absent/why.png"), 1, "its folder is not there"),
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
        (Judgement("fake", 0.9, 2.2), BAND, "at most 5 of 100 photographs"),
        (Judgement("real", 0.1, -2.2), BAND, "at most 5 of 100 generated pictures"),
        (Judgement("fake", 0.9, 2.2), Calibration(), "no range of doubt"),
        (Judgement("unsure", 0.6, 0.4, "in the band"), BAND, "mixed up"),
        (Judgement("unsure", 0.9, 2.2, "flips under JPEG 75"), BAND, "generated picture, but after JPEG 75"),
        (Judgement("unsure", 0.1, -2.2, "flips under crop 0.9"), BAND, "like a photograph, but after crop 0.9"),
    ],
)
def test_words_of_a_verdict(judgement, calibration, text):
    assert text in tell_verdict(judgement, calibration)


def test_words_of_what_decided():
    import numpy as np

    edges = np.array([0, 0.25, 0.5, 0.71])
    found = Explanation(1.0, edges, np.array([-0.5, 2.0, 0.01]), {"phase": 1.0, "dct": -0.1}, edges[1:], edges[1:])
    first, second, third = tell_deciding(found, "periodogram")
    assert "“generated”" in first
    assert "2.0 to 4.0 pixels" in first
    assert "“a photograph”" in second
    assert "place of patterns" in third
    nothing = Explanation(0.0, edges, np.zeros(3), {"phase": 0.0, "dct": 0.0}, edges[1:], edges[1:])
    assert tell_deciding(nothing, "periodogram") == []
    assert "agreement of the colours" in tell_deciding(found, "averaged")[2]
