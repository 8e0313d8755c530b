"""The shortcut audit finds and names what is planted in the simulated set, and is quiet where nothing is."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.pictures import draw_noise
from PIL import Image

from data_cards.audit.audit import Limits, Obstacle, audit_pictures, format_audit, format_audit_briefly
from data_cards.audit.best_rule import find_best_rules, format_rule
from data_cards.audit.cross_validation import Auroc, compute_auroc, fold_by_group, fold_by_source
from data_cards.audit.properties import (
    AWAY,
    BOTH,
    FAMILIES,
    LESS,
    MORE,
    Property,
    compute_file_facts,
    compute_properties,
)
from data_cards.core.errors import UsageError
from data_cards.dataset import histories
from data_cards.dataset.histories import add_histories
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.table import PictureTable
from pipeline.builder.growth import restore_set
from pipeline.builder.plan import plan_build
from pipeline.cli.main import main
from pipeline.simulate.sample_set import write_sample
from pipeline.store.settings import BuildSettings


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A simulated set of 200 pictures of two sources a class, in which the classes differ by traces alone."""
    folder = tmp_path_factory.mktemp("audit") / "sample"
    write_sample(folder, train_per_source=40, test_per_source=10, size=64)
    for source in folder.glob("*/*/*-[cd]"):
        shutil.rmtree(source)
    return folder


def plant(sample, folder, label, change):
    """The set once more, with every picture of a class changed by `change(picture, path without suffix)`."""
    shutil.copytree(sample, folder)
    for path in sorted(folder.glob(f"*/{label}/*/*.jpg")):
        with Image.open(path) as picture:
            picture.load()
        path.unlink()
        change(picture, path.with_suffix(""))
    return folder


def save_as_png(picture, path):
    picture.save(f"{path}.png")


def save_at(quality):
    return lambda picture, path: picture.save(f"{path}.jpg", quality=quality)


def warm(picture, path, levels=12):
    pixels = np.asarray(picture).astype(int) + np.array([levels, 0, -levels])
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(f"{path}.jpg", quality=90)


def audit(*arguments):
    return CliRunner().invoke(main, ["audit", *map(str, arguments)])


def pictures_of(folder):
    pictures = scan_sources([str(folder)], max_pixels=10**8).pictures
    add_histories(pictures, max_pixels=10**8)
    return pictures


def test_audit_of_a_clean_set_is_fine(sample):
    result = audit("--src", sample, "--strict")
    assert result.exit_code == 0, result.output
    found = audit_pictures(pictures_of(sample))
    assert found.verdict == "fine"
    assert found.pictures == (100, 100)
    assert all(one.pictures_held_out.value < 0.6 for one in found.findings)
    assert "what to do" not in result.stdout
    assert format_audit_briefly(found).splitlines()[0].startswith("shortcut audit: fine; ")
    assert len(format_audit_briefly(found).splitlines()) == 1


def test_audit_of_classes_with_one_source_says_how_to_name_sources(sample, tmp_path):
    assert "warning:" not in audit("--src", sample).stdout
    for label in ("real", "fake"):
        (tmp_path / "flat" / label).mkdir(parents=True)
        for number, path in enumerate(sorted((sample / "train" / label).rglob("*.jpg"))):
            shutil.copy(path, tmp_path / "flat" / label / f"{number}.jpg")
    shown = audit("--src", tmp_path / "flat").stdout
    assert "warning: each class has only one source (real: flat, fake: flat)" in shown
    assert "name the sources with --source-pattern or --labels" in shown
    assert json.loads(audit("--src", tmp_path / "flat", "--json").stdout)["single_sources"] in shown


def test_profile_of_small_pictures_ends_below_the_traces(sample):
    pictures = pictures_of(sample)
    assert len(compute_properties(pictures, "low frequencies")) == 4
    large = [replace(one, facts=replace(one.facts, width=400, height=300)) for one in pictures]
    assert len(compute_properties(large, "low frequencies")) == 16


