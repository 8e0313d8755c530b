"""The experts: their fit, what they leave out, and their file."""

import numpy as np
import pytest

from data_cards.core.errors import UserError
from pipeline.features.profile_vectors import PROFILE_LENGTH
from pipeline.features.variants import SHRUNK
from train.model.experts import EXPERTS, Experts, Unlike, find_contradictions, list_shapes
from train.model.logistic import fit_logistic
from train.recipe.experts import (
    ENOUGH_SOURCES,
    count_sources,
    deal_units,
    find_limit,
    find_sure_limit,
    fit_experts,
    weigh_sources,
    widen_limit,
)
from train.run.experts_file import EXPERTS_FILE, load_experts, save_experts

SOURCES = 6  # of each class
PICTURES = 12  # of each source
LIGHT, HARMONIC = 4, 60  # places in a profile: a ring of the light, one of the harmonics


def draw_rows(sources: int = SOURCES, strength: float = 2.0, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Draw profiles in which generated pictures differ in two numbers; return the arguments of `fit_experts`."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], sources * PICTURES)
    profiles = rng.normal(0, 1, (len(labels), PROFILE_LENGTH)).astype(np.float32)
    profiles[:, [LIGHT, HARMONIC]] += strength * labels[:, None]
    profiles[:, -4:] = 640, 480, 50, 20  # facts
    names = np.repeat([f"source-{number}" for number in range(2 * sources)], PICTURES)
    return profiles, labels, names, np.full(len(labels), "clean"), np.arange(len(labels))


@pytest.fixture(scope="module")
def fitted():
    return fit_experts(*draw_rows())


def test_experts_rank_pictures_of_sources_left_out(fitted):
    labels = draw_rows()[1]
    assert np.isfinite(fitted.log_odds).all()
    real, fake = (fitted.log_odds[labels == label] for label in (0, 1))
    assert (fake[:, None] > real[None]).mean() > 0.6


def test_parts_and_offset_sum_to_the_log_odds(fitted):
    profiles = draw_rows()[0]
    parts = fitted.experts.compute_parts(profiles)
    assert list(parts) == list(EXPERTS)
    assert sum(parts.values()) + fitted.experts.offset == pytest.approx(fitted.experts.compute_log_odds(profiles))


def test_fit_is_the_same_each_time_and_in_any_order_of_rows(fitted):
    arguments = draw_rows()
    again = fit_experts(*arguments).experts.to_arrays()
    for name, array in fitted.experts.to_arrays().items():
        np.testing.assert_array_equal(array, again[name])
    order = np.random.default_rng(1).permutation(len(arguments[0]))
    shuffled = fit_experts(*(one[order] for one in arguments)).experts
    profiles = arguments[0][:5]
    assert shuffled.compute_log_odds(profiles) == pytest.approx(fitted.experts.compute_log_odds(profiles), abs=1e-3)


def test_seed_deals_other_folds_and_keeps_the_models(fitted):
    other = fit_experts(*draw_rows(), seed=1).experts
    np.testing.assert_array_equal(other.models["light"].coefficients, fitted.experts.models["light"].coefficients)
    assert other.slope != fitted.experts.slope


def test_experts_come_back_from_their_file(fitted, tmp_path):
    save_experts(fitted.experts, tmp_path)
    loaded, profiles = load_experts(tmp_path), draw_rows()[0]
    np.testing.assert_array_equal(loaded.compute_log_odds(profiles), fitted.experts.compute_log_odds(profiles))
    np.testing.assert_array_equal(loaded.find_unlike(profiles), fitted.experts.find_unlike(profiles))
    assert (tmp_path / EXPERTS_FILE).stat().st_size < 200_000


def test_damaged_file_is_refused(fitted, tmp_path):
    save_experts(fitted.experts, tmp_path)
    data = bytearray((tmp_path / EXPERTS_FILE).read_bytes())
    data[-3] ^= 1
    (tmp_path / EXPERTS_FILE).write_bytes(data)
    with pytest.raises(UserError, match=r"damaged \(its digest does not match\)"):
        load_experts(tmp_path)
    (tmp_path / EXPERTS_FILE).unlink()
    with pytest.raises(UserError, match="no such file"):
        load_experts(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slope", [-1.0], "slope"),
        ("high", [2.0], "band"),
        ("low", [0.7], "band"),
        ("offset", [np.nan], "offset is not finite"),
        ("offset", [0.0, 0.0], r"offset has shape \(2,\); expected \(1,\)"),
        ("models.light.deviation", np.zeros(9), "deviation is not above 0"),
        ("models.light.mean", None, r"models.light.mean has shape None; expected \(9,\)"),
        ("more", [1.0], r"more has shape \(1,\); expected None"),
    ],
)
def test_values_that_cannot_be_are_refused(fitted, name, value, message):
    arrays = fitted.experts.to_arrays()
    arrays.pop(name, None)
    if value is not None:
        arrays[name] = np.array(value, np.float32)
    with pytest.raises(ValueError, match=message):
        Experts.from_arrays(arrays)


