"""`eval.verdict`: the calibrated verdict, checks that flip it, several crops, and the files asked for."""

import csv
import errno
import io
import json
import os
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise
from PIL import Image

import eval.verdict.predict
from data_cards.core.errors import PictureError, UsageError, UserError
from data_cards.core.files import MAX_BYTES, open_regular, read_bounded
from data_cards.core.text import escape_untrusted
from eval.cli.main import cli
from eval.report.files import create_folder
from eval.verdict.decide import (
    CHECKS,
    Judgement,
    Reason,
    Views,
    compute_views,
    decide,
    decide_clip,
    doubt_blank_areas,
    score_views,
)
from eval.verdict.inputs import find_inputs
from eval.verdict.output import write_table
from eval.verdict.predict import Verdict, predict_files
from eval.verdict.wording import UNSURE_AFTER_NOTE, format_reason, format_verdict
from pipeline.features.degradations import apply_steps
from pipeline.features.extract import compute_features
from pipeline.features.fit import cut_crops
from pipeline.features.settings import FeatureSettings
from pipeline.features.variants import CLEAN
from pipeline.features.welch import compute_welch_levels
from train.model.calibration import Calibration
from train.model.detector import Detector, Scores
from train.model.experts import Unlike
from train.run.checkpoint import save_weights
from train.run.folder import load_detector, open_run
from train.run.weights_file import BEST

COVER = FeatureSettings(size=32)
CROP = FeatureSettings(size=32, fit="crop")
BAND = Calibration(threshold=0.5, low=0.3, high=0.7)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    return open_run(make_run(folder / "runs" / "001", make_store(folder / "features.zarr")))


@pytest.fixture
def pictures(tmp_path) -> Path:
    for name in ("b.png", "a.jpg", "in/c.png", "in/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        draw_noise(len(name)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def logits_of(*probabilities: float) -> np.ndarray:
    return np.array([[0.0, np.log(p / (1 - p))] for p in probabilities])


def make_views(checks: tuple[str, ...] = (), crops: int = 1) -> Views:
    count = 1 + len(checks)
    return Views((np.zeros((crops, 9, 1, 1), np.uint8),) * count, np.zeros((count, 0), np.float32), checks)


def make_scores(*probabilities: float, unlike: tuple[int, ...] | None = None) -> Scores:
    return Scores(logits_of(*probabilities), np.array(unlike or [0] * len(probabilities), np.uint8))


def write_row(said: Judgement) -> str:
    """Return the table of `predict` on one picture with this judgement."""
    with redirect_stdout(io.StringIO()) as out:
        assert write_table([Verdict("a.png", said)]) == 0
    return out.getvalue()


# --- the word


@pytest.mark.parametrize(
    ("probability", "word", "reason"), [(0.9, "fake", None), (0.1, "real", None), (0.6, "unsure", Reason.IN_BAND)]
)
def test_verdict_is_that_of_the_calibration(probability, word, reason):
    said = decide(make_scores(probability), make_views(), BAND)
    assert (said.verdict, said.reason, said.crops, said.checks) == (word, reason, 1, {})
    assert said.probability_fake == pytest.approx(probability)


@pytest.mark.parametrize(
    ("probabilities", "word", "reason", "flips", "unsure_after"),
    [
        ((0.9, 0.8, 0.2, 0.9), "unsure", Reason.FLIPS, ("JPEG 75",), ()),
        ((0.1, 0.6, 0.9, 0.2), "unsure", Reason.FLIPS, ("JPEG 90", "JPEG 75"), ()),
        # On the same side of the threshold, but no longer sure: the verdict is kept, and the checks are named.
        ((0.9, 0.55, 0.6, 0.9), "fake", None, (), ("JPEG 90", "JPEG 75")),
        ((0.1, 0.1, 0.2, 0.4), "real", None, (), ("crop to 90%",)),
        ((0.9, 0.8, 0.7, 0.99), "fake", None, (), ()),
        ((0.6, 0.1, 0.1, 0.1), "unsure", Reason.IN_BAND, (), ()),
    ],
)
def test_checks_that_change_the_verdict_are_named(probabilities, word, reason, flips, unsure_after):
    names = tuple(check.name for check in CHECKS)
    said = decide(make_scores(*probabilities), make_views(names), BAND)
    assert (said.verdict, said.reason, said.flips) == (word, reason, flips)
    assert said.unsure_after == unsure_after
    assert doubt_blank_areas(said).unsure_after == ()
    shown = write_row(said)
    assert ("would be unsure after" in shown.splitlines()[0]) == bool(unsure_after)
    assert ("such a verdict is weaker" in shown.splitlines()[-1]) == bool(unsure_after)
    assert ", ".join(unsure_after) in shown
    first = format_verdict(said, Detector(None, SimpleNamespace(calibration=BAND))).split(": ")[0]
    assert first.startswith("The verdict is on the file as it is") == bool(unsure_after)
    # The line below the table explains each check.
    assert all(f"{name}:" in UNSURE_AFTER_NOTE or name == "JPEG 75" for name in names)
    assert said.checks == pytest.approx(dict(zip(names, probabilities[1:], strict=True)))


def test_verdict_counts_the_temperature_and_the_crops():
    said = decide(make_scores(0.9), make_views(crops=2), Calibration(temperature=2.0))
    assert said.probability_fake == pytest.approx(0.75)
    assert said.crops == 2


@pytest.mark.parametrize("unlike", [one for one in Unlike if one is not Unlike.NOTHING])
def test_picture_unlike_the_training_pictures_is_unsure(unlike):
    reason = Reason[unlike.name]
    names = ("JPEG 90", "JPEG 75")
    said = decide(make_scores(0.99, 0.99, 0.2, unlike=(unlike, 0, unlike)), make_views(names), BAND)
    assert (said.verdict, said.reason, said.unlike_after, said.flips) == ("unsure", reason, (), ())
    # The table shows the word and the reason, and no probability.
    assert not said.has_valid_score
    assert "0.99" not in write_row(said)
    assert format_reason(said) in write_row(said)
    said = decide(make_scores(0.99, 0.99, 0.99, unlike=(0, 0, unlike)), make_views(names), BAND)
    assert (said.verdict, said.reason, said.unlike_after) == ("unsure", reason, ("JPEG 75",))
    assert format_reason(said).endswith("after JPEG 75")
    assert said.has_valid_score  # of the picture itself
    assert "0.990" in write_row(said)


def test_grey_picture_has_no_valid_score_whatever_its_checks_are_like():
    views = replace(make_views(("JPEG 90", "JPEG 75")), has_colours=False)
    said = decide(make_scores(0.99, 0.99, 0.99, unlike=(0, 0, Unlike.FAR)), views, BAND)
    assert (said.reason, said.unlike_after, said.has_valid_score) == (Reason.GREY, (), False)


def test_folder_that_cannot_be_read_is_one_error_among_the_verdicts(pictures, monkeypatch):
    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(folder))

    (pictures / "locked").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    first, second = find_inputs([pictures / "a.jpg", pictures / "locked"])
    assert (first.error, second.path) == (None, str(pictures / "locked"))
    assert "cannot be read (Permission denied)" in second.error


