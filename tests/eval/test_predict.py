"""`predict`: the build's features to the last bit, verdicts, and files that cannot be judged."""

import csv
import hashlib
import io
import json
import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.archives import list_files, pack_parquet, pack_tar, pack_zip
from helpers.make_run import make_run
from helpers.pictures import draw_noise, make_kaggle_dir
from PIL import Image

import train.run.locate
from data_cards.core.console import PROGRAM
from data_cards.core.errors import UsageError
from data_cards.dataset.simulated import SIMULATION_NOTICE
from eval.cli.main import cli, predict
from eval.report.report import make_report
from eval.scores.rows import locate_pictures, score_samples
from eval.verdict.decide import Judgement
from eval.verdict.inputs import find_inputs
from eval.verdict.output import write_csv
from eval.verdict.predict import Verdict, predict_files
from pipeline.builder.build import build_store
from pipeline.features.extract import compute_features
from pipeline.features.settings import FeatureSettings
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.run.folder import load_detector, open_run

KEYS = [
    "checks", "crops", "declared_not_verified", "flips_under", "parts", "path", "probability_fake", "reason", "remarks",
    "run",
    "score_valid", "sha256", "unlike_after", "unsure_after", "verdict", "version", "why",
]  # fmt: skip
SETTINGS = BuildSettings(FeatureSettings(size=32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of both kinds of file, their store, a run on it and its report."""
    folder = tmp_path_factory.mktemp("predict")
    make_kaggle_dir(folder / "pictures", per_source=3)
    build_store([str(folder / "pictures")], str(folder / "features.zarr"), SETTINGS, workers=0)
    make_run(folder / "runs" / "001", folder / "features.zarr")
    make_report(folder / "runs" / "001", device="cpu", progress=False)
    return folder


@pytest.fixture
def call(folder, monkeypatch):
    """Call `predict` in that folder."""
    monkeypatch.chdir(folder)
    return lambda *arguments, **how: CliRunner().invoke(cli, ["predict", "--device", "cpu", *arguments], **how)


def test_features_are_those_of_the_build_to_the_last_bit(folder):
    store = open_store(folder / "features.zarr")
    run = open_run(folder / "runs" / "001")
    clean = np.flatnonzero(store.columns["variant"] == "clean")
    assert len(clean) == 24
    for row in clean:
        file = folder / "pictures" / store.columns["image"][row]
        features = next(compute_features(file, run.build_settings.features)).levels[0]
        assert features.dtype == store.features.dtype
        assert (features == store.features[row]).all()


def test_scores_are_those_of_the_report(folder):
    rows = json.loads((folder / "runs" / "001" / "report.json").read_text(encoding="utf-8"))["rows"]
    rows = [row for row in rows if row["variant"] == "clean"]
    assert len(rows) == 12
    verdicts = predict_files(
        open_run(folder / "runs" / "001"), [row["path"] for row in rows], device="cpu", batch_size=5, progress=False
    )
    for verdict, row in zip(verdicts, rows, strict=True):
        assert verdict.path == row["path"]
        # The same features; rounding may differ with the batch that a picture stands in.
        assert verdict.probability_fake == pytest.approx(row["probability_fake"], abs=1e-5)
        assert (verdict.probability_fake >= 0.5) == (row["probability_fake"] >= 0.5)


def test_grey_pictures_are_unsure_in_verdicts_and_reports_of_a_network(tmp_path):
    for split in ("train", "test"):
        for label in ("real", "fake"):
            for number in range(2):
                path = tmp_path / "pictures" / split / label / "one" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = draw_noise(len(list((tmp_path / "pictures").rglob("*.png"))))
                (picture.convert("L") if number else picture).save(path)
    build_store([str(tmp_path / "pictures")], str(tmp_path / "features.zarr"), SETTINGS, workers=0)
    store = open_store(tmp_path / "features.zarr")
    run = open_run(make_run(tmp_path / "run", store))
    rows = store.rows("test", "clean")
    scored = score_samples(run, load_detector(run, "cpu"), store, rows, batch_size=4, threads=1, progress=False)
    verdicts = predict_files(run, locate_pictures(scored, store), device="cpu", quick=True, progress=False)
    reported = [(one["verdict"], one["reason"]) for one in scored.list_scores()]
    assert reported == [(one.verdict, one.judgement.reason) for one in verdicts]
    assert [reason == "grey" for _, reason in reported] == ["1.png" in path for path in locate_pictures(scored, store)]


def test_report_shows_thumbnails_of_its_pictures(folder):
    page = (folder / "runs" / "001" / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == page.count('class="shot') >= 12
    assert "file gone" not in page


def test_report_omits_thumbnails_of_changed_pictures(folder, tmp_path):
    file = next((folder / "pictures" / "test" / "real" / "phone").iterdir())
    before = file.read_bytes()
    try:
        Image.new("RGB", (40, 40)).save(file, "PNG")
        report = make_report(folder / "runs" / "001", out=tmp_path, device="cpu", progress=False)
        assert "file gone<br>or changed" in report.html.read_text(encoding="utf-8")
    finally:
        file.write_bytes(before)


def test_h_is_help(call):
    assert call("-h").output == call("--help").output
    assert "usually 120 megapixels" in " ".join(call("-h").output.split())


def test_predict_prints_a_table_or_json(call):
    names = ["pictures/test/real/phone/0.jpg", "pictures/test/fake/gan/1.png"]
    result = call(*names)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[2:]
    assert [line.split()[0] for line in lines] == names
    assert {line.split()[1] for line in lines} <= {"real", "fake", "unsure"}
    found = json.loads(call(*names, "--json", "--run", "runs/001").stdout)
    assert [sorted(one) for one in found] == [KEYS] * 2
    assert [one["path"] for one in found] == names
    assert [f"{one['probability_fake']:.3f}" for one in found] == [line.split()[-1] for line in lines]


def test_scores_do_not_depend_on_order_or_batches(folder):
    run = open_run(folder / "runs" / "001")
    files = [one.path for one in find_inputs([folder / "pictures" / "test"])]
    options = {"device": "cpu", "progress": False}
    once = {one.path: one for one in predict_files(run, files, batch_size=1, **options)}
    again = predict_files(run, [*reversed(files), files[0]], batch_size=7, **options)
    assert [one.path for one in again] == [*reversed(files), files[0]]
    for one in again:
        assert one.probability_fake == pytest.approx(once[one.path].probability_fake, abs=1e-6)
    with pytest.raises(UsageError, match="batch size 0"):
        predict_files(run, files, batch_size=0, **options)


def test_predict_of_a_folder_judges_its_pictures(tmp_path):
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b").mkdir()
    for name in ("c.PNG", "b/a.jpg", "a.webp", "notes.txt", ".hidden/x.png", ".x.png"):
        (tmp_path / name).touch()
    in_folder = [str(tmp_path / name) for name in ("a.webp", "b/a.jpg", "c.PNG")]
    names = [str(tmp_path), str(tmp_path / "notes.txt"), str(tmp_path / "absent")]
    assert [one.path for one in find_inputs(names)] == [*in_folder, *names[1:]]


def test_predict_of_a_folder_takes_files_by_their_content_and_names_the_others(call, folder, tmp_path):
    picture = (folder / "pictures/test/real/phone/0.jpg").read_bytes()
    names = ("a", "b.jpg_large", "c.jpg!d", "d.jpeg~orig", "e.jpg?w=512", "f.jfif", "g.JPG", "h.txt")
    for name in names:
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "labels.csv").write_text("path,label")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "clip").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(600))
    assert [Path(one.path).name for one in find_inputs([tmp_path])] == sorted([*names, "clip"])
    (tmp_path / "clip").unlink()
    result = call(str(tmp_path), "--json")
    assert result.exit_code == 0
    assert [Path(one["path"]).name for one in json.loads(result.stdout)] == sorted(names)
    left_out = ", ".join(str(tmp_path / name) for name in ("gone.jpg", "labels.csv", "notes.txt"))
    notes = result.stderr.splitlines()
    notes.remove("run: runs/001")
    assert notes == [
        f"left out: 3 files that are neither pictures nor clips: {left_out}",
        f"{len(names)} files judged: 8 fake",
    ]


def test_predict_of_a_folder_follows_links_to_folders_and_ends_loops(tmp_path):
    (tmp_path / "elsewhere/deep").mkdir(parents=True)
    (tmp_path / "links").mkdir()
    for name in ("elsewhere/a.jpg", "elsewhere/deep/b.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "links/photos").symlink_to("../elsewhere")
    (tmp_path / "links/again").symlink_to(".")
    (tmp_path / "elsewhere/up").symlink_to("../links")
    expected = [str(tmp_path / "links/photos" / name) for name in ("a.jpg", "deep/b.jpg")]
    assert [one.path for one in find_inputs([tmp_path / "links"])] == expected


def test_predict_of_a_picture_on_stdin_asks_for_names():
    result = CliRunner().invoke(cli, ["predict", "-"], input=b"\xff\xd8\xff\xe0\x00\x10JFIF")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "expected names of files, one a line; give a picture as `predict FILE`" in result.stderr


def test_predict_of_a_folder_that_cannot_be_read_names_it(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").touch()

    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    (one,) = find_inputs([tmp_path])
    assert one.path == str(tmp_path)
    assert "Permission denied" in one.error


def test_predict_reads_names_that_end_with_a_zero_byte(call, folder, tmp_path):
    picture = (folder / "pictures/test/real/phone/0.jpg").read_bytes()
    names = [str(tmp_path / name) for name in ("a\nb.jpg", " c.jpg ")]
    for name in names:
        Path(name).write_bytes(picture)
    listed = b"".join(os.fsencode(name) + b"\0" for name in names)
    result = call("-0", "-", "--json", input=listed)
    assert [one["path"] for one in json.loads(result.stdout)] == names
    assert result.exit_code == 0
    assert call("-", "--json", input=listed.replace(b"\0", b"\n")).exit_code == 1
    result = call("-0", "a.jpg")
    assert result.exit_code == 2
    assert "-0" in result.stderr


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "PPM", "TGA", "PNG", "JPEG"])
def test_predict_is_unsure_of_a_picture_that_may_be_half_written(call, folder, tmp_path, kind):
    picture = draw_noise(11, 128, 128)
    picture.paste((0, 0, 0), (0, 64, 128, 128))
    sound, half = tmp_path / f"sound.{kind.lower()}", tmp_path / f"half.{kind.lower()}"
    draw_noise(11, 128, 128).save(sound, kind)
    picture.save(half, kind)
    found = {Path(one["path"]).stem: one for one in json.loads(call(str(sound), str(half), "--json").stdout)}
    assert found["sound"]["reason"] != "may_be_damaged"
    # PNG and JPEG tell of damage, so there the part is what the picture shows.
    assert (found["half"]["reason"] == "may_be_damaged") == (kind not in ("PNG", "JPEG"))
    explained = call(str(half), "--json", "--explain", str(tmp_path / "why.png"))
    assert json.loads(explained.stdout)[0] == found["half"]


def test_predict_bounds_pictures_by_its_own_limit(call, folder):
    picture = "pictures/test/real/phone/0.jpg"
    result = call(picture, "--max-pixels", "100")
    assert result.exit_code == 1
    assert "at most 100 are allowed (--max-pixels)" in result.stderr
    assert call(picture, "--max-pixels", "0").exit_code == 2
    assert call(picture, "--max-pixels", "100", "--explain", "why.png").exit_code == 1


def test_predict_asks_about_an_unquoted_path_with_a_space(call, tmp_path):
    (tmp_path / "my photos").mkdir()
    result = call(str(tmp_path / "my"), "photos")
    assert result.exit_code == 1
    question = f'did you mean "{tmp_path}/my photos"? Quote a path with spaces'
    assert result.stderr.splitlines()[1] == f"error: {tmp_path}/my: does not exist; {question}"
    assert result.stderr.count("did you mean") == 1
    assert len(json.loads(call(str(tmp_path / "my"), "photos", "--json").stdout)) == 2


def test_advice_of_predict_names_no_option_of_the_build(call, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "tiny.png")
    result = call(str(tmp_path / "tiny.png"), "--run", str(Path(__file__).parents[1] / "data/run"))
    assert result.exit_code == 1
    assert "smaller than" in result.stderr
    assert "--" not in result.stderr


@pytest.mark.parametrize("pack", [pack_zip, pack_tar, pack_parquet])
def test_predict_of_an_archive_judges_its_pictures_as_those_of_the_folder(call, folder, tmp_path, pack):
    pictures = folder / "pictures/test"
    files = [(name, data) for name, data in list_files(pictures) if name.endswith("0.jpg")]
    path = pack(tmp_path / f"set{pack.__name__.replace('pack_', '.')}", [*files, ("real/broken.jpg", b"no picture")])
    result = call(str(path), "--json")
    assert result.exit_code == 1
    found = {one["path"]: one for one in json.loads(result.stdout)}
    [broken] = [one for name, one in found.items() if "broken" in name]
    assert "not a picture" in broken["error"]
    whole = {one["path"]: one for one in json.loads(call(str(pictures), "--json").stdout)}
    expected = sorted(whole[str(pictures / name)]["probability_fake"] for name, _ in files)
    assert sorted(one["probability_fake"] for one in found.values() if "error" not in one) == expected
    if pack is not pack_parquet:
        assert {str(path / name) for name, _ in files} <= set(found)
    one = next(name for name in found if "broken" not in name)
    assert json.loads(call(one, "--json").stdout)[0]["probability_fake"] == found[one]["probability_fake"]
    assert call(one, "--explain", str(tmp_path / "why.png")).exit_code == 0


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_predict_names_the_files_bytes_the_run_and_the_program(call, folder, tmp_path, form):
    data = (folder / "pictures/test/real/phone/0.jpg").read_bytes()
    files = [("picture.jpg", data), ("damaged.jpg", data[:300]), ("damaged.mp4", b"\0\0\0\x18ftypisom" + b"\0" * 600)]
    for name, content in files:
        (tmp_path / name).write_bytes(content)
    names = [str(tmp_path / name) for name, _ in files] + [str(tmp_path / "absent.jpg")]
    names += [f"{pack_zip(tmp_path / 'set.zip', files)}/{name}" for name, _ in files]
    text = call(*names, form).stdout
    found = json.loads(text) if form == "--json" else list(csv.DictReader(io.StringIO(text)))
    expected = [hashlib.sha256(content).hexdigest() for _, content in files]
    assert [one["path"] for one in found] == names
    assert [one["sha256"] or None for one in found] == [*expected, None, *expected]
    assert {(one["run"], one["version"]) for one in found} == {("runs/001", version(PROGRAM))}


def test_predict_of_archives_that_stay_closed_says_unpack(call, tmp_path):
    pack_tar(tmp_path / "set.tar.gz", [("a.jpg", b"x")], "w:gz")
    (tmp_path / "set.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    (tmp_path / "text.zip").write_text("text")
    pack_zip(tmp_path / "none.zip", [("notes.txt", b"x")])
    draw_noise(1).save(tmp_path / "picture.zip", "PNG")
    names = [str(tmp_path / name) for name in ("set.tar.gz", "set.rar", "text.zip", "none.zip", "picture.zip")]
    result = call(*names)
    assert result.exit_code == 1
    assert result.stderr.count("Unpack it and give the folder") == 3
    assert "none.zip: an archive without pictures or clips" in result.stderr
    assert "picture.zip" in result.stdout


def test_predict_of_a_folder_of_archives_judges_their_pictures(tmp_path):
    pack_zip(tmp_path / "a.zip", [("x.jpg", b""), ("__MACOSX/._x.jpg", b""), (".x.jpg", b""), ("clip.mp4", b"")])
    pack_tar(tmp_path / "b.tar", [("y", b"\xff\xd8\xff"), ("notes.txt", b"x")])
    assert [one.path for one in find_inputs([tmp_path])] == [
        str(tmp_path / name) for name in ("a.zip/clip.mp4", "a.zip/x.jpg", "b.tar/y")
    ]
    (tmp_path / "z.jpg").touch()
    assert [one.path for one in find_inputs([tmp_path])] == [str(tmp_path / "z.jpg")]


def test_counts_of_verdicts_are_written_like_all_numbers(capsys):
    write_csv([Verdict("a", Judgement("unsure", 0.5, 0.0))] * 1000 + [Verdict("b", error="x")] * 2000, "run")
    assert capsys.readouterr().err.splitlines()[-1] == "1,000 files judged: 1,000 unsure; 2,000 cannot be judged"


def test_predict_names_broken_files_and_judges_the_rest(call, folder, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    whole = (folder / "pictures" / "test" / "real" / "phone" / "0.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none").mkdir()
    bad = [str(tmp_path / name) for name in ("text.jpg", "cut.jpg", "absent.jpg", "none")]
    good = "pictures/test/real/phone/0.jpg"
    result = call(*bad[:2], good, *bad[2:])
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == [good]
    run, *lines, last = result.stderr.splitlines()
    assert run == "run: runs/001"
    assert last == "1 file judged: 1 fake; 4 cannot be judged"
    for line, name, reason in zip(lines, bad, ("not a picture", "truncated", "No such file", "folder"), strict=True):
        assert line.startswith(f"error: {name}: ")
        assert reason in line
    result = call("--json", *bad, good)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [sorted(one) for one in found] == [["error", "path", "run", "sha256", "version"]] * 4 + [KEYS]
    assert [one["path"] for one in found] == [*bad, good]


def test_predict_of_broken_files_alone_fails(call, tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    result = call(str(tmp_path / "text.jpg"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(call("--json", str(tmp_path / "text.jpg")).stdout)[0]["error"]


def test_predict_shows_the_simulation_notice(call, folder):
    (run,) = (folder / "runs").iterdir()
    card = run / "data_card.json"
    before = card.read_text()
    card.write_text(json.dumps(json.loads(before) | {"simulated": True}))
    try:
        result = call("pictures/test/real/phone/0.jpg", "--json")
        assert SIMULATION_NOTICE in result.stderr
        assert len(json.loads(result.stdout)) == 1
        assert SIMULATION_NOTICE not in call("absent.jpg").stderr  # nothing was judged
    finally:
        card.write_text(before)
    assert SIMULATION_NOTICE not in call("pictures/test/real/phone/0.jpg").stderr


def test_verdicts_need_no_store(call, folder):
    store = folder / "features.zarr"
    store.rename(folder / "away.zarr")
    try:
        assert call("pictures/test/real/phone/0.jpg").exit_code == 0
    finally:
        (folder / "away.zarr").rename(store)


def test_predict_with_wrong_options_is_refused(call, tmp_path, monkeypatch):
    assert call().exit_code == 2
    result = call("x.jpg", "--run", "absent")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: absent: no such run folder; runs are made with `train run`\n"
    # Under its own name, where there is no run at all.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.run.locate, "STARTER", tmp_path / "absent")
    result = CliRunner().invoke(predict, ["x.jpg"])
    assert (result.exit_code, result.stderr) == (1, "error: runs: no training run in it; make one with `train run`\n")
