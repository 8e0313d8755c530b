"""The network, its normaliser, and ImageNet weights from a file."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_cards.errors import UserError
from train.detector import Detector
from train.network import ResNet
from train.normalise import LEAST_DEVIATION, Normaliser
from train.predict import predict_logits, predict_probabilities, probability_fake
from train.weights import load_imagenet_weights

# Of torchvision's resnet18, resnet34 and resnet50 with 1000 classes, as its documentation gives them.
TORCHVISION_PARAMETERS = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_same_size_as_torchvisions(depth):
    network = ResNet(depth, channels=3, classes=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == TORCHVISION_PARAMETERS[depth]


def test_torchvisions_names():
    names = set(ResNet(18).state_dict())
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
    assert "layer1.0.downsample.0.weight" in ResNet(50).state_dict()
    assert ResNet(50).layer2[0].conv2.stride == (2, 2)  # "v1.5"


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_shapes(depth, size):
    network = ResNet(depth, channels=9).eval()
    assert network(torch.randn(2, 9, size, size)).shape == (2, 2)


def test_dropout_is_active_only_in_training():
    network = ResNet(18, dropout=0.5)
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


def test_statistics_travel_with_the_weights():
    mean = np.random.default_rng(0).uniform(0, 255, (9, 8, 8)).astype(np.float32)
    state = Detector(mean, mean).state_dict()
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
    with pytest.raises(ValueError, match=r"expected torch\.uint8 or torch\.float16 \(batch, 9, 8, 8\)"):
        normaliser(levels)


# --- prediction


@pytest.fixture
def detector():
    return Detector(np.full((9, 32, 32), 128, np.float32), np.full((9, 32, 32), 60, np.float32))


def test_scores_do_not_depend_on_the_batch(detector):
    levels = np.random.default_rng(0).integers(0, 256, (7, 9, 32, 32), dtype=np.uint8)
    together = predict_probabilities(detector, levels, batch_size=7)
    assert together.shape == (7,)
    assert together.dtype == np.float64
    for batch_size in (1, 3):
        np.testing.assert_allclose(predict_probabilities(detector, levels, batch_size), together, atol=1e-5)


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
    assert predict_probabilities(detector, np.zeros((0, 9, 32, 32), np.uint8)).shape == (0,)


# --- ImageNet weights


def imagenet_like(depth=18):
    return {name: value.clone() for name, value in ResNet(depth, channels=3, classes=1000).state_dict().items()}


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
    network, original = ResNet(18, channels=9), ResNet(18, channels=3, classes=1000)
    fresh = network.fc.weight.clone()
    load_imagenet_weights(network, path)
    original.load_state_dict(weights)
    x = torch.randn(2, 3, 32, 32)
    # Three times the same picture through the repeated, scaled kernels is that picture once.
    torch.testing.assert_close(network.conv1(x.repeat(1, 3, 1, 1)), original.conv1(x), atol=1e-5, rtol=1e-4)
    assert torch.equal(network.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    assert torch.equal(network.bn1.running_var, weights["bn1.running_var"])
    assert torch.equal(network.fc.weight, fresh)


def test_weights_of_old_files_without_counters(tmp_path):
    weights = {name: v for name, v in imagenet_like().items() if not name.endswith("num_batches_tracked")}
    load_imagenet_weights(ResNet(18), save(weights, tmp_path / "old.pth"))


@pytest.fixture(scope="module")
def wrong_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    (folder / "text.pth").write_text("hello")
    (folder / "text.safetensors").write_text("hello")
    (folder / "empty.pth").write_bytes(b"")
    save(imagenet_like(34), folder / "deeper.pth")
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
        ("list.pth", "holds no named tensors"),
        ("other.safetensors", "not the weights of a ResNet-18"),
        ("deeper.pth", "give --depth 34"),
        ("narrow.safetensors", r"conv1.weight has shape \(64, 1, 7, 7\)"),
    ],
)
def test_wrong_weights(wrong_files, name, message):
    network = ResNet(18)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message) as caught:
        load_imagenet_weights(network, wrong_files / name)
    assert name in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
