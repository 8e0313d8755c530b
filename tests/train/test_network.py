"""The network, its normaliser, and ImageNet weights from a file."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_cards.core.errors import UsageError, UserError
from pipeline.features.settings import FeatureSettings
from train.model.calibration import probability_fake
from train.model.inference import predict_logits
from train.model.network import LAYERS, LINEAR, RADIAL, ResNet, build_network, resolve_stem
from train.model.normaliser import LEAST_DEVIATION, Normaliser, select_statistics
from train.model.plane_detector import PlaneDetector, build_plane_detector
from train.model.pretrained import load_imagenet_weights
from train.resolve import resolve_settings
from train.settings import NETWORKS, TrainSettings

# Of torchvision's resnet18, resnet34 and resnet50 with 1000 classes, as its documentation gives them.
TORCHVISION_PARAMETERS = {"resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def build(features: FeatureSettings, *statistics: np.ndarray, **settings: object) -> PlaneDetector:
    """Build the detector of a run with these settings."""
    return build_plane_detector(resolve_settings(TrainSettings(**settings), features), features, *statistics)


def count_parameters(network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", TORCHVISION_PARAMETERS)
def test_same_size_as_torchvisions(name):
    assert count_parameters(ResNet(name, channels=3, classes=1000)) == TORCHVISION_PARAMETERS[name]


def test_the_small_network_is_small():
    assert 250_000 < count_parameters(ResNet("small", channels=9)) < 350_000


def test_a_plain_stem_keeps_the_planes_sides():
    x, shapes = torch.randn(2, 9, 32, 32), []
    for name in ("small", "resnet18"):
        for stem in ("plain", "strided"):
            network = ResNet(name, stem=stem)
            network.layer1.register_forward_pre_hook(lambda _, given: shapes.append(given[0].shape[2:]))
            assert network(x).shape == (2, 2)
    assert shapes == [(32, 32), (8, 8)] * 2


def test_auto_takes_the_stem_by_the_planes_side():
    assert [resolve_stem("auto", side) for side in (32, 64, 65, 512)] == ["plain", "plain", "strided", "strided"]
    assert resolve_stem("strided", 32) == "strided"
    assert resolve_stem("plain", 512) == "plain"
    assert {"auto", "none", LINEAR, RADIAL, *LAYERS} == set(NETWORKS)


@pytest.mark.parametrize(
    ("settings", "side", "kernel"),
    [({}, 32, 3), ({}, 128, 7), ({"stem": "strided"}, 32, 7), ({"stem": "plain"}, 128, 3), ({"weights": "x"}, 32, 7)],
)
def test_the_stem_of_a_run(settings, side, kernel):
    detector = build(FeatureSettings(size=side), **settings)
    assert detector.network.conv1.kernel_size == (kernel, kernel)


def test_torchvisions_names():
    names = set(ResNet("resnet18").state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.num_batches_tracked",
        "layer4.1.bn2.bias",
        "fc.weight",
        "fc.bias",
    } <= names
    assert "layer1.0.downsample.0.weight" not in names
    assert "layer1.0.downsample.0.weight" in ResNet("resnet50").state_dict()
    assert ResNet("resnet50").layer2[0].conv2.stride == (2, 2)  # "v1.5"


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "small"])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_network_output_has_two_logits(name, size):
    network = ResNet(name, channels=9).eval()
    assert network(torch.randn(2, 9, size, size)).shape == (2, 2)


def test_dropout_is_active_only_in_training():
    network = ResNet("resnet18", dropout=0.5)
    x = torch.randn(4, 9, 32, 32)
    network.eval()
    assert torch.equal(network(x), network(x))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.0
    network.train()
    assert not torch.equal(network(x), network(x))


# --- normaliser


def test_normaliser_scales_by_the_statistics():
    rng = np.random.default_rng(0)
    mean = rng.uniform(50, 200, (9, 6, 6)).astype(np.float32)
    std = rng.uniform(2, 30, (9, 6, 6)).astype(np.float32)
    levels = rng.integers(0, 256, (3, 9, 6, 6), dtype=np.uint8)
    got = Normaliser(mean, std)(torch.from_numpy(levels))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), (levels - mean) / std, rtol=1e-5, atol=1e-5)


def test_frequencies_that_never_change_stay_small():
    mean, std = np.full((9, 4, 4), 10, np.float32), np.zeros((9, 4, 4), np.float32)
    got = Normaliser(mean, std)(torch.full((1, 9, 4, 4), 12, dtype=torch.uint8))
    assert torch.equal(got, torch.full((1, 9, 4, 4), 2 / LEAST_DEVIATION))


def test_normalising_by_plane():
    rng = np.random.default_rng(0)
    levels = rng.normal(rng.uniform(50, 200, (9, 8, 8)), 5, (4000, 9, 8, 8))
    mean, std = select_statistics(
        levels.mean(axis=0).astype(np.float32), levels.std(axis=0).astype(np.float32), "channel"
    )
    assert mean.shape == std.shape == (9, 8, 8)
    np.testing.assert_allclose(mean[:, 3, 5], levels.mean(axis=(0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(std[:, 1, 0], levels.std(axis=(0, 2, 3)), rtol=1e-4)


def test_no_normalising_maps_the_levels_range():
    mean, std = select_statistics(np.full((9, 2, 2), 77, np.float32), np.full((9, 2, 2), 5, np.float32), "none")
    got = Normaliser(mean, std)(torch.tensor([0, 128, 255], dtype=torch.uint8)[:, None, None, None].expand(3, 9, 2, 2))
    np.testing.assert_allclose(got[:, 4, 1, 1], [-1, 0, 127 / 128])


def test_the_linear_network_has_a_weight_for_every_frequency():
    detector = PlaneDetector(np.zeros((9, 8, 8), np.float32), np.ones((9, 8, 8), np.float32), "linear")
    levels = torch.randint(0, 5, (3, 9, 8, 8), dtype=torch.uint8)
    assert torch.equal(detector(levels), torch.zeros(3, 2))  # no frequency counts before training
    with torch.no_grad():
        detector.network.fc.weight[1, 2 * 64 + 3 * 8 + 5] = 2.0  # the plane of blue's magnitude, row 3, column 5
    assert torch.equal(detector.eval()(levels)[:, 1], 2.0 * levels[:, 2, 3, 5])


def test_the_radial_network_sees_the_mean_of_every_ring():
    blank = np.zeros((9, 8, 8), np.float32)
    network = PlaneDetector(blank, blank + 1, "radial").network.eval()
    plane = torch.arange(64.0).reshape(8, 8)
    with torch.no_grad():
        network.fc.weight[1, 6 * 2 + 3] = 1.0  # ring 3 of the third magnitude plane
        network.fc.weight[0, 6 * 8 + 1] = 1.0  # ring 1 of the third DCT plane
    logits = network(plane.expand(1, 9, 8, 8))[0].detach()
    centred, corner = np.hypot(*np.mgrid[-4:4, -4:4]), np.hypot(*np.mgrid[:8, :8]) / 2
    for number, radius, ring in ((1, centred, 3), (0, corner, 1)):
        expected = plane.numpy()[np.round(radius) == ring].mean()
        assert logits[number] == pytest.approx(expected, rel=1e-6)


def test_the_radial_network_is_for_small_planes():
    with pytest.raises(UsageError, match="planes of 256 bins, expected at most 128"):
        build(FeatureSettings(size=256), network="radial")


@pytest.mark.parametrize(
    ("estimator", "settings", "network"),
    [
        pytest.param("averaged", {}, "radial", id="averaged planes"),
        pytest.param("periodogram", {}, "resnet18", id="one transform"),
        pytest.param("averaged", {"weights": "w.pth"}, "resnet18", id="weights, which only ResNets have"),
        pytest.param("averaged", {"network": "linear"}, "linear", id="as asked for"),
    ],
)
def test_the_network_follows_the_features(estimator, settings, network):
    features = FeatureSettings(size=64, estimator=estimator)
    chosen = resolve_settings(TrainSettings(**settings), features)
    assert chosen.network == network
    assert chosen.lr == {"linear": 1e-4, "radial": 1e-2}.get(network, 1e-3)
    assert chosen.dropout == (0 if network == "radial" else 0.3)
    assert chosen.gain == ("remove" if estimator == "averaged" else "keep")
    assert resolve_settings(TrainSettings(**settings, lr=0.5), features).lr == 0.5


@pytest.mark.parametrize(
    ("channels", "features", "chosen"),
    [
        pytest.param("auto", {}, "magnitude,phase,dct", id="one transform"),
        pytest.param("auto", {"estimator": "averaged"}, "magnitude,phase", id="averaged planes"),
        pytest.param(
            "auto",
            {"estimator": "averaged", "overview": 32},
            "magnitude,phase,overview-magnitude,overview-phase",
            id="with an overview",
        ),
        pytest.param("all", {"estimator": "averaged"}, "magnitude,phase,dct", id="all that there are"),
        pytest.param("dct,magnitude", {"estimator": "averaged"}, "magnitude,dct", id="as asked for"),
    ],
)
def test_the_channels_follow_the_features(channels, features, chosen):
    settings = resolve_settings(TrainSettings(channels=channels), FeatureSettings(size=64, **features))
    assert settings.channels == chosen


def test_each_sample_by_its_own_range():
    levels = torch.full((2, 9, 8, 8), 15, dtype=torch.uint8)
    levels[0, :, 0, 0], levels[0, :, 0, 1], levels[0, :, 0, 2] = 10, 20, 30
    detector = build(FeatureSettings(size=8), normalise="sample")
    values = detector.normalise(levels).numpy()
    np.testing.assert_allclose(values[0, 4, 0, :4], [-1, 0, 1, -0.5])
    np.testing.assert_allclose(values[1], -1)  # a plane without any range is not torn apart


def test_a_pictures_contrast_is_taken_out_of_its_magnitudes():
    rng = np.random.default_rng(0)
    mean, std = (rng.uniform(low, high, (18, 32, 32)).astype(np.float32) for low, high in ((80, 90), (5, 10)))
    features = FeatureSettings(size=64, fit="crop", estimator="averaged", overview=64)
    levels = rng.integers(60, 100, (2, 18, 32, 32), dtype=np.uint8)
    levels[1] = levels[0]
    levels[1, 0:3] += 20  # the magnitudes of the native pixels
    levels[1, 9:12] -= 10  # and of the overview
    picked = [plane for plane in range(18) if plane % 9 < 6]
    first, second = build(features, mean, std, normalise="frequency").normalise(torch.from_numpy(levels[:, picked]))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
    assert abs((first[:3] * torch.from_numpy(std[:3])).mean()) < 1e-4
    np.testing.assert_allclose(first[3:6], (levels[0, 3:6] - mean[3:6]) / std[3:6], rtol=1e-4, atol=1e-5)
    kept = build(features, mean, std, gain="keep", normalise="frequency").normalise(torch.from_numpy(levels[:, picked]))
    np.testing.assert_allclose((kept[1] - kept[0])[:3], 20 / std[:3], rtol=1e-3)


def test_statistics_travel_with_the_weights():
    mean = np.random.default_rng(0).uniform(0, 255, (9, 8, 8)).astype(np.float32)
    state = PlaneDetector(mean, mean).state_dict()
    assert torch.equal(state["normalise.mean"], torch.from_numpy(mean))
    assert "normalise.std" in state


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param(torch.zeros(1, 9, 8, 8), id="floats"),
        pytest.param(torch.zeros(1, 9, 16, 16, dtype=torch.uint8), id="another size"),
        pytest.param(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), id="too few planes"),
    ],
)
def test_features_of_another_kind_are_refused(levels):
    normaliser = Normaliser(np.zeros((9, 8, 8)), np.ones((9, 8, 8)))
    with pytest.raises(ValueError, match=r"expected torch\.uint8 \(batch, 9, 8, 8\)"):
        normaliser(levels)


# --- prediction


@pytest.fixture
def detector():
    return PlaneDetector(np.full((9, 32, 32), 128, np.float32), np.full((9, 32, 32), 60, np.float32))


def test_scores_do_not_depend_on_the_batch(detector):
    levels = np.random.default_rng(0).integers(0, 256, (7, 9, 32, 32), dtype=np.uint8)
    together = predict_logits(detector, levels)
    assert together.shape == (7, 2)
    assert together.dtype == np.float64
    for size in (1, 3):
        parts = [predict_logits(detector, levels[start : start + size]) for start in range(0, 7, size)]
        np.testing.assert_allclose(np.concatenate(parts), together, atol=1e-5)


def test_prediction_leaves_training_mode(detector):
    detector.train()
    levels = np.zeros((1, 9, 32, 32), np.uint8)
    np.testing.assert_array_equal(predict_logits(detector, levels), predict_logits(detector, levels))
    assert not detector.training


def test_probability_is_the_softmax_and_never_overflows():
    logits = np.array([[0.0, 0.0], [1.0, -2.0], [-2000.0, 2000.0], [2000.0, -2000.0]])
    expected = torch.softmax(torch.from_numpy(logits), dim=1)[:, 1].numpy()
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_allclose(probability_fake(logits), expected, atol=1e-15)


def test_no_features_give_no_scores(detector):
    assert predict_logits(detector, np.zeros((0, 9, 32, 32), np.uint8)).shape == (0, 2)


# --- ImageNet weights


def imagenet_like(name="resnet18"):
    return {name: value.clone() for name, value in ResNet(name, channels=3, classes=1000).state_dict().items()}


def save(weights, path):
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_weights_keep_the_output_for_a_grey_input(tmp_path, name):
    weights = imagenet_like()
    path = save(weights, tmp_path / name)
    network, original = ResNet("resnet18", channels=9), ResNet("resnet18", channels=3, classes=1000)
    fresh = network.fc.weight.clone()
    load_imagenet_weights(network, path)
    original.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32)
    # Three times the same picture through the repeated, scaled kernels is that picture once.
    torch.testing.assert_close(network.conv1(x.repeat(1, 3, 1, 1)), original.conv1(x), atol=1e-5, rtol=1e-4)
    assert torch.equal(network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    assert torch.equal(network.bn1.running_var, weights["bn1.running_var"])
    assert torch.equal(network.fc.weight, fresh)


def test_weights_do_not_fit_a_plain_stem(tmp_path):
    path = save(imagenet_like(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"conv1.weight has shape \(64, 9, 7, 7\), .*give --stem strided"):
        load_imagenet_weights(ResNet("resnet18", stem="plain"), path)


def test_weights_of_old_files_without_counters(tmp_path):
    weights = {name: v for name, v in imagenet_like().items() if not name.endswith("num_batches_tracked")}
    load_imagenet_weights(ResNet("resnet18"), save(weights, tmp_path / "old.pth"))


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "text.pth").write_text("hello")
    (folder / "text.safetensors").write_text("hello")
    (folder / "empty.pth").write_bytes(b"")
    save(imagenet_like("resnet34"), folder / "deeper.pth")
    save({"a": torch.zeros(2)}, folder / "other.safetensors")
    torch.save([1, 2], folder / "list.pth")
    torch.save({"model": Normaliser(np.zeros(1), np.ones(1))}, folder / "module.pth")  # would need to run code
    narrow = imagenet_like()
    narrow["conv1.weight"] = narrow["conv1.weight"][:, :1].clone()
    save(narrow, folder / "narrow.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pth", "no such file of weights"),
        ("text.pth", "cannot be read as weights"),
        ("text.safetensors", "cannot be read as weights"),
        ("empty.pth", "cannot be read as weights"),
        ("module.pth", "cannot be read as weights"),
        ("list.pth", "not named tensors"),
        ("other.safetensors", "not the weights of a resnet18"),
        ("deeper.pth", "give --network resnet34"),
        ("narrow.safetensors", r"conv1.weight has shape \(64, 1, 7, 7\)"),
    ],
)
def test_wrong_weights_are_refused(wrong_files, name, message):
    network = ResNet("resnet18")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_imagenet_weights(network, wrong_files / name)
    assert name in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_network_on_the_device_meta_draws_no_weights(monkeypatch):
    # There the draw would import torch._dynamo, which takes a second of every verdict.
    monkeypatch.setattr(torch.nn.init, "kaiming_normal_", pytest.fail)
    with torch.device("meta"):
        build_network("resnet18", ("magnitude",) * 3, 32, 2, 0.0, "plain")
