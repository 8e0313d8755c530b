"""The validation split keeps groups together, reaches every source, and depends on seed and hashes alone."""

import random

from data_cards.core.seeding import draw_key
from data_cards.dataset.splits import draw_validation


def make_pictures(count: int = 400, copies: int = 3):
    identities, groups, strata = [], [], []
    for number in range(count):
        identities.append(b"%d" % number)
        groups.append(number // copies)
        kind = groups[-1] % 4
        strata.append(("real" if kind < 2 else "fake", f"source-{kind}"))
    return identities, groups, strata


def test_groups_stay_together_and_every_source_is_drawn_from():
    identities, groups, strata = make_pictures()
    chosen = draw_validation(identities, groups, strata, 0.2, seed=0)
    assert {group for group, one in zip(groups, chosen, strict=True) if one}.isdisjoint(
        group for group, one in zip(groups, chosen, strict=True) if not one
    )
    assert {stratum for stratum, one in zip(strata, chosen, strict=True) if one} == set(strata)
    assert 0.17 < sum(chosen) / len(chosen) < 0.23


def test_draw_validation_depends_on_the_seed_not_on_the_order():
    pictures = list(zip(*make_pictures(), strict=True))
    shuffled = random.Random(0).sample(pictures, len(pictures))

    def draw(some, seed):
        chosen = draw_validation(*zip(*some, strict=True), 0.2, seed)
        return {one[0] for one, is_chosen in zip(some, chosen, strict=True) if is_chosen}

    assert draw(pictures, 0) == draw(shuffled, 0)
    assert draw(pictures, 0) != draw(pictures, 1)


def test_draw_validation_of_a_small_class_draws_one_and_keeps_one():
    identities = [b"a", b"b", b"c"]
    strata = [("real", "x"), ("real", "x"), ("fake", "y")]
    chosen = draw_validation(identities, [0, 1, 2], strata, 0.1, seed=0)
    assert sum(chosen[:2]) == 1
    assert not chosen[2]
    assert not any(draw_validation(identities, [0, 1, 2], strata, 0.0, seed=0))


def test_draw_key_equals_the_recorded_one():
    """Pins the draws: a store that grows must not move its old pictures."""
    assert draw_key(7, b"identity", "purpose") == 12231306427047796927
