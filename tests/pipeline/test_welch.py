"""Averaged planes against the plain definition, and stores of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from PIL import Image
from scipy import fft

from data_cards.core.errors import PictureError, StoreError, UsageError, UserError
from eval.verdict.predict import predict_files
from pipeline.builder.build import build_store
from pipeline.cli.main import main
from pipeline.features.extract import compute_features, name_planes
from pipeline.features.fit import fit_picture
from pipeline.features.settings import KINDS, FeatureSettings
from pipeline.features.variants import CLEAN, Variant
from pipeline.features.welch import ARTANH_LIMIT, compute_welch, compute_welch_levels
from pipeline.store.mirror_codec import EVEN, pack
from pipeline.store.reader import open_store
from pipeline.store.settings import BuildSettings
from train.data.loader import read_batches
from train.loop.trainer import train
from train.resolve import resolve_settings
from train.run.folder import open_run, read_run
from train.settings import TrainSettings

_JPEG = {"do": "jpeg", "quality": 60, "subsampling": "4:2:0"}
JPEG_BEFORE, JPEG_AFTER = (Variant(name, (_JPEG,), before_fit=name == "before") for name in ("before", "after"))


@pytest.fixture
def rgb():
    """Smooth noise of 80 x 100 pixels, whose colours have much in common."""
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(80, 100, 1)) + 0.7 * rng.normal(size=(80, 100, 3))
    smooth = noise + np.roll(noise, 1, axis=0) + np.roll(noise, 1, axis=1)
    return np.clip(128 + 25 * smooth, 0, 255).astype(np.uint8)


def define(rgb, patch):
    """The planes' definition, patch by patch, in double precision and in natural units."""
    line = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(patch) / patch)
    window = np.outer(line, line)
    logs, cosines, products = [], [], []
    for top in range(0, rgb.shape[0] - patch + 1, patch // 2):
        for left in range(0, rgb.shape[1] - patch + 1, patch // 2):
            block = rgb[top : top + patch, left : left + patch].astype(float).transpose(2, 0, 1)
            block -= block.mean(axis=(1, 2), keepdims=True)
            spectrum = np.fft.fftshift(np.fft.fft2(block * window), axes=(1, 2))
            logs.append(np.log1p(np.abs(spectrum)))
            products.append(spectrum[:, None] * spectrum[None].conj())
            cosines.append(np.log1p(np.abs(fft.dctn(block, axes=(1, 2), norm="ortho"))))
    mean = np.mean(products, axis=0)
    power = np.einsum("ccij->cij", mean).real
    coherency = [mean[c, (c + 1) % 3].real / np.sqrt(power[c] * power[(c + 1) % 3]) for c in range(3)]
    return np.mean(logs, axis=0), np.arctanh(coherency), np.mean(cosines, axis=0), window.sum()


def test_planes_are_what_their_definition_says(rgb):
    magnitude, coherency, dct, mass = define(rgb, 32)
    levels = compute_welch(rgb, 32)
    np.testing.assert_allclose(levels[:3], 255 * magnitude / np.log1p(255 * mass), atol=1e-3)
    np.testing.assert_allclose(levels[3:6], 255 * (coherency / ARTANH_LIMIT + 1) / 2, atol=1e-3)
    np.testing.assert_allclose(levels[6:], 255 * dct / np.log1p(255 * 32), atol=1e-3)
    planes = compute_welch_levels(rgb, 32)
    assert planes.dtype == np.uint8
    assert np.abs(planes - levels).max() <= 0.5


def test_coherency_tells_how_colours_move_together():
    rng = np.random.default_rng(0)
    red, blue = rng.integers(0, 256, (2, 256, 256)).astype(np.uint8)
    planes = compute_welch_levels(np.stack([red, 255 - red, blue], axis=2), 32)
    inner = np.s_[4:12, 4:12]  # away from zero frequency, which has been taken out
    assert (planes[3][inner] == 0).all()  # red and green: opposite
    assert np.abs(planes[4][inner].astype(float) - 127.5).max() < 20  # green and blue: unrelated
    alike = compute_welch_levels(np.stack([red, red, red], axis=2), 32)
    assert (alike[3:6][:, 4:12, 4:12] == 255).all()


def test_an_average_is_steadier_than_a_periodogram():
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (512, 512, 3)).astype(np.uint8) for _ in range(6)]
    inner = np.s_[0, 4:12, 4:12]
    averaged = np.std([compute_welch(one, 32)[inner] for one in noise], axis=0).mean()
    single = np.std([compute_welch(one[:32, :32], 32)[inner] for one in noise], axis=0)
    assert averaged < single.mean() / 10


