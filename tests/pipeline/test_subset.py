"""Subsets are drawn by seed, the same share from all sources, and copied byte for byte."""

import hashlib
import json
from collections import Counter

import pytest
from click.testing import CliRunner
from helpers.pictures import draw_noise, make_kaggle_dir

from data_cards.audit.audit import audit_pictures
from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.find import find_files
from data_cards.dataset.listing import format_left_out
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.settings import SetSettings
from data_cards.selection.filters import filter_pictures
from data_cards.selection.matching import match_pictures
from data_cards.selection.subset import Selection, draw_subset
from pipeline.cli.main import main


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A set of 10 pictures of each split, class and source."""
    root = make_kaggle_dir(tmp_path_factory.mktemp("subset") / "set", per_source=10)
    (root / "train/real/camera/source.toml").write_text('name = "A camera"\nlicence = "CC0"\n')
    return root


@pytest.fixture(scope="module")
def pictures(many):
    return scan_sources([str(many)], max_pixels=10**8).pictures


def subset(*arguments):
    return CliRunner().invoke(main, ["subset", *map(str, arguments)])


def hashes(folder):
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.suffix in (".jpg", ".png") and file.is_file()
    }


def manifest(folder):
    rows = (line.split(",") for line in (folder / "manifest.csv").read_text().splitlines()[1:])
    return {row[0]: row[4] for row in rows}


def test_subset_has_the_share_of_every_source_byte_for_byte(many, tmp_path):
    result = subset("--src", many, "--fraction", 0.3, "--seed", 7, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    before, after = hashes(many), hashes(tmp_path / "out")
    assert after.items() <= before.items()
    assert set(Counter(name.rpartition("/")[0] for name in after).values()) == {3}
    assert len(after) == 24
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["selections"][0]["fraction"] == 0.3
    assert card["selections"][0]["seed"] == 7
    assert card["pictures"] == 24
    assert manifest(tmp_path / "out") == after


def test_subset_with_links_has_the_same_pictures(many, tmp_path):
    subset("--src", many, "--fraction", 0.3, "--out", tmp_path / "copies")
    subset("--src", many, "--fraction", 0.3, "--out", tmp_path / "links", "--links")
    assert hashes(tmp_path / "links") == hashes(tmp_path / "copies")
    assert all(file.is_symlink() for file in (tmp_path / "links").rglob("*.jpg"))
    assert not any(file.is_symlink() for file in (tmp_path / "copies").rglob("*.jpg"))


def test_files_of_a_subsets_card_are_not_named_as_left_out(many, tmp_path):
    subset("--src", many, "--fraction", 0.3, "--out", tmp_path / "out")
    (tmp_path / "out/notes.txt").touch()
    (tmp_path / "out/train/README.md").touch()
    assert format_left_out(find_files([str(tmp_path / "out")]).left_out) == [
        f"left out: 2 files that are not pictures: {tmp_path / 'out/notes.txt'}, {tmp_path / 'out/train/README.md'}"
    ]


def test_draw_subset_of_a_smaller_share_is_part_of_a_larger_one(pictures):
    def draw(fraction, seed):
        return {one.file.image for one in draw_subset(pictures, Selection(fraction=fraction, seed=seed)).pictures}

    assert draw(0.2, 1) == draw(0.2, 1) != draw(0.2, 2)
    assert draw(0.2, 1) < draw(0.5, 1)
    shuffled = draw_subset(pictures[::-1], Selection(fraction=0.2, seed=1)).pictures
    assert {one.file.image for one in shuffled} == draw(0.2, 1)


def test_draw_subset_of_small_sources_has_the_exact_share(pictures):
    drawn = draw_subset(pictures, Selection(fraction=0.15)).pictures
    assert set(Counter((one.file.split, one.file.label) for one in drawn).values()) == {3}  # of 2 sources of 10


def test_draw_subset_applies_conditions_then_the_most_of_a_source(pictures):
    drawn = draw_subset(pictures, Selection(where=("split=train", "format=png"), max_per_source=2))
    assert len(drawn.pictures) == 8
    assert {(one.file.split, one.facts.format) for one in drawn.pictures} == {("train", "PNG")}
    assert [step["pictures"] for step in drawn.steps] == [160 // 2, 20, 8]


@pytest.mark.parametrize(
    ("condition", "test"),
    [
        ("width>=44", lambda one: one.facts.width >= 44),
        ("source=camera,gan", lambda one: one.file.source in ("camera", "gan")),
        ("class != real", lambda one: one.file.label != "real"),
        ("quality<99", lambda one: 0 < one.facts.quality < 99),
        ("quality=-1", lambda one: one.facts.format != "JPEG"),
        ("exif=yes", lambda one: False),
    ],
)
def test_filter_pictures_keeps_those_that_meet_the_condition(pictures, condition, test):
    assert filter_pictures(pictures, [condition]) == [one for one in pictures if test(one)]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("source!=camra,gan", "no picture has source camra; some have camera"),
        ("format=JPG", "no picture has format jpg; some have JPEG, PNG"),
        ("source=Camera", None),
        ("width>9999", None),
    ],
)
def test_filter_pictures_by_a_name_that_no_picture_has_warns(pictures, condition, said, capsys):
    filter_pictures(pictures, [condition])
    assert capsys.readouterr().err == (f"warning: --where {condition!r} (in Python: where): {said}\n" if said else "")


@pytest.mark.parametrize("condition", ["width", "colour=red", "width=wide", "source>camera", "width>1,2", "path=1"])
def test_parse_condition_of_other_text_is_refused(pictures, condition):
    with pytest.raises(UsageError, match="--where"):
        filter_pictures(pictures, [condition])


def test_match_pictures_makes_the_classes_match(tmp_path):
    # Fakes are large and saved at 75 for the most part, real pictures small and at 95; a third is the other way.
    for label, usual in (("real", 0), ("fake", 1)):
        (tmp_path / "set" / label / f"{label}-source").mkdir(parents=True)
        for number in range(60):
            kind = usual if number % 3 else 1 - usual
            picture = draw_noise(1000 * usual + number, width=64 + 64 * kind, height=64)
            picture.save(tmp_path / "set" / label / f"{label}-source/{number}.jpg", quality=(95, 75)[kind])
    pictures = scan_sources([str(tmp_path / "set")], max_pixels=10**8).pictures
    assert audit_pictures(pictures).findings[0].auroc.value > 0.6
    match = match_pictures(pictures, ["size", "format", "quality"])
    assert len(match.pictures) == 80
    counts = Counter((one.file.label, one.facts.width, one.facts.quality) for one in match.pictures)
    assert set(counts.values()) == {20}
    assert match.remaining < 0.6
    result = subset("--src", tmp_path / "set", "--balance", "size,format,quality", "--out", tmp_path / "out")
    assert "80 of 120 pictures, 40 left out" in result.stdout
    assert "nothing is left of" not in result.stdout
    assert len(hashes(tmp_path / "out")) == 80


def test_match_pictures_with_nothing_in_common_is_refused(tmp_path):
    for label, suffix in (("real", "jpg"), ("fake", "png")):
        (tmp_path / label).mkdir()
        for number in range(3):
            draw_noise(number + 10 * (label == "fake")).save(tmp_path / label / f"{number}.{suffix}")
    pictures = scan_sources([str(tmp_path)], max_pixels=10**8).pictures
    with pytest.raises(UserError, match="--balance format: no picture of one class"):
        match_pictures(pictures, ["format"])
    with pytest.raises(UsageError, match="balance shape"):
        match_pictures(pictures, ["shape"])


def test_subset_mistakes_are_one_line_and_leave_nothing(many, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for arguments, status, words in (
        (("--out", tmp_path / "full"), 1, "is not empty"),
        (("--out", tmp_path / "a", "--fraction", 0), 2, "fraction 0"),
        (("--out", tmp_path / "a", "--where", "width>9999"), 1, "no picture is left"),
        (("--out", tmp_path / "a", "--balance", "shape"), 2, "shape"),
        (("--out", tmp_path / "a", "--max-per-source", 0), 2, "--max-per-source 0"),
    ):
        result = subset("--src", many, *arguments)
        assert result.exit_code == status, result.output
        assert words in result.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_subset_of_a_subset_keeps_source_info_and_both_selections(many, tmp_path):
    subset("--src", many, "--fraction", 0.5, "--seed", 1, "--out", tmp_path / "one")
    subset("--src", tmp_path / "one", "--max-per-source", 2, "--out", tmp_path / "two")
    card = json.loads((tmp_path / "two/card.json").read_text())
    assert [one["fraction"] for one in card["selections"]] == [0.5, 1.0]
    assert card["selections"][1]["max_per_source"] == 2
    camera = next(one for one in card["sources"] if one["source"] == "camera")
    assert camera["provenance"]["licence"] == "CC0"


@pytest.mark.parametrize("links", [[], ["--links"]])
@pytest.mark.parametrize("equal", [False, True])
def test_subset_keeps_all_pictures_of_the_same_name(tmp_path, equal, links):
    roots = [tmp_path / one for one in "abc"]
    for seed, root in enumerate(roots):
        for label in ("real", "fake"):
            (root / label / "source").mkdir(parents=True)
            draw_noise(seed * (not equal) + 10 * (label == "fake")).save(root / label / "source/0.png")
    result = subset(*(word for root in roots for word in ("--src", root)), "--out", tmp_path / "out", *links)
    assert result.exit_code == 0, result.output
    written = hashes(tmp_path / "out")
    assert sorted(written.values()) == sorted(one for root in roots for one in hashes(root).values())
    assert manifest(tmp_path / "out") == written


def test_subset_of_sources_whose_names_no_folder_gives_keeps_the_sources(tmp_path):
    names = ["v1.5", "2", "generated", ".photos", "docs", "photos"]
    (tmp_path / "set").mkdir()
    lines = ["path,label,source"]
    for number, name in enumerate([*names, "camera"]):
        draw_noise(number).save(tmp_path / f"set/{number}.png")
        lines.append(f"{number}.png,{'real' if name == 'camera' else 'fake'},{name}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    result = subset("--src", tmp_path / "set", "--labels", tmp_path / "labels.csv", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 (source-2), generated (source-generated), v1.5 (source-v1.5); --labels" in result.stdout
    read = {one.source for one in find_files([str(tmp_path / "out")]).files}
    assert read == {"source-v1.5", "source-2", "source-generated", "photos", "docs", "camera"}
    table = SetSettings(labels=(str(tmp_path / "out/manifest.csv"),))
    read = {one.source for one in find_files([str(tmp_path / "out")], table).files}
    assert read == {"v1.5", "2", "generated", "photos", "docs", "camera"}


def test_subset_of_a_hidden_folder_keeps_its_source(tmp_path):
    for seed, folder in enumerate((".photos", "made")):
        (tmp_path / folder).mkdir()
        draw_noise(seed).save(tmp_path / folder / "0.png")
    spec = f"real={tmp_path}/.photos", f"fake={tmp_path}/made"
    result = subset("--src", spec[0], "--src", spec[1], "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert len(find_files([str(tmp_path / "out")]).files) == 2


def test_subset_lists_sources_of_which_nothing_is_left(many, tmp_path):
    result = subset("--src", many, "--where", "split=train", "--where", "source!=gan", "--out", tmp_path / "out")
    lost = [line for line in result.stdout.splitlines() if "left of" in line]
    assert lost[0].startswith("nothing is left of test/fake: diffusion")
    assert lost[1].startswith("nothing is left of test/real: camera")
    assert lost[2:] == ["nothing is left of train/fake: gan"]
    assert result.stdout.splitlines()[-2].startswith(
        "only 2 of 2 real and 1 of 2 fake training sources are left; with fewer sources, every verdict is unsure"
    )
    assert "training sources" not in subset("--src", many, "--where", "split=test", "--out", tmp_path / "tests").stdout