def test_shapes_are_those_of_the_arrays(fitted):
    assert {name: array.shape for name, array in fitted.experts.to_arrays().items()} == list_shapes()


def test_pictures_unlike_the_training_pictures_are_found(fitted):
    profiles = draw_rows()[0][:6].copy()
    profiles[1, -4] = 64  # height
    profiles[2, -2] = 1  # deviation of luma
    profiles[3, -1] = 0  # chroma
    profiles[4, :9] += 40  # light
    found = fitted.experts.find_unlike(profiles)
    assert found[1:5].tolist() == [Unlike.SMALL, Unlike.BLANK, Unlike.GREY, Unlike.FAR]
    assert fitted.experts.find_unlike(draw_rows()[0]).astype(bool).mean() < 0.2


def test_what_a_picture_shows_and_its_patterns_may_contradict_each_other():
    parts = {name: np.zeros(4) for name in EXPERTS}
    parts["light"][:] = 1.2, 1.2, 1.2, -0.6
    parts["harmonics"][:] = -1.5, 1.5, -0.5, 3.0
    assert find_contradictions(parts).tolist() == [True, False, False, False]


def test_single_source_of_a_class_leaves_everything_untried():
    profiles, labels, sources, variants, groups = draw_rows()
    sources = np.where(labels == 0, "camera", sources)
    fitted = fit_experts(profiles, labels, sources, variants, groups)
    assert not fitted.experts.sources_left_out
    assert (fitted.experts.find_unlike(profiles) > 0).all()
    assert np.isfinite(fitted.log_odds).all()  # by pictures


def test_sources_that_share_near_duplicates_leave_together():
    profiles, labels, sources, variants, groups = draw_rows(sources=2)
    groups = groups.copy()
    groups[PICTURES] = groups[0]  # both sources of photographs: then there is only one
    assert not fit_experts(profiles, labels, sources, variants, groups).experts.sources_left_out


def test_too_few_pictures_are_refused():
    profiles, labels, sources, variants, groups = (one[PICTURES * SOURCES - 1 :] for one in draw_rows())
    with pytest.raises(UserError, match="these rows: only one real picture"):
        fit_experts(profiles, labels, sources, variants, groups)
    with pytest.raises(UserError, match="these rows: no real picture"):
        fit_experts(profiles, np.ones_like(labels), sources, variants, groups)


@pytest.mark.parametrize("sources", [SOURCES, ENOUGH_SOURCES, ENOUGH_SOURCES + 5])
def test_classes_that_do_not_differ_leave_nothing_sure(sources):
    for seed in range(3):
        experts = fit_experts(*draw_rows(sources, strength=0.0, seed=seed)).experts
        assert (experts.low, experts.high) == (0, 1)


def test_experts_that_are_wrong_about_sources_left_out_say_about_a_half():
    profiles, labels, sources, variants, groups = draw_rows(sources=2, strength=0.0)
    profiles[:, 4] += np.where(
        np.isin(sources, ["source-0", "source-2"]), 6.0, -6.0
    )  # differs between sources, not classes
    experts = fit_experts(profiles, labels, sources, variants, groups).experts
    assert np.abs(experts.compute_log_odds(profiles)).max() < 0.2