def test_planes_pack_as_even_to_the_last_bit(rgb):
    for planes in (compute_welch_levels(rgb, 32), compute_welch(rgb, 32)):
        assert [int(pack(planes[first : first + 3])[0]) for first in (0, 3)] == [EVEN, EVEN]


def test_a_flat_picture_has_planes_too():
    planes = compute_welch(np.full((40, 40, 3), 200, np.uint8), 32)
    assert (planes[:3] == 0).all()
    assert (planes[6:] == 0).all()
    assert (planes[3:6] == 127.5).all()


def test_a_crop_takes_what_there_is_of_a_picture():
    settings = FeatureSettings(size=64, fit="crop", estimator="averaged")
    assert settings.patch == settings.side == 32
    assert fit_picture(Image.new("RGB", (100, 40)), settings).size == (64, 40)
    with pytest.raises(PictureError, match="smaller than the patch of 32"):
        fit_picture(Image.new("RGB", (100, 31)), settings)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"estimator": "periodogram", "patch": 32}, "only --estimator averaged has patches"),
        ({"size": 64, "overview": 128}, "overview 128: only with --estimator averaged"),
        ({"estimator": "averaged", "patch": 64, "overview": 50}, "overview 50: expected 64"),
        ({"estimator": "averaged", "patch": 48}, "expected one of 32, 64, 128"),
        ({"estimator": "averaged", "patch": 64, "size": 50}, "smaller than a patch"),
        ({"estimator": "welch"}, "expected one of none, averaged, periodogram"),
    ],
)
def test_settings_that_go_not_together_are_refused(values, told):
    with pytest.raises(UsageError, match=told):
        FeatureSettings(**values)


def test_settings_survive_their_dictionary():
    settings = FeatureSettings(size=64, fit="crop", estimator="averaged", overview=48)
    stored = {
        "size": 64, "fit": "crop", "resample": "bicubic", "dtype": "uint8", "jpeg_scale": "full",
        "estimator": "averaged", "patch": 32, "colour_axis": "separate", "overview": 48,
    }  # fmt: skip
    assert list(settings.to_dict().items()) == list(stored.items())  # in the order that stores have them in
    assert FeatureSettings.from_dict(stored) == settings
    assert FeatureSettings.from_dict({"size": 64}) == FeatureSettings(size=64, levels="fine")


@pytest.mark.parametrize(("name", "value"), [("dtype", "float16"), ("jpeg_scale", "reduced"), ("colour_axis", "joint")])
def test_options_that_were_removed_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name.replace('_', ' ')} {value}, an option that was removed; build it"):
        FeatureSettings.from_dict({**FeatureSettings().to_dict(), name: value})


def test_a_store_with_an_option_that_was_removed_is_refused(kaggle_dir, tmp_path):
    small = BuildSettings(FeatureSettings(size=16), "clean")
    path = build_store([str(kaggle_dir)], str(tmp_path / "a.zarr"), small, workers=0).path
    group = zarr.open_group(path)
    settings = dict(group.attrs["settings"])
    settings["features"] |= {"dtype": "float16"}
    group.attrs["settings"] = settings
    with pytest.raises(
        StoreError, match=r"a\.zarr: made with dtype float16, an option that was removed; build it again"
    ):
        open_store(path)
    with pytest.raises(UserError, match=r"a\.zarr: made with dtype float16, .* build it again, with another --out"):
        build_store([str(kaggle_dir)], path, small, workers=0)


def test_names_of_planes():
    assert name_planes(FeatureSettings(estimator="periodogram"))[3:7] == ("phase_r", "phase_g", "phase_b", "dct_r")
    assert name_planes(FeatureSettings(estimator="averaged"))[3] == "coherency_rg"
    names = name_planes(FeatureSettings(estimator="averaged", overview=128))
    assert (len(names), names[12]) == (18, "overview_coherency_rg")


