"""Verdicts of experts: pictures that get no sure word, words that hold, what decided, and what is loaded for them."""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_run import draw_scene, fit_drawn_experts, make_experts_run
from helpers.make_store import make_store
from matplotlib.figure import Figure
from PIL import Image, ImageOps

import eval.verdict.predict
from eval.cli.main import cli
from eval.explain.comb import Comb, find_comb
from eval.explain.parts import PART_WORDS
from eval.verdict.decide import Judgement, Reason, decide_clip
from eval.verdict.examine import Examined, Examiner
from eval.verdict.explain_png import plot_examined
from eval.verdict.predict import predict_files
from eval.verdict.wording import (
    format_map_title,
    format_reason,
    format_verdict,
    summarise_examined,
    summarise_parts,
)
from train.model.calibration import Calibration
from train.model.detector import NETWORK_PART, Detector
from train.model.experts import EXPERTS
from train.run.folder import load_detector, open_run

PICTURE = draw_scene(1, 0, 100)
TINTED = ImageOps.colorize(PICTURE.convert("L"), "#000000", "#ff9000")
NETWORK_RUN = Path(__file__).parents[1] / "data" / "run"
BAND = {"low": 0.2, "high": 0.8}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("experts")
    fitted = fit_drawn_experts()
    # Of so few pictures the distances vary much.
    distances = {name: replace(one, limit=2 * one.limit) for name, one in fitted.distances.items()}
    experts = replace(fitted, distances=distances, **BAND)
    return open_run(make_experts_run(folder / "runs" / "001", make_store(folder / "features.zarr"), experts))


def judge(run, path: Path, picture: Image.Image, **options) -> Judgement:
    picture.save(path / "one.png")
    (verdict,) = predict_files(run, [path / "one.png"], progress=False, **options)
    return verdict.judgement


def shrink(picture: Image.Image, side: int) -> Image.Image:
    return picture.resize((side, side), Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (PICTURE.crop((0, 0, 64, 64)), Reason.SMALL),
        (shrink(PICTURE, 96), Reason.SMALL),
        (PICTURE.crop((0, 0, 200, 64)), Reason.SMALL),
        (Image.new("RGB", (200, 180), (180, 40, 40)), Reason.BLANK),
        (Image.new("RGB", (1000, 900)), Reason.BLANK),
        (PICTURE.convert("L").convert("RGB"), Reason.GREY),
        (ImageOps.colorize(PICTURE.convert("L"), "#1a0f05", "#f5e6c8", mid="#8a6a45"), Reason.GREY),
        (ImageOps.colorize(PICTURE.convert("L"), "#102a6b", "#ffd23f"), Reason.GREY),
        (ImageOps.expand(PICTURE.crop((40, 40, 120, 120)), 60, (90, 90, 90)), Reason.GREY),
        (Image.effect_noise((400, 360), 90).convert("RGB"), Reason.GREY),
        (Image.blend(PICTURE, TINTED, 0.95), Reason.GREY),
        (ImageOps.posterize(PICTURE, 3), Reason.FEW_LEVELS),
        (PICTURE.point(lambda level: level // 5), Reason.FEW_LEVELS),
        (Image.merge("RGB", [Image.effect_noise((400, 360), 100) for _ in range(3)]), Reason.FAR),
    ],
    ids=[
        "crop",
        "thumbnail",
        "strip",
        "plain",
        "black",
        "grey",
        "sepia",
        "duotone",
        "partly-grey",
        "grey-noise",
        "toned",
        "posterised",
        "dark",
        "noise",
    ],
)
def test_picture_of_a_kind_that_training_lacked_is_unsure(run, tmp_path, picture, reason):
    said = judge(run, tmp_path, picture)
    assert (said.verdict, said.reason) == ("unsure", reason)
    assert judge(run, tmp_path, picture, quick=True).reason == reason


def test_picture_with_a_clear_trace_is_sure(run, tmp_path):
    said = judge(run, tmp_path, PICTURE)
    assert (said.verdict, said.reason) == ("fake", None)
    assert list(said.parts) == list(EXPERTS)
    offset = fit_drawn_experts().offset
    assert sum(said.parts.values()) + offset == pytest.approx(said.log_odds)


def test_small_picture_after_a_crop_is_unsure(run, tmp_path):
    side = int(np.ceil(0.9 * fit_drawn_experts().least_side))
    said = judge(run, tmp_path, draw_scene(1, 0, 101, side, side))
    assert said.verdict == "unsure"
    assert "crop to 90%" in said.unlike_after


def test_reason_of_a_small_picture_names_the_side_that_is_needed(run, tmp_path):
    said = judge(run, tmp_path, PICTURE.crop((0, 0, 200, 64)))
    [needed] = map(int, re.findall(r"too small \(needs (\d+) px\)", format_reason(said)))
    assert f"at least {needed} pixels" in format_verdict(said, load_detector(run, "cpu"))
    assert decide_clip([said, said], Calibration()).least_side == needed
    for side, is_small in ((needed - 1, True), (needed, False)):
        assert (judge(run, tmp_path, PICTURE.crop((0, 0, 200, side)), quick=True).reason is Reason.SMALL) == is_small


def test_verdicts_have_the_same_bits_alone_among_others_and_from_several_processes(run, tmp_path):
    paths = []
    for number in range(4):
        paths.append(tmp_path / f"{number}.png")
        draw_scene(number % 2, number, 7).save(paths[-1])
    paths[3].write_bytes(b"no picture")
    turned = predict_files(run, paths[::-1], progress=False, batch_size=3, workers=1)[::-1]
    alone = [predict_files(run, [path], progress=False)[0] for path in paths]
    together = predict_files(run, 4 * paths, progress=False, workers=2)
    assert [one.to_dict() for one in together] == 4 * [one.to_dict() for one in turned]
    assert [one.to_dict() for one in turned] == [one.to_dict() for one in alone]
    assert [one.path for one in turned if one.error] == [str(paths[3])]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"low": 0.0}, "this detector never says “real”: in its tests too many “real” verdicts were wrong"),
        ({"low": 0.0, "high": 1.0}, "this detector is always unsure: on sources left out of training"),
        ({"sources_left_out": False}, "this detector is always unsure: at least one class had only one source"),
        ({"low": 0.0, "sources_left_out": False}, "this detector is always unsure: at least one class had only one"),
    ],
)
def test_remark_on_verdicts_never_given_comes_with_the_first_verdict(run, tmp_path, changes, expected):
    experts = replace(load_detector(run).experts, **changes)
    never = open_run(make_experts_run(tmp_path / "runs" / "1", make_store(tmp_path / "features.zarr"), experts))
    PICTURE.save(tmp_path / "one.png")
    remarks = []
    for paths, count in ((["absent.png"], 0), (["absent.png", tmp_path / "one.png", tmp_path / "one.png"], 1)):
        predict_files(never, paths, progress=False, quick=True, remark=remarks.append)
        assert len(remarks) == count
    assert remarks[0].startswith(expected)