def test_frames_unlike_the_training_pictures_do_not_count():
    frames = [decide(make_scores(p, unlike=(u,)), make_views(), BAND) for p, u in ((0.9, 0), (0.9, 0), (0.01, 2))]
    said = decide_clip(frames, BAND)
    assert (said.verdict, said.probability_fake) == ("fake", pytest.approx(0.9))
    said = decide_clip([*frames, frames[2], frames[2]], BAND)
    assert (said.verdict, said.reason) == ("unsure", Reason.BLANK)


def test_crops_and_checks_have_the_features_of_the_build():
    picture = draw_noise(1, 60, 50)
    found = compute_views(picture, COVER)
    assert found.checks == ("JPEG 90", "JPEG 75", "crop to 90%")
    for levels, profile, variant in zip(found.levels, found.profiles, (CLEAN, *CHECKS), strict=True):
        built = next(compute_features(picture, COVER, (variant,)))
        np.testing.assert_array_equal(levels, built.levels)
        np.testing.assert_array_equal(profile, built.profile)
    assert len({levels.tobytes() for levels in found.levels}) == 4
    assert compute_views(picture, COVER, with_profile=False).profiles.shape == (4, 0)


@pytest.mark.parametrize(("size", "count"), [((64, 64), 5), ((100, 65), 5), ((63, 200), 1), ((32, 32), 1)])
def test_large_picture_is_judged_by_several_crops(size, count):
    picture = draw_noise(2, *size)
    crops = cut_crops(picture, CROP)
    assert len(crops) == count
    assert len({crop.tobytes() for crop in crops}) == count
    middle = next(compute_features(picture, CROP, (CLEAN,))).levels[0]
    (found,) = compute_views(picture, CROP, ()).levels
    np.testing.assert_array_equal(found[0], middle)
    assert len(found) == count
    assert len(cut_crops(picture, COVER)) == 1


