"""The file baseline: file properties that separate the classes are found, others score near guessing."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data_cards.audit.file_baseline import ALL, SHORTCUTS, score_shortcuts


def draw_files(number: int, seed: int, **changes: np.ndarray) -> dict[str, np.ndarray]:
    """Files of both classes in turn that differ in nothing but chance and the changes."""
    rng = np.random.default_rng(seed)
    values = {
        "format": rng.choice(np.array(["JPEG", "PNG"], dtype=object), number),
        "width": rng.integers(100, 900, number),
        "height": rng.integers(100, 900, number),
        "bytes": rng.integers(10_000, 90_000, number),
        "quality": rng.choice([-1, 75, 85, 95], number),
    }
    return {**values, **changes}


def classes(number: int) -> np.ndarray:
    return np.arange(number) % 2


def score(changes_train: dict, changes_test: dict) -> dict[str, float]:
    found = score_shortcuts(draw_files(200, 1, **changes_train), classes(200), draw_files(100, 2, **changes_test))
    assert set(found) == set(SHORTCUTS)
    return {name: roc_auc_score(classes(100), scores) for name, scores in found.items()}


def test_score_shortcuts_of_random_files_is_near_guessing():
    for auroc in score({}, {}).values():
        assert 0.3 < auroc < 0.7


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("JPEG quality", lambda n: {"quality": 80 + 10 * classes(n)}, id="quality"),
        pytest.param("JPEG quality", lambda n: {"quality": np.where(classes(n), -1, 90)}, id="no JPEG"),
        pytest.param("width and height", lambda n: {"width": 512 + 512 * classes(n)}, id="size"),
        pytest.param(
            "bytes per pixel",
            lambda n: {key: np.full(n, 500) for key in ("width", "height")} | {"bytes": 50_000 * (1 + classes(n))},
            id="bytes",
        ),
        pytest.param(
            "file format", lambda n: {"format": np.array(["JPEG", "PNG"], dtype=object)[classes(n)]}, id="format"
        ),
    ],
)
def test_score_shortcuts_finds_the_property_that_separates_the_classes(name, change):
    found = score(change(200), change(100))
    assert found[name] == 1
    assert found[ALL] == 1
    others = set(SHORTCUTS) - {name, ALL}
    assert all(found[other] < 0.9 for other in others)


def test_score_shortcuts_with_an_unknown_format_is_finite():
    test = draw_files(3, 2, format=np.array(["WEBP", "JPEG", "GIF"], dtype=object))
    for scores in score_shortcuts(draw_files(40, 1), classes(40), test).values():
        assert np.isfinite(scores).all()


def test_score_shortcuts_of_few_pictures_without_a_jpeg_are_probabilities():
    train = draw_files(4, 1, quality=np.full(4, -1), format=np.array(["PNG"] * 4, dtype=object))
    for scores in score_shortcuts(train, classes(4), draw_files(2, 2)).values():
        assert scores.shape == (2,)
        assert ((scores >= 0) & (scores <= 1)).all()


def test_score_shortcuts_of_equal_files_is_guessing():
    alike = {name: np.full(40, 512) for name in ("width", "height", "bytes")}
    files = draw_files(40, 1, **alike, quality=np.full(40, 90), format=np.array(["JPEG"] * 40, dtype=object))
    for scores in score_shortcuts(files, classes(40), files).values():
        assert scores == pytest.approx(np.full(40, 0.5))


def test_score_shortcuts_is_deterministic():
    one, two = (score_shortcuts(draw_files(100, 1), classes(100), draw_files(20, 2)) for _ in range(2))
    assert all((one[name] == two[name]).all() for name in SHORTCUTS)
