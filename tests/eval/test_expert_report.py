"""Reports on runs of experts: unsure pictures, conditions, what each expert adds, mixed runs; the starter run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_run import draw_scene, make_experts_run, make_run
from helpers.make_store import make_store
from sklearn.metrics import roc_auc_score

import train.run.locate
from data_cards.audit.file_baseline import ALL
from data_cards.core.errors import UserError
from eval.cli.main import cli
from eval.explain.parts import PART_WORDS
from eval.explain.reasons import REASON_WORDS
from eval.report.compare import compare_runs
from eval.report.files import STARTER_REPORT
from eval.report.gallery import pick_worst
from eval.report.html import render_report
from eval.report.report import make_report
from eval.report.summary import summarise
from eval.report.terminal import MOST_LINES, WIDTH, format_report
from eval.scores.breakdown import compute_evaluation, estimate_sure
from eval.scores.expert_study import compute_expert_study
from eval.scores.reliability import compute_abstention, compute_thresholds
from eval.scores.rows import Scored
from eval.verdict.decide import Reason
from train.model.calibration import Calibration
from train.model.detector import NETWORK_PART
from train.model.experts import EXPERTS, LOG_ODDS_LIMIT, Unlike
from train.run.folder import open_run
from train.run.locate import find_run

VARIANTS = ("clean", "jpeg-75", "web")
OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    make_store(folder / "features.zarr", variants=VARIANTS, signal=30)
    make_experts_run(folder / "experts", folder / "features.zarr")
    make_run(folder / "network", folder / "features.zarr")
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return make_report(folder / "experts", out=folder / "out", **OPTIONS)


def make_scored(unlike: list[int]) -> Scored:
    """Four photographs and four generated pictures, the last of each surely on the wrong side."""
    probability = np.array([0.1, 0.2, 0.45, 0.95, 0.9, 0.8, 0.55, 0.05])
    columns = {"label": np.repeat([0, 1], 4), "group": np.arange(8), "picture": np.arange(8)}
    logits = np.stack([np.zeros(8), np.log(probability / (1 - probability))], 1)
    return Scored(np.arange(8), columns, logits, Calibration(1.0, 0.5, 0.3, 0.7), np.array(unlike, np.uint8))


def test_unlike_pictures_count_as_unsure():
    scored = make_scored([0, Unlike.FAR, 0, 0, 0, 0, 0, Unlike.BLANK])
    reasons = [None, "far", "in_band", None, None, None, "in_band", "blank"]
    assert [one["reason"] for one in scored.list_scores()] == reasons
    assert [one["verdict"] == "unsure" for one in scored.list_scores()] == [one is not None for one in reasons]
    abstention = compute_abstention(scored)
    assert abstention["unsure"]["value"] == 0.5
    assert abstention["unsure_by_reason"] == {"blank": 1, "far": 1, "in_band": 2}
    assert abstention["mistakes_when_judged"]["value"] == 0.25
    never = replace(scored, calibration=Calibration().to_always_unsure())
    for compute in (compute_abstention, compute_thresholds):
        found = compute(never)
        assert (found["low"], found["high"]) == (0, 1)
    found = compute_evaluation(scored)["verdicts"]
    assert [found[f"real_{word}"] for word in ("real", "fake", "unsure")] == [1, 1, 2]
    assert [found[f"fake_{word}"] for word in ("real", "fake", "unsure")] == [0, 2, 2]
    assert estimate_sure(scored)["sure"]["value"] == 0.5
    assert pick_worst(scored).tolist() == [3]
    assert pick_worst(make_scored([0] * 8)).tolist() == [3, 7]


def test_reasons_have_words_and_are_those_of_verdicts_on_files():
    assert set(REASON_WORDS) == {str(reason) for reason in Reason}
    assert {one.name.lower() for one in Unlike if one} < set(REASON_WORDS)


def test_report_of_experts_holds_the_conditions_and_what_each_expert_adds(report):
    contents = report.contents
    assert [one["variant"] for one in contents["variants"]] == list(VARIANTS)
    first = contents["variants"][0]
    assert first["auroc"] == contents["scopes"]["clean"]["scores"]["auroc"]
    assert first["sure"]["value"] == pytest.approx(1 - contents["abstention"]["unsure"]["value"])
    assert [one["name"] for one in contents["experts"]["parts"]] == list(EXPERTS)
    assert contents["deciding"] == {"reason": "the run has no network"}
    assert "network" not in format_report(contents, full=True)
    assert "reason" in contents["profiles"]
    assert all({"sure", "wrong_when_sure"} < set(one) for one in contents["sources"]["clean"])
    assert len(contents["rows"]) == 36
    assert {row["reason"] for row in contents["rows"]} <= {None, *REASON_WORDS}
    page = report.html.read_text(encoding="utf-8")
    for words in ("The same pictures, saved and shrunk", "called unsure", *PART_WORDS.values()):
        assert words in page or words == "network"
    assert json.loads(report.json.read_text())["variants"] == contents["variants"]


def test_auroc_without_a_part_is_that_of_the_other_parts_beyond_the_limit_of_the_logits():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 50)
    light, network = (rng.normal(0, spread, 100) + shift * (2 * labels - 1) for spread, shift in ((1, 1), (20, 40)))
    columns = {"label": labels, "group": np.arange(100)}
    half = np.clip(light + network, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT) / 2
    parts = {"light": light, NETWORK_PART: network}
    logits, unlike = np.stack([-half, half], 1), np.zeros(100, np.uint8)
    study = compute_expert_study(Scored(np.arange(100), columns, logits, Calibration(), unlike, parts))
    whole = roc_auc_score(labels, light + network)
    for one, other in zip(study["parts"], (network, light), strict=True):
        assert one["auroc_drop"]["value"] == pytest.approx(whole - roc_auc_score(labels, other))


@pytest.mark.parametrize(
    ("low", "text"),
    [
        (
            0.05,
            "the expert for periodic grid: without it, it finds the generated one in 10 (95% interval 5 to 20)",
        ),
        (-0.05, "Leaving out any single expert makes no clear difference."),
    ],
)
def test_summary_names_the_expert_that_decides(report, low, text):
    drops = [{"name": name, "auroc_drop": {"value": 0.0, "low": -0.1, "high": 0.1}} for name in EXPERTS]
    drops[-1]["auroc_drop"] = {"value": 0.1, "low": low, "high": 0.2}
    contents = report.contents | {"experts": {"parts": drops}}
    assert any(text in sentence for sentence in summarise(contents))


def test_report_in_the_terminal_shows_the_same(folder):
    result = CliRunner().invoke(
        cli, ["report", "--full", "--run", str(folder / "experts"), "--out", str(folder / "shown")]
    )
    assert result.exit_code == 0, result.output
    for words in (
        "called unsure",
        "wrong in the surest quarter",
        "after web processing",
        "periodic grid",
        "wrong of these",
    ):
        assert words in result.stdout


def test_tables_explain_why_one_property_scores_above_all(report):
    shortcuts = report.contents["shortcuts"]
    for properties in (ALL, "width and height"):
        strongest = shortcuts["strongest"] | {"properties": properties}
        contents = report.contents | {"shortcuts": shortcuts | {"strongest": strongest}}
        for text in (format_report(contents, full=True), render_report(contents, [], [])):
            assert ("All together can score lower than one of them" in text) == (properties != ALL)
            assert "adds to photographs" in text


def test_short_form_fits_a_screen_whatever_there_is_to_say(report):
    contents = report.contents | {
        "summary": [f"{number} {'words ' * 40}" for number in range(30)],
        "warnings": ["a warning " * 30] * 2,
        "notice": "a notice",
    }
    text = format_report(contents)
    lines = [text[start : start + WIDTH] for text in text.split("\n") for start in range(0, max(len(text), 1), WIDTH)]
    printed = len(lines) + 2 * 4 + 2  # the warnings, and the files' names
    assert MOST_LINES - 3 < printed <= MOST_LINES
    assert "0 words" in text
    assert "29 words" not in text
    assert "29 words" in format_report(contents, full=True)


def test_runs_of_experts_and_networks_are_compared(folder):
    made = compare_runs([folder / "experts", folder / "network"], out=folder / "both", **OPTIONS)
    assert [run["name"] for run in made.contents["runs"]] == ["experts", "network"]
    rows = made.contents["rows"]
    assert {"verdict", "reason"} < set(rows[0]["runs"]["experts"])


# --- the starter run


@pytest.fixture
def starter(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(train.run.locate, "STARTER", folder / "experts")
    tests = {
        name: {"verdicts": {"pictures": pictures, "sure": sure, "wrong": wrong}}
        for name, pictures, sure, wrong in (("test", 198, 6, 1), ("pairs", 164, 12, 2))
    }
    (folder / "experts" / "scores.json").write_text(json.dumps(tests))
    monkeypatch.chdir(tmp_path)
    draw_scene(1, 0, 100).save("one.png")
    return folder / "experts"


def list_files(folder: Path) -> dict[str, float]:
    return {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}


def test_starter_run_judges_where_there_is_no_other(starter):
    result = CliRunner().invoke(cli, ["predict", "one.png", "--json"])
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == (
        "no usable run under runs/, so the starter run that comes with this program is used; in tests on 362 pictures "
        "of other sources, 3 of 18 sure verdicts were wrong"
    )
    assert json.loads(result.stdout)[0]["run"] == "starter"
    result = CliRunner().invoke(cli, ["predict", "one.png", "--json", "--explain", "why.png"])
    assert json.loads(result.stdout)[0]["run"] == "starter"


def test_run_of_ones_own_goes_before_the_starter_run(starter, folder):
    own = make_experts_run(Path("runs") / "001", folder / "features.zarr")
    assert find_run(None).path == own
    result = CliRunner().invoke(cli, ["predict", "one.png", "--json"])
    assert (json.loads(result.stdout)[0]["run"], result.stderr) == ("runs/001", "run: runs/001\n")
    (own / "experts.safetensors").unlink()  # not usable
    assert find_run(None).path == starter


def test_report_with_the_starter_run_leaves_its_folder_alone(starter, folder):
    before = list_files(starter)
    result = CliRunner().invoke(cli, ["report", "--store", str(folder / "features.zarr"), "--json"])
    assert result.exit_code == 0, result.output
    assert "starter run" in result.stderr.splitlines()[0]
    contents = json.loads(result.stdout)
    assert (contents["run"]["path"], contents["run"]["starter"]) == ("starter", True)
    assert Path(STARTER_REPORT, "report.html").is_file()
    assert list_files(starter) == before
    with pytest.raises(UserError, match="give --store"):
        make_report(**OPTIONS)


def test_without_any_run_the_error_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setattr(train.run.locate, "STARTER", tmp_path / "absent")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["predict", "one.png"])
    assert (result.exit_code, result.stderr) == (1, "error: runs: no training run in it; make one with `train run`\n")


def test_starter_run_that_ships_can_be_used():
    if not train.run.locate.STARTER.is_dir():
        pytest.skip("this copy has no starter run")
    run = open_run(train.run.locate.STARTER)
    assert run.settings.has_experts
    assert not run.settings.has_network
    assert not run.simulated