def test_few_files_start_no_process(run, tmp_path, monkeypatch):
    monkeypatch.setattr(eval.verdict.predict, "map_in_processes", None)
    PICTURE.save(tmp_path / "one.png")
    assert len(predict_files(run, 15 * [tmp_path / "one.png"], progress=False, quick=True, workers=7)) == 15


# --- words


@pytest.mark.parametrize(
    ("probability", "changes", "text"),
    [
        (0.9, {}, "says “fake” only if the probability that the picture is fake is 80.0% or more. This limit was"),
        (0.1, {}, "says “real” only if the probability that the picture is fake is 20.0% or less. This limit"),
        (0.6, {}, "The score is not clear enough: the detector says “fake” only if the probability"),
        (0.79992, {}, "is 80.00% or more."),
        (0.4, {}, "The score is not clear enough: the detector says “real” only if the probability"),
        # The page and the drawing say once, in a place of its own, which verdicts the detector never gives.
        (0.6, {"high": 1.0}, "The score is not clear enough."),
        (0.4, {"low": 0.0}, "The score is not clear enough."),
        (0.9, {"low": 0.0}, "at most 4 of 100 such verdicts were wrong"),
        (0.9, {"network_weight": 1.0}, "without the detector's network"),
    ],
)
def test_words_hold_for_the_limits_of_experts(probability, changes, text):
    detector = Detector(replace(fit_drawn_experts(), **BAND | changes), None)
    verdict = detector.calibration.verdict(probability)
    reason = Reason.IN_BAND if verdict == "unsure" else None
    words = format_verdict(Judgement(verdict, probability, 0.0, reason), detector)
    assert text in words
    assert "never" not in words


@pytest.mark.parametrize("reason", [one for one in Reason if one is not Reason.IN_BAND])
def test_every_reason_has_a_sentence_without_a_frequency(reason):
    detector = Detector(fit_drawn_experts(), None)
    words = format_verdict(Judgement("unsure", 0.9, 2.0, reason, flips=("JPEG 75",)), detector)
    assert words.endswith(".")
    assert "of 100" not in words


def test_every_part_has_words():
    assert set(PART_WORDS) == {*EXPERTS, NETWORK_PART}
    assert summarise_parts({"light": 1.0, "tints": -2.0, "colour": 0.0}, has_grid=False) == [
        "Strongest sign of “fake”: light and content.",
        "Strongest sign of “real”: regular patterns in colour.",
    ]
    assert summarise_parts({}, has_grid=False) == []