def test_crops_share_the_overview_of_the_whole_picture():
    picture = draw_noise(5, 90, 70)
    settings = FeatureSettings(size=32, fit="crop", estimator="averaged", overview=40)
    own, saved = compute_views(picture, settings, CHECKS[:1]).levels
    assert len(own) == len(saved) == 5
    whole = compute_welch_levels(np.asarray(picture.resize((40, 40), Image.Resampling.BICUBIC)), 32)
    assert all(np.array_equal(one[9:], whole) for one in own)
    assert not np.array_equal(saved[0, 9:], whole)  # of the picture saved as JPEG
    assert not np.array_equal(own[0, :9], own[1, :9])


def test_crop_check_changes_each_crop():
    found = compute_views(draw_noise(3, 48, 48), CROP)
    assert found.checks == ("JPEG 90", "JPEG 75", "crop to 90%")
    assert (found.levels[0] != found.levels[3]).any()
    small = compute_views(draw_noise(3, 33, 48), CROP)  # its corner is enlarged, as a build's variants are
    assert small.checks == found.checks
    assert (small.levels[0] != small.levels[3]).any()
    corner = apply_steps(Image.linear_gradient("L").convert("RGB"), CHECKS[2].steps)
    assert corner.size == (230, 230)
    assert corner.getpixel((0, 0)) == (0, 0, 0)


def test_side_too_long_for_jpeg_skips_the_jpeg_check(run):
    long = Image.new("RGB", (65_501, 32))
    assert compute_views(long, FeatureSettings(size=32, fit="stretch")).checks == ("crop to 90%",)


def test_score_of_nan_weights_raises(run):
    detector = load_detector(run, "cpu")
    next(detector.plane_detector.network.parameters()).data.fill_(np.nan)
    with pytest.raises(UserError, match="no finite scores"):
        score_views(detector, [compute_views(draw_noise(1), run.build_settings.features)])


# --- the files


def test_list_files_keeps_the_order_of_folders_globs_and_lists(pictures, monkeypatch):
    monkeypatch.chdir(pictures)
    stdin = io.BytesIO(b"b.png\r\n\nin\nabsent*.png\n")
    found = find_inputs(["in", "*.png", "-", "**/c.*", "absent*.png", "none.jpg"], stdin)
    assert [one.path for one in found] == [
        *("in/c.png", "b.png"), *("b.png", "in/c.png", "absent*.png"), "in/c.png", "absent*.png", "none.jpg"
    ]  # fmt: skip
    # On a list a name is a name.
    assert [one.error for one in found] == [None] * 6 + ["matches no file", None]
    assert [one.path for one in find_inputs(["-"])] == ["-"]
    Path("odd[1].png").touch()
    assert [one.error for one in find_inputs(["odd[1].png"])] == [None]