def test_shrunk_rows_weigh_half():
    profiles, labels, sources, variants, groups = draw_rows()
    twice = [np.concatenate([one, one]) for one in (profiles, labels, sources, variants, groups)]
    twice[3][len(labels) :] = SHRUNK
    whole = fit_experts(profiles, labels, sources, variants, groups).experts.models["light"]
    same = fit_experts(*twice).experts.models["light"]
    assert same.coefficients == pytest.approx(whole.coefficients, abs=1e-6)


def test_weights_are_even_over_sources_and_classes():
    weights = weigh_sources(np.array([1, 1, 1, 0]), np.array(["a", "a", "b", "c"]))
    assert weights == pytest.approx([0.125, 0.125, 0.25, 0.5])


def test_logistic_finds_the_side_of_a_separable_class():
    inputs = np.array([[-1.0], [-2.0], [1.0], [2.0]])
    logistic = fit_logistic(inputs, np.array([0, 0, 1, 1]), np.full(4, 0.25), penalty=0.1)
    assert (np.sign(logistic.compute_log_odds(inputs)) == [-1, -1, 1, 1]).all()


def test_sure_limit_keeps_wrong_share_and_is_out_of_reach_where_none_is():
    probability, weights = np.array([0.9, 0.8, 0.7, 0.6]), np.full(4, 0.25)
    assert find_sure_limit(probability, np.array([0, 0, 1, 1]), weights) == 0.8
    assert find_sure_limit(probability, np.array([0, 0, 1, 1]), weights, least=0.85) == 0.9
    assert find_sure_limit(probability, np.ones(4), weights) == 1.0


def test_limit_that_was_moved_keeps_the_wrong_share_too():
    """Beyond the first limit one of 40 is wrong; beyond the moved one, one of one."""
    probability = np.concatenate([[0.999], np.linspace(0.9, 0.8, 39)])
    wrong, weights = np.arange(40) == 0, np.full(40, 1 / 40)
    assert find_limit(probability, wrong, weights, ENOUGH_SOURCES) == pytest.approx(0.8)
    assert find_limit(probability, wrong, weights, 4) == 1.0
    assert find_limit(probability, np.zeros(40, bool), weights, 4) == widen_limit(0.8, 4)


def test_limits_of_few_sources_are_wider():
    limits = [widen_limit(0.8, sources) for sources in (4, 8, 12, ENOUGH_SOURCES - 1, ENOUGH_SOURCES, 50)]
    assert limits == sorted(limits, reverse=True)
    assert limits[1] == pytest.approx(1 / (1 + np.exp(-np.log(4) - (15 / 8 - 1))))
    assert limits[-2:] == [0.8, 0.8]
    assert widen_limit(1.0, 4) == 1.0


def test_limits_depend_on_the_class_with_fewer_sources(fitted):
    profiles, labels, sources, variants, groups = draw_rows(sources=ENOUGH_SOURCES)
    assert (fitted.sources, fit_experts(profiles, labels, sources, variants, groups).sources) == (6, 15)
    kept = (labels == 1) | np.isin(sources, ["source-0", "source-1", "source-2"])
    few = fit_experts(*(one[kept] for one in (profiles, labels, sources, variants, groups)))
    assert few.sources == 3
    assert few.experts.low < 0.05


def test_units_stay_whole_and_classes_even_over_folds():
    units = np.repeat(np.arange(16), 3)
    labels = np.repeat([0, 1], 24)
    folds = deal_units(units, labels, 4, seed=0)
    assert all(len(np.unique(folds[units == unit])) == 1 for unit in range(16))
    assert all(len(np.unique(units[(folds == fold) & (labels == label)])) == 2 for fold in range(4) for label in (0, 1))


def test_sources_that_share_near_duplicates_count_as_one():
    labels = np.array([0, 0, 0, 1, 1, 1])
    sources = np.array(["a", "b", "c", "x", "y", "y"])
    assert count_sources(labels, sources, np.arange(6)) == {"real": 3, "fake": 2}
    groups = np.array([0, 0, 1, 2, 3, 2])  # a and b share a group, x and y too
    assert count_sources(labels, sources, groups) == {"real": 2, "fake": 1}
    assert count_sources(labels, sources.astype(object), groups) == {"real": 2, "fake": 1}