@pytest.mark.parametrize("comb", [2.0, -2.0])
@pytest.mark.parametrize("strength", [1.0, 9.0])
@pytest.mark.parametrize("reason", [None, Reason.CONTRADICTED, Reason.FAR, Reason.UNPROVEN])
def test_sentences_on_a_grid_do_not_contradict_each_other(comb, strength, reason):
    judgement = Judgement("fake" if reason is None else "unsure", 0.9, 2.0, reason, parts={"comb": comb, "light": 0.1})
    found = Comb(np.zeros((65, 65), np.float32), 8.0, strength)
    examined = Examined(judgement, (), None, found, PICTURE, "averaged")
    title, sentences = format_map_title(examined), summarise_examined(examined)
    if reason is Reason.FAR:
        assert (title, sentences) == ("not compared with photographs", [])
    elif strength < 3:
        side, words = ("“fake”", "weak periodic grids") if comb > 0 else ("“real”", title)
        assert title == "no strong periodic grid"
        assert (f"Strongest sign of {side}: {words}." in sentences) == (reason is not Reason.UNPROVEN)
    else:
        assert title == "rings: a grid of 8.0 pixels, 9.0 standard deviations above photographs"
        assert sentences[-1] == "The spectrum has a periodic grid of 8.0 pixels, stronger than in most photographs."
        large = replace(examined, picture=Image.new("RGB", (2049, 9)))
        assert summarise_examined(large)[-1].endswith("The picture was shrunk to 1536 pixels first.")
        assert not any("no strong" in sentence or "weak" in sentence for sentence in sentences)


# --- what decided


def test_strongest_comb_is_that_of_the_grid():
    comb = find_comb(PICTURE, fit_drawn_experts())
    assert comb.period == pytest.approx(8, abs=0.1)
    assert comb.is_strong
    assert comb.frequencies[1] == pytest.approx(1 / comb.period)
    assert not find_comb(draw_scene(0, 0, 100), fit_drawn_experts()).is_strong


LONG = "w" * 300 + ".png"


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        (PICTURE, "why.png"),
        (PICTURE.crop((0, 0, 40, 40)), LONG),
        (Image.new("RGB", (60, 4000)), "\u4e2d" * 80),
        (PICTURE.convert("L").convert("RGB"), "x\n\x1b[31m"),
    ],
    ids=["fake", "tiny", "tall", "grey"],
)
def test_no_text_leaves_the_plot(run, monkeypatch, picture, name):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *rest, **options: figures.append(figure) or save(figure, *rest, **options)
    )
    examiner = Examiner(run)
    file = io.BytesIO()
    picture.save(file, "PNG")
    examined = examiner.examine(file.getvalue())
    plot_examined(name, examined, examiner.detector, None, "a notice " * 40)
    (figure,) = figures
    box = figure.get_tightbbox()  # of all that is drawn, in inches
    width, height = figure.get_size_inches()
    assert min(box.x0, box.y0, width - box.x1, height - box.y1) > 0, box
    words = max(figure.texts, key=lambda text: len(text.get_text())).get_window_extent()
    assert words.y0 > figure.axes[1].get_window_extent().y1  # above the scale
    judgement, offset = examined.judgement, examiner.detector.experts.offset
    assert sum(judgement.parts.values()) + offset == pytest.approx(judgement.log_odds)
    constant = f"{offset:+.2f}".replace("-", "\N{MINUS SIGN}")
    assert figure.axes[-1].get_xlabel() == f"log-odds (the run adds {constant} to their sum)"


def test_explain_prints_the_verdict_of_predict(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    PICTURE.save("one.png")
    arguments = ["predict", "--run", str(run.path), "one.png", "--json"]
    plain, explained = (CliRunner().invoke(cli, [*arguments, *more]) for more in ((), ("--explain", "why.png")))
    assert plain.exit_code == explained.exit_code == 0, explained.output
    assert json.loads(plain.stdout) == json.loads(explained.stdout)
    assert list(json.loads(plain.stdout)[0]["parts"]) == list(EXPERTS)
    with Image.open("why.png") as drawing:
        assert drawing.width > 800


def test_page_shows_parts_and_peaks(run):
    httpx = pytest.importorskip("httpx", reason="no httpx to ask the page with")
    testclient = pytest.importorskip("starlette.testclient", reason="the page needs Starlette, the extra `page`")
    from eval.page.app import create_application

    assert httpx
    client = testclient.TestClient(create_application(Examiner(run)), base_url="http://127.0.0.1")
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    answer = client.post("/judge", content=file.getvalue()).json()
    assert list(answer["parts"]) == [PART_WORDS[name] for name in EXPERTS]
    assert answer["comb"]["title"] == "rings: a grid of 8.1 pixels, 3.7 standard deviations above photographs"
    assert "deviation" not in " ".join([answer["words"], *answer["deciding"]])
    assert len(answer["comb"]["frequencies"]) == 5
    assert answer["comb"]["map"].startswith("data:image/png;base64,")
    assert answer["explanation"] is None
    assert client.get("/about").json()["profiles"] is None


# --- what is loaded


def test_predict_loads_only_what_the_run_needs(run, tmp_path):
    PICTURE.save(tmp_path / "one.png")
    code = (
        "import sys\n"
        "from eval.cli.main import cli\n"
        "slow = ('torch', 'matplotlib', 'sklearn', 'zarr', 'dask', 'distributed', 'jinja2', 'sympy')\n"
        f"for run in ({str(run.path)!r}, {str(NETWORK_RUN)!r}):\n"
        f"    cli(['predict', '--run', run, {str(tmp_path / 'one.png')!r}], standalone_mode=False)\n"
        "    print([name for name in slow if name in sys.modules])\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=os.environ, check=True
    )
    assert [line for line in found.stdout.splitlines() if line.startswith("[")] == ["[]", "['torch']"]
    assert load_detector(run).plane_detector is None
