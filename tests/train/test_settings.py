"""Settings of a run: refused when senseless; the learning rate's course; device and precision."""

import math

import pytest
import torch

from data_cards.core.errors import UsageError
from train.model.device import pick_device, pick_precision
from train.model.network import ResNet
from train.recipe.optimizer import create_optimiser, learning_rate
from train.settings import MACHINE_FIELDS, TrainSettings, find_removed_options


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs 0: expected at least 1"),
        ({"batch_size": 1}, "batch size 1: expected at least 2"),
        ({"in_memory": 1.5}, "in memory 1.5: expected a share of the free memory, 0 to 1"),
        ({"lr": 0.0}, "learning rate 0.0: expected a number above 0"),
        ({"lr": math.nan}, "learning rate nan"),
        ({"weight_decay": -1.0}, "weight decay -1.0"),
        ({"warmup": math.inf}, "warmup inf"),
        ({"dropout": 1.0}, "dropout 1.0: expected 0 or more, below 1"),
        ({"label_smoothing": -0.1}, "label smoothing -0.1"),
        ({"patience": -1}, "patience -1"),
        (
            {"network": "vgg"},
            "network vgg: expected one of auto, none, resnet18, resnet34, resnet50, small",
        ),
        ({"stem": "deep"}, "stem deep: expected one of auto, strided, plain"),
        ({"normalise": "batch"}, "normalise batch: expected one of auto, frequency, channel, sample, none"),
        ({"keep": "first"}, "keep first: expected one of auto, best, last"),
        ({"gain": "double"}, "gain double: expected one of auto, keep, remove"),
        ({"gain": "remove", "normalise": "sample"}, "gain remove: no effect with --normalise sample"),
        ({"weights": "a.pth", "network": "small"}, "weights: not available for the small network"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**64}, "seed 18446744073709551616: expected at most 9223372036854775807"),
        ({"device": "tpu"}, "device tpu: expected one of"),
        ({"precision": "float16"}, "precision float16"),
        ({"variants_per_epoch": "2"}, "--variants-per-epoch 2"),
        ({"threads": 0}, "threads 0"),
        ({"save_minutes": math.nan}, "save minutes nan"),
    ],
)
def test_senseless_values_are_refused(values, message):
    with pytest.raises(UsageError) as caught:
        TrainSettings(**values)
    assert message in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "values",
    [{"precision": "bf16"}, {"threads": 8}, {"in_memory": 0.5}, {"on_bad_sample": "skip"}, {"save_minutes": 1.0}],
)
def test_options_of_planes_are_refused_for_experts_alone_and_ignored_in_earlier_records(values):
    with pytest.raises(UsageError, match="no effect on experts; name a network"):
        TrainSettings(network="none", **values)
    alone = TrainSettings(network="none")
    assert TrainSettings.from_dict(alone.to_dict() | values) == alone


def test_settings_survive_json():
    settings = TrainSettings(lr=0.1, run="runs/x", network="resnet50", dropout=0.5)
    assert TrainSettings.from_dict(settings.to_dict()) == settings


def test_options_that_were_removed_are_dropped():
    settings = TrainSettings(lr=0.1)
    off = {"shuffle_window": 0, "ema": 0.0, "band_masking": 0.0, "kind_dropout": 0.0, "flips": 0.0, "phase": "raw"}
    assert TrainSettings.from_dict({**settings.to_dict(), **off}) == settings
    assert find_removed_options({**settings.to_dict(), **off}) == find_removed_options(settings.to_dict()) == {}
    used = {**settings.to_dict(), **off, "ema": 0.9, "flips": 0.5}
    assert TrainSettings.from_dict(used) == settings
    assert find_removed_options(used) == {"ema": 0.9, "flips": 0.5}
    with pytest.raises(TypeError):
        TrainSettings.from_dict({**settings.to_dict(), "never_there": 1})


def test_differences_leave_out_the_machine():
    before = TrainSettings()
    other = {
        "store": ("moved.zarr",),
        "run": "x",
        "device": "cpu",
        "threads": 1,
        "in_memory": 0.0,
        "save_minutes": 1.0,
        "on_bad_sample": "skip",
    }
    assert set(other) == set(MACHINE_FIELDS)
    assert TrainSettings(**other).differences(before) == []
    assert TrainSettings(lr=0.5, seed=3).differences(before) == ["lr", "seed"]


def test_learning_rate_rises_then_falls_to_zero():
    settings = TrainSettings(epochs=10, warmup=2.0, lr=0.5)
    rates = [learning_rate(step, 7, settings) for step in range(70)]
    assert learning_rate(0, 7, TrainSettings(epochs=10, warmup=1e308, lr=0.5)) > 0  # the longest, as half of the run
    assert rates[0] == pytest.approx(0.5 / 14)
    assert rates[13] == rates[14] == 0.5
    assert rates[:14] == sorted(rates[:14])
    assert rates[14:] == sorted(rates[14:], reverse=True)
    assert rates[14 + 28] == pytest.approx(0.25)
    assert 0 < rates[-1] < 0.5 * 0.01
    longer = TrainSettings(epochs=20, warmup=2.0, lr=0.5)
    rates, prolonged = ([learning_rate(step, 7, longer, done) for step in range(140)] for done in (0, 10))
    assert prolonged[:70] == rates[:70]
    assert prolonged[70] == pytest.approx(rates[70] / 14)
    assert prolonged[70:84] == sorted(prolonged[70:84])
    assert prolonged[84:] == rates[84:]


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (1, 1.0), (2, 50.0)])
def test_short_runs_have_a_learning_rate(epochs, warmup):
    settings = TrainSettings(epochs=epochs, warmup=warmup, lr=1.0)
    rates = [learning_rate(step, 1, settings) for step in range(epochs)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1


def test_weight_decay_spares_biases_and_batch_norm():
    network = ResNet("resnet18")
    decayed, spared = create_optimiser(network, TrainSettings(weight_decay=0.1, lr=0.1)).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert "layer1.0.conv1.weight" in {names[id(p)] for p in decayed["params"]}
    assert {"bn1.weight", "bn1.bias", "fc.bias"} <= {names[id(p)] for p in spared["params"]}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


def test_missing_device_is_refused():
    absent = next(
        name
        for name, there in (("mps", torch.backends.mps.is_available()), ("cuda", torch.cuda.is_available()))
        if not there
    )
    with pytest.raises(UsageError, match=f"device {absent}: not available"):
        pick_device(absent)
    with pytest.raises(UsageError, match="device abacus: expected one of"):
        pick_device("abacus")
    assert pick_device("cpu") == torch.device("cpu")


def test_pick_precision_follows_setting_and_device():
    cpu = torch.device("cpu")
    assert pick_precision("bf16", cpu, "radial") is torch.bfloat16
    assert pick_precision("float32", cpu, "resnet18") is torch.float32
    assert pick_precision("auto", cpu, "resnet18") in (torch.bfloat16, torch.float32)
    assert pick_precision("auto", cpu, "radial") is torch.float32
