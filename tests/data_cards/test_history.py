"""The history is read from pixels: what was done before the last saving tells two classes apart, also of PNG files."""

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from helpers.pictures import draw_noise
from PIL import Image

from data_cards.audit.audit import audit_pictures
from data_cards.audit.best_rule import format_rule
from data_cards.audit.properties import HISTORY as FAMILY
from data_cards.audit.properties import THUMB
from data_cards.dataset import histories
from data_cards.dataset.histories import add_histories
from data_cards.dataset.scan import scan_sources
from data_cards.dataset.table import PictureTable
from data_cards.image.history import HISTORY, SMALLEST, compute_history
from pipeline.simulate.scenes import draw_scene

Change = Callable[[Image.Image], Image.Image]
EACH = 24  # pictures of a class


def save(quality: int, subsampling: int = 0) -> Change:
    """Save a picture as JPEG, and read it again."""

    def change(picture: Image.Image) -> Image.Image:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
        return Image.open(io.BytesIO(file.getvalue())).convert("RGB")

    return change


def cut(left: int, top: int) -> Change:
    return lambda picture: picture.crop((left, top, left + 160, top + 160))


def scale(factor: float) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        side = round(picture.width * factor)
        return picture.resize((side, side), Image.Resampling.BICUBIC)

    return change


def chain(*changes: Change) -> Change:
    def change(picture: Image.Image) -> Image.Image:
        for one in changes:
            picture = one(picture)
        return picture

    return change


# What was done to each class before all were saved as PNG of one size.
PLANTED = {
    "chroma halved": (save(92, 0), save(92, 2)),
    "chroma halved, saved finely": (save(98, 0), save(98, 2)),
    "earlier quality": (save(95), save(75)),
    "earlier JPEG": (chain(), save(95)),
    "earlier JPEG, then cut": (chain(), chain(save(80), cut(11, 13))),
    "earlier JPEG, cut, saved alike": (save(90), chain(save(60), cut(11, 13), save(90))),
    "scaled up": (cut(8, 8), chain(scale(1.5), cut(8, 8))),
    "scaled down after a JPEG": (chain(save(90), cut(0, 0)), chain(save(90), scale(0.85), cut(0, 0))),
}

# One of the sentences on each of these.
_FAKES, _ZERO = r"all fakes and no real pictures have at least 0\.\d+ in the measure of ", r" \(about 0 without it\)"
_LITTLE = (
    r"all fakes and no real pictures have a ratio of fine to coarse colour detail from left to right of at most "
    r"-\d\.\d+ \(log10; halved colours, compression and scaling lower it\)"
)
SEEN = {
    "chroma halved": f"{_FAKES}JPEG compression with halved colour resolution{_ZERO}",
    "chroma halved, saved finely": _LITTLE,
    "earlier quality": _LITTLE,
    "earlier JPEG": f"{_FAKES}JPEG compression{_ZERO}",
    "earlier JPEG, then cut": _LITTLE,
    "earlier JPEG, cut, saved alike": f"{_FAKES}JPEG compression before a crop{_ZERO}",
    "scaled up": r"all fakes and no real pictures have at least 1\.\d+ in the measure of scaling \(about 0\.4 to .*",
    "scaled down after a JPEG": rf"all real pictures and no fakes have at least 0\.\d+ in the .* JPEG .*{_ZERO}",
}


def draw(number: int) -> Image.Image:
    """A scene of 200 px with fine grain in every colour."""
    rng = np.random.default_rng(number)
    scene = np.asarray(draw_scene(rng, 200, 200), np.float64)
    levels = 255 * np.clip(scene / scene.max(), 0, 1) ** (1 / 2.2)
    return Image.fromarray(np.clip(np.rint(levels + 4 * rng.standard_normal(levels.shape)), 0, 255).astype(np.uint8))


def write_set(folder, changes: tuple[Change, Change]) -> PictureTable:
    for label, change in zip(("real", "fake"), changes, strict=True):
        (folder / label).mkdir(parents=True)
        for number in range(EACH):
            picture = chain(change, cut(0, 0))(draw(number + 100 * (label == "fake")))
            picture.save(folder / label / f"{number}.png")
    return read_set(folder)


def read_set(folder) -> PictureTable:
    pictures = scan_sources([str(folder)], max_pixels=10**8).pictures
    add_histories(pictures, max_pixels=10**8)
    return pictures


@pytest.mark.parametrize("planted", PLANTED)
def test_history_hidden_in_png_fails_the_audit(planted, tmp_path):
    found = {one.family: one for one in audit_pictures(write_set(tmp_path / "set", PLANTED[planted])).findings}
    assert found[FAMILY].verdict == "fail", str(found[FAMILY].pictures_held_out)
    sentences = [format_rule(one) for one in found[FAMILY].rules]
    assert any(re.fullmatch(SEEN[planted], one) for one in sentences), sentences
    assert found[THUMB].verdict == "fine"


def test_classes_of_one_history_are_fine(tmp_path):
    found = audit_pictures(write_set(tmp_path / "set", (save(85, 2), save(85, 2)))).findings
    assert next(one for one in found if one.family == FAMILY).verdict == "fine"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (32, 5000), (400, 40), (1000, 700)])
@pytest.mark.parametrize("colour", [None, "black", "red"])
def test_history_of_any_size_is_finite_but_for_small_ones(size, colour):
    picture = Image.new("RGB", size, colour) if colour else draw_noise(1, *size)
    values = np.frombuffer(compute_history(picture), "<f2")
    assert len(values) == len(HISTORY)
    assert np.isfinite(values[:-1]).all()
    assert np.isfinite(values[-1]) or min(size) < 50


def test_picture_that_is_too_small_has_no_history():
    assert compute_history(Image.new("RGB", (SMALLEST - 1, 500))) == b""


@pytest.fixture
def noise_set(tmp_path):
    """A set of 25 pictures a class in each split."""
    for split in ("train", "test"):
        for label in ("real", "fake"):
            folder = tmp_path / "noise" / split / label
            folder.mkdir(parents=True)
            for number in range(25):
                draw_noise(number + 100 * (label == "fake") + 1000 * (split == "test")).save(folder / f"{number}.png")
    return tmp_path / "noise"


def test_bounded_number_is_read_whatever_the_order_and_growth(noise_set, monkeypatch):
    monkeypatch.setattr(histories, "MOST_HISTORIES", 10)
    both = read_set(noise_set)
    drawn = {one.facts.sha256: one.facts.history for one in both if one.facts.history}
    assert len(drawn) == 10
    half = PictureTable(one for one in reversed(both) if one.file.split == "train")
    own = {one.facts.sha256 for one in half}
    half.set_histories({})
    add_histories(half, max_pixels=10**8)
    kept = {one.facts.sha256: one.facts.history for one in half if one.facts.history}
    assert {one: history for one, history in drawn.items() if one in own}.items() <= kept.items()


def test_history_of_a_file_that_is_gone_or_changed_is_kept_or_left_out(noise_set):
    pictures = read_set(noise_set)
    before = list(pictures)
    assert all(one.facts.history for one in before)
    assert list(pictures.select(range(9, 2, -1))) == before[9:2:-1]
    for path in noise_set.rglob("*.*"):
        path.write_bytes(b"changed")
    add_histories(pictures, max_pixels=10**8)
    assert list(pictures) == before
    pictures.set_histories({})
    add_histories(pictures, max_pixels=10**8, cache=False)
    assert not any(one.facts.history for one in pictures)


def test_set_that_is_too_small_for_an_audit_is_not_read(kaggle_dir):
    assert not any(one.facts.history for one in read_set(kaggle_dir))
