"""`train.recipe.vrex`: the penalty on losses that differ between sources."""

import numpy as np
import pytest
import torch
from helpers.make_store import make_store

from pipeline.store.reader import open_store
from train.loop.validation import compute_validation_metrics
from train.model.distributed import SINGLE_PROCESS
from train.recipe.vrex import compute_risk_variance, compute_sample_weights, compute_source_ids


def test_sources_of_one_name_in_two_classes_are_two(tmp_path):
    store = open_store(make_store(tmp_path / "features.zarr", size=8))
    numbers = compute_source_ids(store)
    known = {}
    for label, source, number in zip(store.columns["label"], store.columns["source"], numbers, strict=True):
        assert known.setdefault((label, source), number) == number
    assert sorted(known.values()) == list(range(len(known)))
    assert len({source for _, source in known}) < len(known)


def test_weights_are_those_of_the_variances_gradient():
    logits = torch.randn(12, dtype=torch.float64, requires_grad=True)
    sources = torch.tensor([0, 0, 0, 0, 0, 2, 2, 2, 3, 3, 3, 3])  # none of the second
    losses = logits.square()
    risks = torch.stack([losses[sources == number].mean() for number in (0, 2, 3)])
    counts = torch.tensor([5, 3, 4]) / 12
    penalised = losses.mean() + 7 * (counts * (risks - losses.mean()).square()).sum()
    (wanted,) = torch.autograd.grad(penalised, logits, retain_graph=True)
    weights = compute_sample_weights(losses, sources, 4, 7.0, SINGLE_PROCESS)
    assert not weights.requires_grad
    (got,) = torch.autograd.grad((losses * weights).mean(), logits)
    torch.testing.assert_close(got, wanted)


def test_the_best_epoch_is_chosen_by_what_is_trained_for():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(9, 2)), np.array([0, 1, 0, 1, 1, 0, 0, 1, 1])
    sources = np.array([0, 0, 0, 0, 0, 2, 2, 2, 2])
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(9), labels]
    of_each = [losses[:5].mean(), losses[5:].mean()]
    spread = np.average((of_each - losses.mean()) ** 2, weights=[5, 4])
    assert compute_risk_variance(losses, sources) == pytest.approx(spread)
    assert compute_validation_metrics(logits, labels, sources)["val_loss"] == pytest.approx(losses.mean())
    assert compute_validation_metrics(logits, labels, sources, 10.0)["val_loss"] == pytest.approx(losses.mean())
    assert compute_validation_metrics(logits, labels, sources, 10.0)["val_objective"] == pytest.approx(
        losses.mean() + 10 * spread
    )


@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_equal_risks_are_not_penalised(penalty):
    losses = torch.tensor([1.0, 3.0, 2.0, 2.0])
    weights = compute_sample_weights(losses, torch.tensor([0, 0, 1, 1]), 2, penalty, SINGLE_PROCESS)
    np.testing.assert_allclose(weights, 1)


def test_parts_of_a_batch_are_weighed_as_the_whole():
    losses, sources = torch.rand(9), torch.tensor([0, 1, 2] * 3)
    whole = compute_sample_weights(losses, sources, 3, 4.0, SINGLE_PROCESS)
    sums = []

    class Part:
        """One process of two: what it adds up is kept, then the sum of both is what it gets."""

        def all_reduce(self, values):
            sums.append(values)
            return sum(sums) if len(sums) == 2 else values

    compute_sample_weights(losses[:4], sources[:4], 3, 4.0, Part())
    torch.testing.assert_close(compute_sample_weights(losses[4:], sources[4:], 3, 4.0, Part()), whole[4:])
