"""The sample set: its layout, its independence of order, and that its classes differ by traces alone."""

import hashlib
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_cards.core.errors import UsageError, UserError
from data_cards.dataset.find import find_pictures
from data_cards.dataset.simulated import SIMULATION_MARKER, is_simulated
from data_cards.image.jpeg import estimate_quality
from data_cards.image.perceptual_hash import compute_perceptual_hash, group_near_duplicates
from pipeline.features.variants import SUBSAMPLINGS
from pipeline.simulate.makers import MAKERS, Camera
from pipeline.simulate.sample_set import JPEG_QUALITIES, draw_picture, write_sample
from pipeline.simulate.scenes import draw_scene

SOURCES = [(label, source) for label, sources in MAKERS.items() for source in sources]
SIZE = 64


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return write_sample(
        tmp_path_factory.mktemp("sample") / "set", train_per_source=40, test_per_source=30, size=SIZE
    ).path


def test_layout_is_kaggles(tmp_path):
    summary = write_sample(tmp_path / "set", train_per_source=2, test_per_source=1, size=32)
    found = find_pictures(str(tmp_path / "set"))
    expected = [
        f"{split}/{label}/{source}/{number:05d}.jpg"
        for split, count in (("test", 1), ("train", 2))
        for label, source in SOURCES
        for number in range(count)
    ]
    assert sorted(picture.image for picture in found) == sorted(expected)
    assert {(picture.label, picture.source) for picture in found} == set(SOURCES)
    assert {picture.split for picture in found} == {"train", "test"}
    assert summary.total == len(expected) == sum(summary.pictures.values())
    assert summary.pictures["train", "real", "camera-a"] == 2
    assert summary.bytes == sum(picture.path.stat().st_size for picture in found)
    assert summary.path == tmp_path / "set"


def test_set_has_the_simulation_marker(sample):
    marker = json.loads((sample / SIMULATION_MARKER).read_text(encoding="utf-8"))
    assert marker["simulated"] is True
    assert marker["seed"] == 0
    assert "simulation" in marker["note"]
    for label, source in SOURCES:
        facts = tomllib.loads((sample / "train" / label / source / "source.toml").read_text(encoding="utf-8"))
        assert facts["name"] == source
        assert ("camera" if label == "real" else "generator") in facts
        assert facts["note"] == "simulation"


def test_folder_in_a_simulated_set_is_simulated(sample):
    assert is_simulated(sample)
    assert is_simulated(sample / "train" / "fake" / "generator-a" / "00000.jpg")
    assert not is_simulated(sample.parent)


def test_pictures_do_not_depend_on_the_others(sample, tmp_path):
    small = write_sample(tmp_path / "small", train_per_source=1, test_per_source=2, size=SIZE).path
    for picture in find_pictures(str(small)):
        assert picture.path.read_bytes() == (sample / picture.image).read_bytes(), picture.image


def test_another_seed_gives_other_pictures(sample, tmp_path):
    other = write_sample(tmp_path / "other", train_per_source=1, test_per_source=1, size=SIZE, seed=1).path
    for picture in find_pictures(str(other)):
        assert picture.path.read_bytes() != (sample / picture.image).read_bytes(), picture.image


def test_all_pictures_differ(sample):
    pictures = find_pictures(str(sample))
    hashes = b"".join(compute_perceptual_hash(Image.open(picture.path).convert("L")) for picture in pictures)
    groups = group_near_duplicates(np.frombuffer(hashes, np.uint8).reshape(-1, 32))
    assert len(np.unique(groups)) == len(pictures)


def test_file_facts_are_the_same_in_every_source(sample):
    facts = {}
    for picture in find_pictures(str(sample)):
        with Image.open(picture.path) as opened:
            sampling = opened.layer[0][1:3]
            facts.setdefault((picture.split, picture.path.stem), set()).add(
                (opened.format, opened.size, estimate_quality(opened), sampling)
            )
    assert all(len(values) == 1 for values in facts.values())
    drawn = {value for values in facts.values() for value in values}
    assert {sampling for *_, sampling in drawn} == {(1, 1), (2, 2)}
    assert len({size for _, size, *_ in drawn}) >= 4
    assert {quality for _, _, quality, _ in drawn} <= set(JPEG_QUALITIES)


def test_saved_file_equals_draw_picture(sample):
    levels, quality, subsampling = draw_picture(0, "test", "fake", "generator-b", 7, size=SIZE)
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    assert subsampling in SUBSAMPLINGS
    assert buffer.getvalue() == (sample / "test/fake/generator-b/00007.jpg").read_bytes()


# What the classes differ in --------------------------------------------------------------------


def _split_arrays(sample: Path, describe) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    result = {}
    for split in ("train", "test"):
        pictures = [picture for picture in find_pictures(str(sample)) if picture.split == split]
        values = np.array([describe(picture.path) for picture in pictures])
        result[split] = values, np.array([picture.label == "fake" for picture in pictures])
    return result


def _score(sample: Path, describe, strength: float) -> float:
    """AUROC on test pictures of a logistic regression trained on training pictures."""
    arrays = _split_arrays(sample, describe)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
    model.fit(*arrays["train"])
    values, labels = arrays["test"]
    return roc_auc_score(labels, model.decision_function(values))


