"""Names are data: files, sources and run folders named with HTML stay text on both pages, with all their sections."""

import shutil
from html.parser import HTMLParser

import pytest
from helpers.make_run import make_run
from helpers.pictures import make_kaggle_dir

from eval.explain.reasons import REASON_WORDS
from eval.report.compare import compare_runs
from eval.report.gallery import Example
from eval.report.html import create_environment
from eval.report.report import make_report
from pipeline.builder.build import build_store
from pipeline.features.settings import FeatureSettings
from pipeline.store.settings import BuildSettings

ATTACK = "<img src=x onerror=alert(1)>{{ 7 * 7 }}<b>"  # a folder's name may hold no slash


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = set(), set(), ""
        self.images = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "img":
            self.images.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures whose source and files are named with HTML, their store, and two runs named likewise."""
    folder = tmp_path_factory.mktemp("names")
    root = make_kaggle_dir(folder / "pictures")
    for split in ("train", "test"):
        shutil.move(root / split / "fake" / "gan", root / split / "fake" / ATTACK)
        for file in list((root / split / "fake" / ATTACK).iterdir()):
            file.rename(file.with_name(ATTACK + file.name))
    settings = BuildSettings(features=FeatureSettings(size=16), variants="clean")
    build_store([str(root)], str(folder / "a.zarr"), settings, workers=0)
    for seed in (0, 1):
        make_run(folder / f"{ATTACK}{seed}", folder / "a.zarr", seed)
    return folder


def assert_harmless(page: Page) -> None:
    assert "script" not in page.tags
    assert not any(name.startswith("on") for name in page.attributes)
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.images)
    assert ATTACK in page.text


def test_report_escapes_names(folder):
    report = make_report(folder / f"{ATTACK}0", device="cpu", progress=False, explain_pictures=2)
    page = Page(report.html.read_text(encoding="utf-8"))
    assert_harmless(page)
    assert page.images  # the pictures are at hand, so the gallery shows them
    assert report.contents["card"]["sources"]
    assert "saved as JPEG" in page.text


def test_comparison_escapes_names(folder, tmp_path):
    report = compare_runs([folder / f"{ATTACK}{seed}" for seed in (0, 1)], out=tmp_path, device="cpu", progress=False)
    page = Page(report.html.read_text(encoding="utf-8"))
    assert_harmless(page)
    assert f"{ATTACK}1" in page.text


@pytest.mark.parametrize(("reason", "shown"), [("in_band", True), ("far", False)])
def test_gallery_names_the_reason_and_shows_only_scores_that_are_probabilities(reason, shown):
    example = Example("a.png", "gan", "fake", "unsure", reason, 0.875, None)
    macros = create_environment().get_template("macros.html").make_module({})
    html = str(macros.shots([example]))
    assert f"({REASON_WORDS[reason]})" in html
    assert ("0.875" in html, 'class="scale"' in html) == (shown, shown)
