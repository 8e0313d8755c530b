"""Changes to samples in training: each does what it says, as a pure function of seed and step."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.averaged import averaged_planes
from pipeline.frequencies import HIGHEST, frequencies_of
from pipeline.settings import FeatureSettings
from pipeline.spectra import quantised_planes
from train.augment import Augmenter, Draws
from train.average import copy_for_average, update_average
from train.detector import Detector
from train.flip import Flip
from train.settings import TrainSettings

KINDS = FeatureSettings().kinds

SIDE = 32
CPU = torch.device("cpu")


def make_augmenter(kinds=KINDS, phase="raw", **settings) -> Augmenter:
    blank = np.zeros((9, SIDE, SIDE), np.float32)
    detector = Detector(blank, blank, "small", kinds=kinds, phase=phase)
    return Augmenter(TrainSettings(**settings), FeatureSettings(size=SIDE), detector)


# --- flips


@pytest.mark.parametrize("joint", [False, True], ids=["separate", "joint"])
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("side", [16, 31, 48, 256])
def test_a_flip_gives_the_planes_of_the_mirrored_picture(side, dtype, joint):
    rng = np.random.default_rng(side)
    picture = np.linspace(0, 100, side)[None, :, None] + rng.integers(0, 150, (side, side, 3))
    picture = picture.astype(np.uint8)
    levels = quantised_planes(picture, dtype, joint)
    wanted = quantised_planes(np.ascontiguousarray(picture[:, ::-1]), dtype, joint).astype(np.float64)
    flip = Flip(KINDS, side, "periodogram", CPU)
    found = flip(torch.from_numpy(levels)[None])[0].numpy()
    assert found.dtype == levels.dtype
    away = np.abs(found.astype(np.float64) - wanted)
    away[3:6] = np.minimum(away[3:6], 256 - away[3:6])  # phase is a circle
    # Bins of next to no strength have a phase of rounding errors alone.
    assert np.quantile(away, 0.999) <= 1
    assert (away > 1).mean(axis=(1, 2)).max() < 0.002
    assert np.abs(levels.astype(np.float64) - wanted)[:6].mean() > 10 * away.mean()  # it was another picture


def test_a_flip_of_averaged_planes():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (160, 160, 1)) + rng.integers(-40, 40, (160, 160, 3))
    picture = (0.7 * picture + 0.3 * np.roll(picture, (1, 1), (0, 1))).clip(0, 255).astype(np.uint8)  # slanted
    levels = averaged_planes(picture, 32)
    wanted = averaged_planes(np.ascontiguousarray(picture[:, ::-1]), 32).astype(float)
    found = Flip(KINDS, 32, "averaged", CPU)(torch.from_numpy(levels)[None])[0].numpy()
    for kind in range(3):
        planes = slice(3 * kind, 3 * kind + 3)
        away, before = (np.abs(one[planes] - wanted[planes]).mean() for one in (found, levels))
        assert away < 4
        assert kind == 2 or away < before / 2 or before < 2


def test_a_flip_of_some_kinds_of_planes():
    levels = torch.randint(0, 256, (2, 9, 16, 16), dtype=torch.uint8)
    whole = Flip(KINDS, 16, "periodogram", CPU)(levels)
    some = Flip(("phase", "dct"), 16, "periodogram", CPU)(levels[:, 3:])
    assert torch.equal(some, whole[:, 3:])


def test_flipping_a_share_of_the_samples():
    augmenter = make_augmenter(flips=0.3)
    flipped = np.concatenate([augmenter.draw(step, 100).flipped for step in range(20)])
    assert abs(flipped.mean() - 0.3) < 0.04
    levels = torch.randint(0, 256, (100, 9, SIDE, SIDE), dtype=torch.uint8)
    before, draws = levels.clone(), augmenter.draw(0, 100)
    changed = augmenter.change_levels(levels, draws)
    assert torch.equal(levels, before)  # a buffer of the reader
    same = torch.from_numpy(~draws.flipped)
    assert torch.equal(changed[same], levels[same])
    assert torch.equal(changed[~same], Flip(KINDS, SIDE, "periodogram", CPU)(levels[~same]))


# --- hiding and mixing


@pytest.mark.parametrize("phase", ["raw", "cos-sin"])
def test_the_same_band_is_hidden_in_every_kind_of_plane(phase):
    augmenter = make_augmenter(band_masking=0.4, phase=phase)
    draws = augmenter.draw(3, 50)
    widths = (draws.bands[:, 1] - draws.bands[:, 0]) / HIGHEST
    assert widths.min() >= 0
    assert 0.3 < widths.max() <= 0.4
    kinds = [*["magnitude"] * 3, *["phase"] * (3 if phase == "raw" else 6), *["dct"] * 3]
    values = augmenter.change_values(torch.ones(50, len(kinds), SIDE, SIDE), draws).numpy()
    for (low, high), sample in zip(draws.bands, values, strict=True):
        for kind, plane in zip(kinds, sample, strict=True):
            radius = frequencies_of(kind, SIDE, SIDE)
            hidden = (radius.astype(np.float32) >= np.float32(low)) & (radius.astype(np.float32) < np.float32(high))
            np.testing.assert_array_equal(plane == 0, hidden)


def test_whole_kinds_are_hidden_but_never_all():
    augmenter = make_augmenter(kind_dropout=0.6, phase="cos-sin")
    draws = augmenter.draw(0, 500)
    assert not draws.hidden.all(axis=1).any()
    # 0.6 each, less the cases where all three would be hidden and one is kept.
    assert abs(draws.hidden.mean() - (0.6 - 0.6**3 / 3)) < 0.03
    values = augmenter.change_values(torch.ones(500, 12, SIDE, SIDE), draws)
    gone = (values == 0).all(dim=(2, 3)).numpy()
    np.testing.assert_array_equal(gone, draws.hidden[:, [0] * 3 + [1] * 6 + [2] * 3])
    assert ((values == 0).any(dim=(2, 3)).numpy() == gone).all()


def test_mixup_mixes_samples_and_their_labels():
    augmenter = make_augmenter(mixup=0.4, label_smoothing=0.0)
    draws = augmenter.draw(7, 64)
    assert sorted(draws.partners) == list(range(64))
    assert 0 <= draws.shares.min() < 0.2
    values = torch.randn(64, 9, SIDE, SIDE)
    share = torch.from_numpy(draws.shares).float()
    mixed = augmenter.change_values(values.clone(), draws)
    wanted = share[:, None, None, None] * values + (1 - share)[:, None, None, None] * values[draws.partners]
    torch.testing.assert_close(mixed, wanted)
    logits, labels = torch.randn(64, 2), torch.arange(64) % 2
    each = [functional.cross_entropy(logits, one, reduction="none") for one in (labels, labels[draws.partners])]
    torch.testing.assert_close(augmenter.losses(logits, labels, draws), share * each[0] + (1 - share) * each[1])


def test_the_loss_is_smoothed_with_and_without_mixing():
    augmenter = make_augmenter(label_smoothing=0.2, mixup=1.0)
    logits, labels = torch.randn(6, 2), torch.tensor([0, 1, 0, 1, 1, 0])
    wanted = functional.cross_entropy(logits, labels, label_smoothing=0.2)
    torch.testing.assert_close(augmenter.losses(logits, labels, Draws()).mean(), wanted)
    unmixed = Draws(partners=np.arange(6), shares=np.ones(6))
    torch.testing.assert_close(augmenter.losses(logits, labels, unmixed).mean(), wanted)


def test_without_options_nothing_is_changed():
    augmenter = make_augmenter()
    assert augmenter.draw(0, 4) == Draws()
    levels, values = torch.zeros(4, 9, SIDE, SIDE, dtype=torch.uint8), torch.ones(4, 9, SIDE, SIDE)
    assert augmenter.change_levels(levels, Draws()) is levels
    assert augmenter.change_values(values, Draws()) is values


def test_what_is_drawn_depends_on_seed_and_step_alone():
    every = {"flips": 0.5, "band_masking": 0.3, "kind_dropout": 0.3, "mixup": 0.5}

    def draw(step: int, **settings) -> dict:
        return vars(make_augmenter(**settings).draw(step, 16))

    first = draw(5, **every)
    for name, value in draw(5, **every).items():
        np.testing.assert_array_equal(value, first[name])
    for other in (draw(6, **every), draw(5, seed=1, **every)):
        assert not any(np.array_equal(value, first[name]) for name, value in other.items())
    # One change does not depend on which others are on.
    np.testing.assert_array_equal(draw(5, mixup=0.5)["shares"], first["shares"])


# --- average of the weights


def test_the_average_of_weights():
    network = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    torch.nn.init.constant_(network[0].weight, 1.0)
    average = copy_for_average(network)
    wanted, statistics = 1.0, 0.0
    for step in range(40):
        torch.nn.init.constant_(network[0].weight, float(step))
        network[1].running_mean.fill_(float(step))
        network[1].num_batches_tracked += 1
        update_average(average, network, 0.7, step)
        kept = min(0.7, (1 + step) / (10 + step))
        wanted, statistics = kept * wanted + (1 - kept) * step, kept * statistics + (1 - kept) * step
    torch.testing.assert_close(average[0].weight, torch.full((1, 2), wanted))
    torch.testing.assert_close(average[1].running_mean, torch.full((1,), statistics))
    assert average[1].num_batches_tracked == 40
    assert not average.training
    assert network[0].weight[0, 0] == 39