def _spectrum(path: Path) -> np.ndarray:
    """Log magnitude of the middle SIZE x SIZE pixels, averaged over 4 x 4 bins."""
    pixels = np.asarray(Image.open(path), np.float32)
    top, left = (pixels.shape[0] - SIZE) // 2, (pixels.shape[1] - SIZE) // 2
    spectrum = np.fft.fftshift(np.fft.fft2(pixels[top : top + SIZE, left : left + SIZE], axes=(0, 1)), (0, 1))
    blocks = np.log1p(np.abs(spectrum)).reshape(SIZE // 4, 4, SIZE // 4, 4, 3)
    return blocks.mean(axis=(1, 3)).ravel()


def _thumbnail(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).resize((8, 8), Image.Resampling.BOX), np.float32).ravel()


def _mean_colour(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), np.float32).mean(axis=(0, 1))


def _bytes_per_pixel(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array([path.stat().st_size / (opened.width * opened.height)])


def test_spectra_separate_the_classes(sample):
    assert _score(sample, _spectrum, 0.01) > 0.8


@pytest.mark.parametrize("describe", [_thumbnail, _mean_colour, _bytes_per_pixel])
def test_trivial_properties_hardly_separate_the_classes(sample, describe):
    assert 0.35 < _score(sample, describe, 0.01) < 0.65


# Scenes and traces -----------------------------------------------------------------------------


def test_scene_is_linear_light_and_a_function_of_its_seed():
    one, again, other = (draw_scene(np.random.default_rng(seed), 96, 128) for seed in (5, 5, 6))
    assert one.shape == (96, 128, 3)
    assert one.dtype == np.float32
    assert one.min() >= 0
    assert one.max() <= 1
    assert np.array_equal(one, again)
    assert np.abs(one - other).mean() > 0.01


def test_many_scenes_are_finite_and_not_blank():
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), 48, 64)
        assert np.isfinite(scene).all()
        assert scene.std() > 0.005


@pytest.mark.parametrize("red_at", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("gradient_corrected", [False, True])
def test_camera_without_noise_keeps_a_flat_colour(red_at, gradient_corrected):
    camera = Camera(red_at, blur=0.5, shot_noise=0, read_noise=0, gradient_corrected=gradient_corrected, sharpening=0.5)
    scene = np.broadcast_to(np.array([0.6, 0.2, 0.05], np.float32), (32, 48, 3))
    levels = camera(np.random.default_rng(0), scene)
    assert levels.shape == (16, 24, 3)
    # sRGB levels of these colours by IEC 61966-2-1.
    assert np.abs(levels.astype(int) - (203, 124, 63)).max() <= 1


def test_camera_noise_is_strongest_where_the_mosaic_was_sampled():
    levels = MAKERS["real"]["camera-a"](np.random.default_rng(0), np.full((256, 256, 3), 0.2, np.float32))
    red = levels[..., 0].astype(float)
    assert red[::2, ::2].std() > 1.2 * red[1::2, 1::2].std()  # interpolated: a mean of four samples


@pytest.mark.parametrize(
    ("label", "source", "has_peak"),
    [
        ("real", "camera-a", False),
        ("real", "camera-b", False),
        ("fake", "generator-a", True),
    ],
)
def test_only_transposed_convolution_leaves_a_checkerboard(label, source, has_peak):
    levels = MAKERS[label][source](np.random.default_rng(0), np.full((256, 256, 3), 0.2, np.float32))
    spectrum = np.abs(np.fft.fft2(levels.astype(float), axes=(0, 1)))
    peaks = [spectrum[row, column].max() for row, column in ((64, 0), (0, 64), (0, 32), (32, 0))]
    assert (min(peaks) > 8 * np.median(spectrum)) == has_peak


# Bad calls -------------------------------------------------------------------------------------


def test_used_folder_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty; name a new folder"):
        write_sample(tmp_path, train_per_source=1, test_per_source=1, size=32)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(UserError, match="is a file"):
        write_sample(tmp_path / "mine.txt", train_per_source=1, test_per_source=1, size=32)


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    write_sample(tmp_path / "set", train_per_source=1, test_per_source=1, size=32)
    assert (tmp_path / "set" / SIMULATION_MARKER).is_file()


def test_interrupted_run_leaves_nothing(tmp_path):
    def stop_after_three(items, total):
        assert total == 16
        for number, item in enumerate(items):
            if number == 3:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        write_sample(tmp_path / "set", train_per_source=1, test_per_source=1, size=32, wrap=stop_after_three)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"train_per_source": 0}, "train pictures per source 0", id="no-pictures"),
        pytest.param({"size": 100}, "size 100: expected a multiple of 8", id="odd-size"),
        pytest.param({"size": 16}, "size 16", id="tiny"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        write_sample(tmp_path / "set", **arguments)
    assert not (tmp_path / "set").exists()


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path, monkeypatch):
    digests = set()
    for name, cores in (("one", 1), ("four", 4)):
        monkeypatch.setattr("pipeline.simulate.sample_set.count_cores", lambda cores=cores: cores)
        folder = write_sample(tmp_path / name, train_per_source=2, test_per_source=1, size=32).path
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests.add(hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest())
    assert len(digests) == 1