def test_audit_of_png_fakes_fails_for_file_facts(sample, tmp_path):
    folder = plant(sample, tmp_path / "png", "fake", save_as_png)
    result = audit("--src", folder, "--strict", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    first = found["audit"]["findings"][0]
    assert (first["family"], first["verdict"], first["auroc"]["value"]) == ("file facts", "fail", 1.0)
    assert first["telling"][0]["words"] == "all fakes and no real pictures are PNG"
    assert [found["audit"]["findings"][number]["verdict"] for number in (1, 2, 4)] == ["fine"] * 3
    # The pixels are the JPEGs'.
    assert found["audit"]["findings"][3]["pictures_held_out"]["value"] < 0.7
    addition, balance, _, anew = (one for one in found["advice"] if one["family"] == "file facts")
    assert addition["action"].startswith("add sources")
    assert balance["after"] is None
    assert "no picture of one class matches" in balance["note"]
    assert anew["after"] < 0.6  # sizes are alike


def test_audit_of_two_jpeg_qualities_names_the_threshold(sample, tmp_path):
    folder = plant(plant(sample, tmp_path / "one", "fake", save_at(95)), tmp_path / "two", "real", save_at(75))
    found = audit_pictures(pictures_of(folder))
    first = found.findings[0]
    assert (found.verdict, first.verdict) == ("fail", "fail")
    assert format_rule(first.rules[0]) == "all fakes and no real pictures have a JPEG quality of at least 95"
    assert f"best single rule (file facts): {format_rule(first.rules[0])}; `pipeline" in format_audit_briefly(found)
    assert [one.verdict for one in found.findings[1:]] == ["fine", "fine", "fail", "fine"]


@pytest.mark.parametrize(
    ("values", "phrase", "side", "expected"),
    [
        ((2, 5), "are {} pixels wide", BOTH, "all fakes and no real pictures are at least 5 pixels wide"),
        ((5, 2), "are {} pixels wide", BOTH, "all fakes and no real pictures are at most 2 pixels wide"),
        ((0.3, 0), "have {} zeros", MORE, "all real pictures and no fakes have at least 0.30 zeros"),
        ((0.3, 0.5), "have {} detail", LESS, "all real pictures and no fakes have at most 0.30 detail"),
        ((1, -3), "are {} levels {} grey", AWAY, "all real pictures and no fakes are at least 1 levels above grey"),
        ((-1, -3), "are {} levels {} grey", AWAY, "all fakes and no real pictures are at least 3 levels below grey"),
        ((-3, -0.001), "have {}", BOTH, "all fakes and no real pictures have at least 0.00"),
    ],
)
def test_rule_names_the_side_that_its_phrase_explains(values, phrase, side, expected):
    labels = np.repeat([0, 1], 3)
    [rule] = find_best_rules([Property("x", np.repeat(np.array(values, float), 3), phrase, side)], labels)
    assert (format_rule(rule), rule.difference) == (expected, 1)


def test_rule_on_jpeg_tables_says_what_they_mean():
    [tables] = compute_file_facts({"tables": np.repeat(np.array(["", "836d8b0a"], dtype=object), 3)})
    assert format_rule(find_best_rules([tables], np.repeat([0, 1], 3))[0]) == (
        "all fakes and no real pictures were saved by the same kind of JPEG encoder at the same quality (tables "
        "836d8b0a)"
    )


def test_audit_of_a_colour_cast_names_the_thumbnail(sample, tmp_path):
    found = audit_pictures(pictures_of(plant(sample, tmp_path / "warm", "fake", warm)))
    thumbnail = found.findings[1]
    assert thumbnail.verdict in ("warn", "fail")
    assert thumbnail.auroc.low > 0.6
    assert any("cast" in one.name for one in thumbnail.rules)
    assert found.findings[2].verdict == "fine"


def test_audit_strict_with_duplicates_across_splits_fails_and_plots_them(sample, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(sample, folder)
    planted = []
    for number, quality in enumerate((90, 60, 40)):
        source = folder / f"train/fake/generator-a/{number:05}.jpg"
        planted.append(folder / f"test/fake/generator-b/planted{number}.jpg")
        with Image.open(source) as picture:
            picture.resize((picture.width * 3 // 4, picture.height * 3 // 4)).save(planted[-1], quality=quality)
    result = audit("--src", folder, "--strict", "--contact-sheet", tmp_path / "sheet.png")
    assert result.exit_code == 1
    assert "3 groups across splits" in result.stdout
    for path in planted:
        assert str(path) in result.stdout
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "across splits" not in audit("--src", folder, "--where", "split=train").stdout


def build(*sources, out):
    options = ["--out", str(out), "--size", "8", "--workers", "0", "--variants", "clean"]
    made = CliRunner().invoke(main, ["build", *(word for one in sources for word in ("--src", str(one))), *options])
    assert made.exit_code == 0, made.output


def measure(*arguments):
    """Return the audit of pictures, and its forecasts without the names of folders."""
    found = json.loads(audit(*arguments, "--json").stdout)
    forecasts = [{name: value for name, value in one.items() if name != "action"} for one in found.pop("advice")]
    return found, forecasts


def test_audits_of_folder_store_and_subset_agree_in_every_row(sample, tmp_path, monkeypatch):
    monkeypatch.setattr(histories, "MOST_HISTORIES", 60)
    folder, store, balanced = tmp_path / "warm", tmp_path / "a.zarr", tmp_path / "balanced"
    plant(sample, folder, "fake", partial(warm, levels=4))
    build(folder, out=store)
    expected, forecasts = measure("--src", folder)
    assert measure("--store", store) == (expected, forecasts)
    assert expected["notes"] == []
    made = CliRunner().invoke(
        main, ["subset", "--src", str(folder), "--balance", "colour", "--out", str(balanced), "--json"]
    )
    summary, written = json.loads(made.stdout), audit_pictures(pictures_of(balanced)).to_dict()
    assert summary["audit"]["findings"] == written["findings"]
    thumbnail = next(one for one in forecasts if one["family"] == "thumbnail")
    after = {one["family"]: one["auroc"]["value"] for one in written["findings"]}["thumbnail"]
    assert (thumbnail["pictures"], thumbnail["after"]) == (summary["pictures"], after)
    # Other pictures would be read for earlier processing, but they are gone.
    shutil.rmtree(folder)
    result = audit("--store", store, "--where", "source!=generator-a").stdout
    assert "pictures could not be read, because files are missing or have changed" in result
    assert "--src FOLDER --where 'source!=generator-a' --balance colour" in result


def test_audit_of_a_store_restores_the_splits_of_folders(sample, tmp_path):
    """Some validation pictures of the store were drawn, others have a folder named val."""
    given, drawn = tmp_path / "given", tmp_path / "drawn"
    for number, path in enumerate(sorted(sample.rglob("*.jpg"))):
        split, label, source, name = path.relative_to(sample).parts
        own = given / (("val", "train")[number % 5 > 0] if split == "train" else split)
        target = (own if number % 2 else drawn / split) / label / source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    scanned = [scan_sources([str(one)], max_pixels=10**8) for one in (given, drawn)]
    planned, settings = PictureTable(), BuildSettings()
    for found in scanned:
        planned = plan_build(found, settings, planned).pictures
    restored, certain = restore_set(planned, settings)
    assert [one.file for one in restored] == [one.file for found in reversed(scanned) for one in found.pictures]
    assert not certain


def test_limits_out_of_range_are_refused():
    values = (0.599, 0.6, 0.75, 0.751)
    assert [Limits().judge(Auroc(one, 0.51, 1)) for one in values] == ["fine", "warn", "warn", "fail"]
    assert Limits().judge(Auroc(0.8, 0.5, 1)) == "fine"  # may be guessing
    assert Limits(0.7, 0.7).judge(Auroc(0.69, 0.6, 1)) == "fine"
    with pytest.raises(UsageError, match=r"--warn 0\.8 --fail 0\.7"):
        Limits(0.8, 0.7)
    assert audit("--src", "x", "--warn", "2").exit_code == 2
    assert audit().exit_code == 2
    assert audit("--src", "x", "--store", "y").exit_code == 2


def test_audit_of_too_few_pictures_is_unknown(kaggle_dir):
    found = audit_pictures(pictures_of(kaggle_dir))
    assert found.verdict == "unknown"
    assert (found.obstacle, found.pictures) == (Obstacle.TOO_FEW, (16, 16))
    assert "16 real and 16 fake" in format_audit(found)


def test_compute_auroc_equals_scikit_learn_and_its_interval_covers():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        labels = np.arange(120) % 2
        scores = np.round(rng.normal(labels * 0.7), 1)  # with ties
        found = compute_auroc(labels, scores, np.zeros(120), np.arange(120))
        assert found.value == pytest.approx(roc_auc_score(labels, scores), abs=1e-4)
        covered += found.low <= 0.6897 <= found.high  # of normals 0.7 apart: Phi(0.7 / sqrt 2)
    assert covered > 88


def test_folds_keep_groups_and_sources_together():
    rng = np.random.default_rng(1)
    labels, groups = np.arange(200) % 2, np.arange(200) // 3
    folds = fold_by_group(labels, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    sources = np.array([f"{label}-{rng.integers(4)}" for label in labels])
    folds = fold_by_source(labels, sources)
    assert all(len(set(folds[sources == source])) == 1 for source in sources)
    assert all(len(set(labels[folds == fold])) == 2 for fold in set(folds))
    assert fold_by_source(labels, np.array(["one"] * 200)) is None


def test_audit_of_pictures_without_thumbnails_is_unknown(sample):
    bare = [replace(one, facts=replace(one.facts, thumbnail=b"", profile=b"")) for one in pictures_of(sample)]
    found = audit_pictures(bare)
    assert (found.verdict, found.pictures, found.findings) == ("unknown", (0, 0), ())


def test_audit_of_a_set_without_a_jpeg_has_all_families(tmp_path):
    for label in ("real", "fake"):
        (tmp_path / label / label).mkdir(parents=True)
        for number in range(20):
            draw_noise(number + 100 * (label == "fake")).save(tmp_path / label / label / f"{number}.png")
    found = audit_pictures(pictures_of(tmp_path))
    assert [one.family for one in found.findings] == list(FAMILIES)
