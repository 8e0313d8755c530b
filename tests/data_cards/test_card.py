"""The data card: in every store, as Markdown, valid Croissant and a page; escaped, comparable, without positions."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.folders import assert_same_files
from helpers.make_run import make_run
from helpers.make_store import make_store
from helpers.pictures import draw_noise, make_kaggle_dir
from PIL import Image

from data_cards.audit.audit import audit_pictures, format_finding
from data_cards.audit.properties import FAMILIES, FORMER_NAMES
from data_cards.card.contents import _compute_edges
from data_cards.card.croissant import compute_croissant
from data_cards.card.diff import compare_cards
from data_cards.card.html import format_html
from data_cards.core.errors import UserError
from data_cards.core.labels import CLASS_NAMES
from data_cards.core.text import format_count
from data_cards.dataset.histories import add_histories
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.source_info import read_source_info
from data_cards.image.facts import read_facts
from eval.report.report import make_report
from eval.report.terminal import format_report
from pipeline.builder.card import write_card
from pipeline.cli.main import main
from pipeline.simulate.sample_set import write_sample
from pipeline.store.reader import open_store
from train.cli import cli

EVIL = "<script>alert(1)</script>|**x**[y](http://z)"


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def set_folder(tmp_path_factory):
    root = make_kaggle_dir(tmp_path_factory.mktemp("card") / "set")
    (root / "train/real/camera/source.toml").write_text(
        f'name = "A camera"\ncamera = "X100"\nurl = "https://example.org"\nlicense = "CC0-1.0"\ndate = 2024-05-01\n'
        f"consent = '{EVIL}'\n"
    )
    (root / "train/fake/source.json").write_text(json.dumps({"gan": {"generator": "GAN 2"}, "licence": "MIT"}))
    (root / "train/real/camera/broken.jpg").write_bytes(b"nothing")
    return root


@pytest.fixture(scope="module")
def files(set_folder):
    """The card's files of the folder."""
    out = set_folder.parent / "out"
    result = run("card", set_folder, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_source_info_is_that_of_the_nearest_file_else_missing(files):
    card = json.loads((files / "card.json").read_text())
    said = {one["source"]: one["provenance"] for one in card["sources"]}
    assert said["camera"]["licence"] == "CC0-1.0"
    assert said["camera"]["date"] == "2024-05-01"
    assert said["gan"]["generator"] == "GAN 2"
    assert said["diffusion"]["licence"] == "MIT"
    assert said["phone"] == dict.fromkeys(said["phone"])
    text = (files / "README.md").read_text()
    assert "| real | phone | 8 | not stated |" in text
    assert "broken.jpg: not a picture" in text.replace("\\", "")
    assert card["set_aside"][0]["file"] == "train/real/camera/broken.jpg"


def test_card_counts_and_spans_equal_those_of_the_pictures(files):
    card = json.loads((files / "card.json").read_text())
    assert card["splits"] == {"train": {"real": 8, "fake": 8}, "test": {"real": 8, "fake": 8}}
    assert card["classes"]["real"]["formats"] == {"JPEG": 8, "PNG": 8}
    assert card["classes"]["real"]["width"] == {"least": 36.0, "median": 40.0, "most": 44.0}
    assert sum(sum(one[label]) for one in [card["histograms"]["width"]] for label in CLASS_NAMES) == 32


def test_markdown_begins_with_a_hugging_face_header(files):
    import yaml

    text = (files / "README.md").read_text()
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["pretty_name"] == "set"
    assert header["license"] == "other"
    assert header["size_categories"] == ["n<1K"]
    assert "<script>" not in text


def test_croissant_states_both_classes_of_a_source_with_one_name(files):
    card = json.loads((files / "card.json").read_text())
    for one in card["sources"]:
        one["provenance"]["consent"] = f"of {one['class']}"
    card["sources"] = [one | {"source": "biggan"} for one in card["sources"] if one["source"] in ("camera", "gan")]
    stated = compute_croissant(card, "0")["rai:personalSensitiveInformation"]
    assert sorted(one for one in stated if "biggan" in one) == [
        "consent, fake/biggan: consent of fake",
        "consent, real/biggan: consent of real",
    ]


@pytest.mark.filterwarnings("ignore")  # mlcroissant's own
def test_croissant_is_valid_and_its_manifest_can_be_read(files):
    mlcroissant = pytest.importorskip("mlcroissant")
    path = files / "croissant.json"
    # What `mlcroissant validate` does; a file that is not valid raises.
    assert not mlcroissant.Dataset(jsonld=path).metadata.ctx.issues.errors
    values = json.loads(path.read_text())
    assert values["rai:dataLimitations"]
    assert values["rai:dataBiases"]
    assert any(EVIL in one for one in values["rai:personalSensitiveInformation"])
    rows = list(mlcroissant.Dataset(jsonld=path).records("pictures"))
    assert len(rows) == 32
    assert {row["pictures/class"] for row in rows} == {b"real", b"fake"}


def test_page_is_whole_escaped_and_loads_nothing(files):
    page = (files / "card.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    seen = set()

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.update({tag} | {name for name, _ in attributes if name in ("src", "href", "onload")})

    Reader().feed(page)
    assert {"svg", "figure", "table"} <= seen
    assert not {"src", "href", "onload", "link", "img"} & seen
    for words in (
        "prefers-color-scheme: dark",
        "width=device-width",
        "not stated",
        "bytes a pixel",
        "max-width: 40rem",
    ):
        assert words in page


def test_page_names_the_sources_of_which_nothing_is_stated_once(files):
    page = (files / "card.html").read_text()
    sources = page[page.index("<h2>Sources</h2>") : page.index("<h2>How the set was made</h2>")]
    assert sources.count("<h3") == 3  # camera, gan and diffusion
    assert sources.count("phone") == 1
    assert sources.index("Nothing is stated") < sources.index("phone")


@pytest.mark.parametrize(
    ("options", "words"),
    [((), "profiles, no planes"), (("--size", 8), "size 8, fit cover, resample bicubic")],
    ids=["profiles", "planes"],
)
def test_features_of_a_store_are_named_without_those_that_do_not_apply(set_folder, tmp_path, options, words):
    made = run("build", "--src", set_folder, "--out", tmp_path / "a.zarr", "--workers", 0, *options)
    assert made.exit_code == 0, made.output
    assert run("card", tmp_path / "a.zarr", "--out", tmp_path / "card").exit_code == 0
    for name in ("card.html", "README.md"):
        text = (tmp_path / "card" / name).read_text()
        assert words in text
        assert "None" not in text


def test_store_of_a_subset_has_a_card_with_the_selection(set_folder, tmp_path):
    assert run("subset", "--src", set_folder, "--fraction", 0.5, "--seed", 3, "--out", tmp_path / "half").exit_code == 0
    made = run("build", "--src", tmp_path / "half", "--out", tmp_path / "a.zarr", "--size", 8, "--workers", 0)
    assert made.exit_code == 0, made.output
    assert made.stderr.count("shortcut audit: too few pictures") == 1
    carried = open_store(tmp_path / "a.zarr").card
    assert carried["selections"][0]["fraction"] == 0.5
    assert carried["selections"][0]["seed"] == 3
    assert carried["variants"]["names"] == ["clean", "jpeg-75", "web", "shrunk"]
    shutil.rmtree(tmp_path / "half")
    result = run("card", tmp_path / "a.zarr", "--out", tmp_path / "card", "--json")
    assert json.loads(result.stdout) == {"name": "a.zarr", **carried}
    assert len((tmp_path / "card/manifest.csv").read_text().splitlines()) == carried["pictures"] + 1


def test_card_does_not_depend_on_the_folder(set_folder, tmp_path):
    shutil.copytree(set_folder, tmp_path / "set")
    run("card", set_folder, "--out", tmp_path / "one")
    run("card", tmp_path / "set", "--out", tmp_path / "other")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "one/card.json").read_text()


@pytest.mark.parametrize("name", ["README.md", "manifest.csv", "card.json", "croissant.json", "card.html"])
def test_card_into_a_folder_with_other_files_of_its_names_is_refused(set_folder, tmp_path, name):
    (tmp_path / name).write_text("mine")
    result = run("card", set_folder, "--out", tmp_path)
    assert result.exit_code == 1
    assert f"contains {name}, which would be replaced; expected" in result.stderr
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [(name, "mine")]


def test_card_into_the_folder_of_a_card_replaces_it(set_folder, files, tmp_path):
    shutil.copytree(files, tmp_path / "card")
    (tmp_path / "card/mine.txt").write_text("mine")
    (tmp_path / "card/README.md").unlink()
    (tmp_path / "card/card.json").write_text('{"card_version": 0}')
    assert run("card", set_folder, "--out", tmp_path / "card").exit_code == 0
    (tmp_path / "card/mine.txt").unlink()
    assert_same_files(files, tmp_path / "card")


def test_card_diff_lists_the_values_that_differ(set_folder, files, tmp_path):
    shutil.copytree(set_folder, tmp_path / "set")
    (tmp_path / "set/train/real/phone/0.jpg").unlink()
    shutil.rmtree(tmp_path / "set/test/fake/gan")
    found = {
        one["what"]: one for one in json.loads(run("card", "--diff", set_folder, tmp_path / "set", "--json").stdout)
    }
    assert (found["pictures"]["first"], found["pictures"]["second"]) == (32, 27)
    assert found["sources > fake/gan > splits > test"]["second"] is None  # it is in train still
    assert "the cards do not differ" in run("card", "--diff", set_folder, files / "card.json").stdout
    assert "the cards do not differ" in run("card", "--diff", files, set_folder).stdout
    assert "sources > real/phone > pictures" in run("card", "--diff", files / "card.json", tmp_path / "set").stdout
    assert run("card", "--diff", set_folder).exit_code == 2
    assert run("card", set_folder, set_folder).exit_code == 2


def test_card_diff_of_unlike_sets_fits_100_columns(set_folder, tmp_path):
    source = "a-source-whose-name-is-much-longer-than-a-column-of-the-table"
    shutil.copytree(set_folder, tmp_path / "set")
    (tmp_path / "set/train/real/phone").rename(tmp_path / f"set/train/real/{source}")
    shutil.rmtree(tmp_path / "set/test/fake/gan")
    text = run("card", "--diff", set_folder, tmp_path / "set").stdout
    lines = text.splitlines()
    assert "values differ" in lines[0]
    assert lines[1:3] == [f"first:  {set_folder}", f"second: {tmp_path / 'set'}"]
    assert max(map(len, lines[3:])) <= 100
    assert text.count("real/a-source") == 1
    assert not re.search(r"\d\.0\b", text)  # whole numbers have no decimals


@pytest.mark.parametrize("huge", [0, 1, 2])
def test_histogram_with_a_huge_picture_shows_the_others(huge):
    others = np.tile([512.0, 640, 768, 1024], 20)
    values = np.concatenate([others, [20_000.0] * huge])
    edges = _compute_edges(values)
    counts = np.histogram(others, bins=edges)[0]
    assert counts.sum() == 80
    assert np.count_nonzero(counts) == 4
    assert edges[-1] < 2000


@pytest.mark.parametrize("values", [[5.0], [5, 5], [100, 10_000], [1, 512, 10_000], range(300)], ids=str)
def test_histogram_of_few_or_even_values_is_whole_or_counts_the_rest(values):
    edges = _compute_edges(np.array(values, float))
    assert np.all(np.diff(edges) > 0)
    inside = sum(edges[0] <= value <= edges[-1] for value in values)
    assert inside == (2 if len(values) == 3 else len(values))


def test_page_states_the_pictures_outside_a_histogram(files):
    card = json.loads((files / "card.json").read_text())
    card["histograms"]["width"]["outside"] = {"real": 2, "fake": 1}
    card["classes"]["real"]["width"]["most"] = 20_000
    assert "Not drawn: 2 real, 1 fake. All values: 36 to 20,000." in format_html(card)
    del card["histograms"]["width"]["outside"]  # of a card that an earlier version wrote
    assert "Not drawn" not in format_html(card)


@pytest.mark.parametrize("former", FORMER_NAMES)
def test_card_with_a_former_name_of_a_family_is_shown_and_compared(former, files):
    card = json.loads((files / "card.json").read_text())
    auroc = {"value": 0.9, "low": 0.8, "high": 1.0}
    finding = {"pictures_held_out": auroc, "sources_held_out": None, "auroc": auroc, "verdict": "fail", "telling": []}
    cards = [
        card | {"audit": {"verdict": "fail", "reason": None, "limits": card["audit"]["limits"], "findings": [one]}}
        for one in ({"family": former, **finding}, {"family": FORMER_NAMES[former], **finding})
    ]
    assert compare_cards(*cards) == []
    assert FAMILIES[FORMER_NAMES[former]] in format_html(cards[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_sentence_on_a_family_is_grammatical_for_every_name(family):
    assert format_finding(family, 0.684, "warn", "all fakes and no real pictures are PNG") == (
        f"The classes can partly be separated by the {family} alone (AUROC 0.68); "
        "for example, all fakes and no real pictures are PNG"
    )
    assert (
        format_finding(family, 1.0, "fail", None) == f"The classes can be separated by the {family} alone (AUROC 1.00)"
    )


@pytest.mark.parametrize(("number", "words"), [(0, "0 groups"), (1, "1 group"), (1200, "1,200 groups")])
def test_count_has_the_noun_in_its_number(number, words):
    assert format_count(number, "group") == words


def test_card_contains_no_exif_position(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.12345)
    draw_noise(1).save(tmp_path / "a.jpg", exif=exif)
    draw_noise(2).save(tmp_path / "b.jpg")
    facts = read_facts(tmp_path / "a.jpg", 10**8)
    assert (facts.exif, facts.camera) == (True, True)
    assert "12345" not in repr(facts)
    assert "Maker" not in repr(facts)
    assert (read_facts(tmp_path / "b.jpg", 10**8).exif) is False


@pytest.mark.parametrize(("name", "text"), [("source.toml", "name = "), ("source.json", "[1]"), ("source.json", "{")])
def test_source_file_that_is_damaged_is_one_line(kaggle_dir, name, text):
    (kaggle_dir / "train/real" / name).write_text(text)
    with pytest.raises(UserError, match=name):
        read_source_info(scan_sources([str(kaggle_dir)], max_pixels=10**8).pictures)


def test_file_that_is_not_a_card_is_one_line(tmp_path):
    (tmp_path / "card.json").write_text("{}")
    result = run("card", "--diff", tmp_path / "card.json", tmp_path / "card.json")
    assert result.exit_code == 1
    assert "not a data card" in result.stderr


def test_card_of_simulated_pictures_says_so(tmp_path):
    write_sample(tmp_path / "set", train_per_source=1, test_per_source=1, size=32)
    run("card", tmp_path / "set", "--out", tmp_path / "card")
    assert "Simulation" in (tmp_path / "card/card.html").read_text()
    assert "simulation" in (tmp_path / "card/README.md").read_text()
    card = json.loads((tmp_path / "card/card.json").read_text())
    assert card["sources"][0]["provenance"]["generator"].startswith("simulated")


AUDIT_WORDS = "all fakes and no real pictures are PNG"


@pytest.fixture(scope="module")
def leaking_set(tmp_path_factory) -> Path:
    """A set whose fakes alone are PNG."""
    root = tmp_path_factory.mktemp("leaking") / "set"
    for label, suffix in (("real", "jpg"), ("fake", "png")):
        (root / label / label).mkdir(parents=True)
        for number in range(24):
            draw_noise(number + 100 * (label == "fake")).save(root / label / label / f"{number}.{suffix}")
    return root


@pytest.fixture(scope="module")
def leaking_build(leaking_set):
    """The result of the build of that set, and the store's path."""
    out = leaking_set.parent / "a.zarr"
    return run("build", "--src", leaking_set, "--out", out, "--size", 8, "--workers", 0, "--variants", "clean"), out


@pytest.fixture(scope="module")
def audited_store(leaking_build, tmp_path_factory) -> Path:
    """A store that can be learned from, with the card of the other."""
    store = make_store(tmp_path_factory.mktemp("audited") / "b.zarr")
    write_card(zarr.open_group(store, mode="r+"), open_store(leaking_build[1]).card)
    return store


def test_build_prints_the_audit_and_stores_it(leaking_set, leaking_build):
    result, out = leaking_build
    assert result.output.count("shortcut audit") == 1
    assert result.output.count(AUDIT_WORDS) == 1
    assert "warning: shortcut audit: fail" in result.stderr
    pictures = scan_sources([str(leaking_set)], max_pixels=10**8).pictures
    add_histories(pictures, max_pixels=10**8)
    audit = json.loads(json.dumps(audit_pictures(pictures).to_dict()))
    assert open_store(out).card["audit"].items() >= audit.items()


def test_train_run_prints_the_audit_of_its_store(audited_store, tmp_path):
    options = ["--batch-size", "8", "--device", "cpu", "--precision", "float32", "--epochs", "1", "--network", "small"]
    result = CliRunner().invoke(cli, ["run", "--store", str(audited_store), "--run", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.output
    assert AUDIT_WORDS in result.stderr


def test_report_shows_the_audit_of_the_store(audited_store, tmp_path):
    report = make_report(make_run(tmp_path / "run", audited_store), device="cpu", progress=False, explain_pictures=0)
    assert report.contents["audit"]["verdict"] == "fail"
    assert AUDIT_WORDS in format_report(report.contents, full=True)
    assert AUDIT_WORDS in report.html.read_text()