@pytest.mark.parametrize("variant", [CLEAN, JPEG_BEFORE, JPEG_AFTER], ids=lambda variant: variant.name)
def test_an_overview_adds_the_planes_of_the_whole_picture(rgb, variant):
    """They are what a store of the squeezed picture holds, and the first nine are as they would be without them."""
    picture = Image.fromarray(rgb)
    native = FeatureSettings(size=64, fit="crop", estimator="averaged")
    whole = FeatureSettings(size=48, fit="stretch", estimator="averaged")
    both = replace(native, overview=48)
    (((found,), _),) = compute_features(picture, both, [variant])
    assert found.shape == (18, 32, 32)
    for settings, part in ((native, found[:9]), (whole, found[9:])):
        assert np.array_equal(next(compute_features(picture, settings, [variant])).levels[0], part)


def test_a_store_of_averaged_planes(kaggle_dir, tmp_path):
    """Build, inspect, and the same features of a file on its own."""
    out, drawn = tmp_path / "a.zarr", tmp_path / "planes.png"
    command = ["build", "--src", kaggle_dir, "--out", out, "--workers", 0, "--size", 64, "--fit", "crop"]
    result = CliRunner().invoke(main, [*map(str, command), "--estimator", "averaged"])
    assert result.exit_code == 0, result.output
    store = open_store(out)
    assert store.features.shape[1:] == (9, 32, 32)
    assert store.attributes["planes"][3] == "coherency_rg"
    row = int(store.rows("test", "clean")[0])
    path = store.picture_path(row)
    assert np.array_equal(next(compute_features(path, store.settings.features)).levels[0], store.features[row])
    result = CliRunner().invoke(main, ["inspect", str(out), "--png", str(drawn)])
    assert result.exit_code == 0, result.output
    assert ("coherency 0." in result.stdout, "phase" in result.stdout) == (True, False)
    assert drawn.stat().st_size > 1000


def test_a_store_with_an_overview(kaggle_dir, tmp_path):
    """From the pictures to a verdict: both parts are packed, read, trained on, shown and exported alike."""
    out, drawn = tmp_path / "a.zarr", tmp_path / "planes.png"
    command = ["build", "--src", kaggle_dir, "--out", out, "--workers", 0, "--variants", "clean", "--overview", 48]
    result = CliRunner().invoke(main, [*map(str, command), "--val-fraction", "0.3"])
    assert result.exit_code == 0, result.output
    store = open_store(out)
    assert store.features.shape[1:] == (18, 32, 32)
    row = int(store.rows("test", "clean")[0])
    path = store.picture_path(row)
    levels = next(compute_features(path, store.settings.features)).levels[0]
    assert np.array_equal(levels, store.features[row])
    wanted = ("phase", "overview-magnitude")
    batch = next(read_batches(store, [np.array([row])], kinds=wanted))
    assert np.array_equal(batch[0].numpy(), levels[[3, 4, 5, 9, 10, 11]])
    result = CliRunner().invoke(main, ["inspect", str(out), "--png", str(drawn), "--json"])
    assert result.exit_code == 0, result.output
    compression = json.loads(result.stdout)["compression"]
    assert list(compression) == [*(kind.replace("phase", "coherency") for kind in KINDS), "profiles"]
    assert compression["overview-magnitude"] < 0.6  # one half alone
    small = {"store": str(out), "run": str(tmp_path / "run"), "epochs": 1, "batch_size": 4, "device": "cpu"}
    run = train(TrainSettings(**small, network="radial", experts="off", channels="all")).run
    assert read_run(run).settings.kinds == KINDS
    verdict, again = predict_files(open_run(run), [path, path], progress=False, quick=True)
    assert 0 < verdict.probability_fake < 1
    assert verdict.probability_fake == again.probability_fake
    with pytest.raises(UsageError, match=r"the store has no overview-dct; expected kinds among magnitude, phase, dct"):
        resolve_settings(
            TrainSettings(network="radial", channels="dct,overview-dct"), FeatureSettings(estimator="periodogram")
        )
