"""Models of the experts' study (`benchmarks/expert_models.py`, `experts.py`)."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def _benchmarks_importable():
    sys.path.append(str(BENCHMARKS))  # last: `train` there is another file
    yield
    sys.path.remove(str(BENCHMARKS))


def test_weights_are_even_over_sources_and_classes():
    from expert_models import weigh_sources

    weights = weigh_sources(np.array([1, 1, 1, 0]), np.array(["a", "a", "b", "c"]))
    assert weights == pytest.approx([0.125, 0.125, 0.25, 0.5])


def test_logistic_finds_the_side_of_a_separable_class():
    from expert_models import Logistic

    inputs = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    logits = Logistic().fit(inputs, np.array([0, 0, 1, 1]), np.full(4, 0.25)).compute_logits(inputs)
    assert (np.sign(logits) == [-1, -1, 1, 1]).all()


def test_sure_limit_keeps_wrong_share_and_is_out_of_reach_where_none_is():
    from experts import find_sure_limit

    probability, weights = np.array([0.9, 0.8, 0.7, 0.6]), np.full(4, 0.25)
    assert find_sure_limit(probability, np.array([0, 0, 1, 1]), weights) == 0.8
    assert find_sure_limit(probability, np.ones(4), weights) == 1.01