def test_stores_and_runs_are_not_folders_of_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (
        "runs/001/settings.json",
        "runs/001/summary.json",
        "runs/001/plot.png",
        "runs/a.png",
        "s.zarr/zarr.json",
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for folder, text in (("runs/001", "give a run as --run runs/001"), ("s.zarr", "`report --store s.zarr` scores")):
        (found,) = find_inputs([folder])
        assert found.path == folder
        assert text in found.error
    # A plot of a run is not a picture to be judged, but a picture beside it is.
    left_out = []
    assert [one.path for one in find_inputs(["runs"], left_out=left_out)] == ["runs/a.png"]
    assert {one.reason for one in left_out} == {"of a run"}
    with pytest.raises(UsageError, match=r"s.zarr: is a feature store; --out needs a folder"):
        create_folder(Path("s.zarr"))
    for path, text in (("s.zarr", "`report --store s.zarr`"), ("runs/001/plot.png", "give --run runs/001")):
        with pytest.raises(UserError, match=text):
            open_run(path)


def test_find_inputs_accepts_undecodable_names(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    assert [one.path for one in find_inputs(["-"], io.BytesIO(os.fsencode(name) + b"\n"))] == [name]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", ".", "absent.png", "a\0b"])
def test_special_files_are_not_read(path):
    with pytest.raises(PictureError):
        open_regular(path)


def test_a_file_beyond_the_bound_is_not_read(tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole: it takes no room
    with open_regular(str(tmp_path / "large.png")) as file, pytest.raises(PictureError, match="too large"):
        read_bounded(file)


def test_predict_holds_few_files_at_a_time(run, pictures, monkeypatch):
    alive, most = [0], [0]

    def count_alive(*arguments, **options):
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        return compute_views(*arguments, **options)

    monkeypatch.setattr(eval.verdict.predict, "compute_views", count_alive)
    files = [str(pictures / "b.png")] * 40
    seen = 0
    for _ in eval.verdict.predict.iterate_verdicts(
        run, find_inputs(files), device="cpu", batch_size=2, workers=1, quick=True
    ):
        seen += 1
        alive[0] -= 1
    assert seen == 40
    assert most[0] <= 2 + 1  # the network's batch, and the next


def test_quick_verdict_has_no_checks(run, pictures):
    options = {"device": "cpu", "progress": False}
    (whole,) = predict_files(run, [pictures / "b.png"], **options)
    (quick,) = predict_files(run, [pictures / "b.png"], quick=True, **options)
    assert quick.judgement.checks == {}
    assert list(whole.judgement.checks) == [check.name for check in CHECKS]
    assert quick.probability_fake == pytest.approx(whole.probability_fake, abs=1e-5)


# --- the command


def call(*arguments: str, **options):
    return CliRunner().invoke(cli, ["predict", "--device", "cpu", *arguments], **options)


@pytest.fixture(
    params=[("in_band", "score not clear enough"), ("unproven", "tests too small, or classes not separated in them")]
)
def band(request, run):
    """The run's band of unsure set to nearly everything, or to everything; return reason and words of verdicts."""
    detector = load_detector(run, "cpu").plane_detector
    before = detector.calibration
    margin = 0.001 if request.param[0] == "in_band" else 0.0
    detector.calibration = Calibration(threshold=0.5, low=margin, high=1 - margin)
    save_weights(detector, run.path, BEST)
    yield request.param
    detector.calibration = before
    save_weights(detector, run.path, BEST)


def test_unsure_verdict_has_a_reason(run, pictures, band):
    name = str(pictures / "b.png")
    table = call("--run", str(run.path), name).stdout
    reason, words = band
    # Where the detector's tests support no score, the table has no probability.
    assert ("probability fake" in table) == (reason == "in_band")
    assert "why unsure" in table
    assert words in table.splitlines()[2]
    (found,) = json.loads(call("--run", str(run.path), name, "--json").stdout)
    assert (found["why"], found["reason"], found["flips_under"]) == (words, reason, [])
    assert found["score_valid"] == (reason == "in_band")
    assert 0 < found["probability_fake"] < 1


def test_csv_list_on_stdin_and_failures(run, pictures):
    names = [str(pictures / "b.png"), str(pictures / "notes.txt"), str(pictures / "a.jpg")]
    result = call("--run", str(run.path), "-", str(pictures / "x*"), "--csv", input="\n".join(names))
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["path"] for row in rows] == [*names, str(pictures / "x*")]
    assert [row["verdict"] in ("real", "fake", "unsure") for row in rows] == [True, False, True, False]
    assert rows[1]["error"].startswith("not a picture")
    assert rows[3]["error"] == "matches no file"
    assert [row["crops"] for row in rows] == ["1", "", "1", ""]
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"error: {names[1]}: not a picture")
    assert lines[1] == f"error: {pictures / 'x*'}: matches no file"
    assert call("--csv", "--json", names[0], "--run", str(run.path)).exit_code == 2


def test_declared_origin_is_listed_with_the_score(run, tmp_path):
    plain, declaring = tmp_path / "plain.png", tmp_path / "declaring.png"
    draw_noise(1).save(plain)
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("parameters", "Steps: 20, Sampler: Euler\x1b[2J")
    draw_noise(1).save(declaring, pnginfo=info)
    arguments = ("--run", str(run.path), str(plain), str(declaring))
    result = call(*arguments)
    assert result.stdout.splitlines()[-1].endswith("declaring.png declares, not verified: Stable Diffusion parameters")
    assert "\x1b" not in result.output
    one, other = json.loads(call(*arguments, "--json").stdout)
    assert one["declared_not_verified"] == []
    assert other["declared_not_verified"][0]["what"] == "Stable Diffusion parameters"
    assert one["probability_fake"] == pytest.approx(other["probability_fake"], abs=1e-6)
    assert "Stable Diffusion" in call(*arguments, "--csv").stdout


@pytest.mark.parametrize("form", ["--json", "--csv", "--device=cpu"])
def test_terminal_escapes_file_names(run, tmp_path, form):
    name = tmp_path / os.fsdecode(b"\x1b]0;x\x07\xff\xc2\x9b\xe2\x80\xae.png")
    draw_noise(1).save(name)
    result = call("--run", str(run.path), str(name), str(tmp_path / "\x1b[31m.jpg"), form)
    assert result.exit_code == 1
    for text in (result.stdout, result.stderr):
        assert all(one.isprintable() or one == "\n" for one in text)
    if form == "--json":
        assert json.loads(result.stdout)[0]["path"] == str(name)
    elif form == "--csv":
        assert r"\x1b]0;x\x07\udcff\x9b\u202e.png" in result.stdout


def test_escape_replaces_control_characters():
    assert escape_untrusted("a\nü\x1b\u202e\U000e0001", 3) == "a\\x0aü…"
    assert escape_untrusted("\u202e\U000e0001\udcff") == "\\u202e\\U000e0001\\udcff"
