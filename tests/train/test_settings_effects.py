"""An option that is accepted changes the weights; one that could not is refused, and says so."""

import numpy as np
import pytest
from helpers.make_store import make_store
from safetensors.torch import load_file

from data_cards.core.errors import UsageError
from pipeline.features.settings import FeatureSettings
from train.loop.trainer import train
from train.resolve import resolve_settings
from train.settings import TrainSettings

WHOLE = FeatureSettings(size=32)
AVERAGED = FeatureSettings(size=32, fit="crop", estimator="averaged")

# Every option that is to change the weights, but for patience and keep, which choose among them.
OPTIONS = {
    "balance": "class", "batch_size": 6, "lr": 0.003, "weight_decay": 300.0, "warmup": 0.5, "dropout": 0.5,
    "label_smoothing": 0.2, "normalise": "sample", "gain": "remove",
    "stem": "strided", "variants_per_epoch": "all", "seed": 1, "precision": "bf16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "features", "message"),
    [
        ({"patience": 3}, AVERAGED, "patience 3: no effect if the last epoch's weights are kept"),
        ({"patience": 3, "keep": "last"}, None, "give --keep best, or leave the option out"),
        ({"stem": "plain", "network": "linear"}, None, "stem plain: the linear network has no stem"),
        ({"stem": "strided"}, AVERAGED, "stem strided: the radial network has no stem"),
        ({"gain": "remove", "channels": "dct"}, WHOLE, "gain remove: needs magnitude planes, got dct; add magnitude"),
    ],
)
def test_option_without_effect_is_refused(values, features, message):
    if features is None:  # by the settings alone
        with pytest.raises(UsageError, match=message):
            TrainSettings(**values)
    else:
        settings = TrainSettings(**values)
        with pytest.raises(UsageError, match=message):
            resolve_settings(settings, features)


@pytest.mark.parametrize(
    ("values", "features", "chosen"),
    [
        pytest.param({}, AVERAGED, {"patience": 0, "keep": "last"}, id="last"),
        pytest.param({"patience": 0}, AVERAGED, {"patience": 0}, id="last, and never stopped"),
        pytest.param({"keep": "best"}, AVERAGED, {"patience": 6}, id="best"),
        pytest.param({"keep": "best", "patience": 3}, AVERAGED, {"patience": 3}, id="best, with patience"),
    ],
)
def test_option_with_effect_is_accepted(values, features, chosen):
    settings = resolve_settings(TrainSettings(**values), features)
    assert resolve_settings(settings, features) == settings
    assert {name: getattr(settings, name) for name in chosen} == chosen


@pytest.mark.slow
@pytest.mark.parametrize("channels", ["all", "magnitude", "phase", "dct"])
@pytest.mark.parametrize("network", ["small", "linear", "radial"])
def test_every_option_changes_the_weights_or_is_refused(tmp_path, network, channels):
    pictures = {"train": (9, 13), "val": (3, 3)}
    store = make_store(tmp_path / "features.zarr", pictures=pictures, variants=("clean", "jpeg-1"))

    def train_with(name: str, **values) -> dict[str, np.ndarray]:
        settings = {"epochs": 2, "batch_size": 8, "device": "cpu", "precision": "float32"} | values
        run = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        train(TrainSettings(store=str(store), run=str(run), network=network, channels=channels, **settings))
        return {name: value.numpy() for name, value in load_file(run / "last.safetensors").items()}

    plain, refused = train_with("plain"), set()
    for option, value in OPTIONS.items():
        try:
            weights = train_with(option, **{option: value})
        except UsageError:
            refused.add(option)
            continue
        # More than rounding, which another order of the same sums gives too.
        same = weights.keys() == plain.keys() and all(
            value.shape == plain[name].shape and np.allclose(value, plain[name], atol=1e-6)
            for name, value in weights.items()
            if name.startswith("network")
        )
        assert not same, option
    wanted = {"gain"} if channels in ("phase", "dct") else set()
    wanted |= {"stem"} if network != "small" else set()
    assert refused == wanted
