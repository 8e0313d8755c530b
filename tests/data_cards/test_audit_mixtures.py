"""The audit judges every mixture of files: it never falls over, and where it cannot judge it says why."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.pictures import draw_noise

from data_cards.audit.audit import audit_or_warn, audit_pictures, format_audit, format_audit_briefly
from data_cards.audit.cross_validation import (
    compute_auroc,
    compute_held_out_auroc,
    find_best_single,
    fold_by_group,
    score_by_trees,
)
from data_cards.audit.properties import FAMILIES, PROFILE, THUMB, compute_properties
from data_cards.card.contents import compute_card
from data_cards.card.html import format_html
from data_cards.card.markdown import format_markdown
from data_cards.core.errors import UserError
from data_cards.dataset.layout import PictureFile
from data_cards.dataset.table import Picture, PictureTable
from data_cards.image.facts import PictureFacts
from data_cards.image.history import HISTORY
from data_cards.selection.advice import compute_advice, format_advice
from data_cards.selection.lost_sources import format_lost_sources
from data_cards.selection.matching import PROPERTIES, match_pictures
from pipeline.cli.main import main

# What each picture of a set is, by its number and a seeded generator, in place of a JPEG of any size and content.
MIXTURES: dict[str, Callable[[int, np.random.Generator], dict]] = {
    "JPEG alone": lambda number, rng: {},
    "PNG alone": lambda number, rng: as_format("PNG"),
    "WebP alone": lambda number, rng: as_format("WEBP"),
    "BMP of one size": lambda number, rng: {**as_format("BMP"), "width": 64, "height": 64, "bytes": 12_342},
    "a single JPEG": lambda number, rng: as_format("PNG") if number else {},
    "two JPEGs of one class": lambda number, rng: as_format("PNG") if number not in (0, 2) else {},
    "JPEGs in one source": lambda number, rng: as_format("PNG") if number % 6 else {},
    "JPEGs in one class": lambda number, rng: as_format("PNG") if number % 2 else {},
    "every format": lambda number, rng: as_format(str(rng.choice(["PNG", "WEBP", "GIF", "TIFF"]))),
    "one size": lambda number, rng: {"width": 512, "height": 512},
    "one pixel": lambda number, rng: {"width": 1, "height": 1},
    "one of everything": lambda number, rng: {
        **as_format("PNG"), "width": 64, "height": 64, "bytes": 999,
        "thumbnail": bytes(192), "profile": np.zeros(16, "<f2").tobytes(),
        "history": np.zeros(len(HISTORY), "<f2").tobytes(),
    },
    "histories without a value": lambda number, rng: {"history": np.full(len(HISTORY), np.nan, "<f2").tobytes()},
    "a hundred JPEG tables": lambda number, rng: {"tables": f"{rng.integers(100):08x}"},
}  # fmt: skip


def as_format(name: str) -> dict:
    return {"format": name, "quality": -1, "tables": "", "subsampling": ""}


def make_rows(count: int, mixture: str = "JPEG alone", sources: int = 3, seed: int = 0) -> PictureTable:
    """Made-up pictures of both classes in turn, alike but for chance, as rows of a table."""
    rng = np.random.default_rng(seed)
    table = PictureTable()
    for number in range(count):
        sha256 = hashlib.sha256(b"%d %d" % (seed, number)).digest()
        facts = PictureFacts(
            sha256, int(rng.integers(1_000, 100_000)), "JPEG", *map(int, rng.integers(64, 900, 2)),
            int(rng.integers(60, 100)), hashlib.sha256(sha256).digest(), str(rng.choice(["RGB", "L"])),
            f"{rng.integers(3):08x}", str(rng.choice(["4:2:0", "4:4:4"])), bool(rng.integers(2)), False,
            rng.integers(0, 256, 192, dtype=np.uint8).tobytes(), rng.normal(5, 1, 16).astype("<f2").tobytes(),
            rng.normal(size=len(HISTORY)).astype("<f2").tobytes(),
        )  # fmt: skip
        label, source = ("real", "fake")[number % 2], f"source-{number // 2 % sources}"
        file = PictureFile("set", f"train/{label}/{source}/{number}.jpg", "train", label, source)
        table.add(file, replace(facts, **MIXTURES[mixture](number, rng)))
    table.set_groups(np.arange(count))
    return table


def show(pictures: Sequence[Picture]) -> str:
    """All that commands make of an audit; returns what a terminal shows."""
    audit = audit_pictures(pictures)
    card = {"name": "set", **compute_card(pictures, [], {}, audit)}
    json.dumps(card, allow_nan=False)
    format_markdown(card)
    format_html(card)
    advice = format_advice(compute_advice(pictures, audit, max_pixels=10**8))
    return "\n".join([format_audit(audit), format_audit_briefly(audit), advice])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize(("count", "sources"), [(40, 1), (48, 3)])
def test_audit_of_a_mixture_has_all_families(mixture, count, sources):
    text = show(make_rows(count, mixture, sources))
    assert all(family in text for family in FAMILIES)
    assert "nan" not in text


@pytest.mark.parametrize("count", [1, 2, 4, 20, 38])
def test_audit_of_few_pictures_says_how_many_are_needed(count):
    assert "at least 20 of each are needed" in show(make_rows(count))


def test_advice_names_the_sources_that_balancing_loses():
    table = PictureTable()
    # Fakes of one source of four have the size of photographs.
    for one in make_rows(240, "one size", sources=4):
        large = one.file.label == "fake" and one.file.source != "source-0"
        table.add(one.file, replace(one.facts, width=1024, height=1024) if large else one.facts)
    table.set_groups(np.arange(len(table)))
    advice = compute_advice(table, audit_pictures(table), max_pixels=10**8)
    text = format_advice(advice)
    assert text.startswith("  add sources to each class that resemble the other class in size, format and quality\n")
    assert "not known; it depends on the added pictures\n  pipeline subset" in text
    advice = [one for one in advice if "--balance" in one.action]
    assert {one.action.split()[-1] for one in advice} == {"balanced-size-format-quality"}
    assert [one.family for one in advice] == ["file facts", "size and aspect"]
    assert {(one.sources["real"], one.sources["fake"]) for one in advice} == {(4, 1)}
    text = format_advice(advice)
    assert text.count("pipeline subset") == 1
    assert text.endswith(
        "of 240 pictures left; fewer than 100 training pictures are too few to train on; only 4 of 4 real and 1 of 4 "
        "fake training sources are left; with fewer sources, every verdict is unsure, so add sources instead"
    )


def test_subset_of_few_pictures_or_sources_is_said_to_be_too_small():
    pictures = list(make_rows(240, "one size", sources=4))

    def lose(count, sources):
        return format_lost_sources(pictures, [one for one in pictures if one.file.source in sources][:count])

    names = [f"source-{number}" for number in range(4)]
    few = "fewer than 100 training pictures are too few to train on"
    assert (lose(100, names), lose(99, names)) == (None, few)
    assert "left; with fewer sources, more verdicts are unsure and detection is worse" in lose(110, names[:3])
    guess = "4 fake training sources are left; with fewer sources, a detector may be no better than guessing, so add"
    assert guess in lose(110, names[:2])
    assert lose(48, names[:2]).startswith(f"{few}; only 2 of 4 real")


def test_audit_of_the_most_pictures_of_one_format_has_all_families():
    found = audit_pictures(make_rows(20_000, "PNG alone", sources=1))
    assert [one.family for one in found.findings] == list(FAMILIES)
    assert (found.pictures, found.verdict) == ((10_000, 10_000), "fine")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("groups", [1, 2, 3, 9, 11])
@pytest.mark.parametrize("apart", [True, False])
def test_sets_of_near_duplicates_are_matched_and_audited_or_told(groups, apart):
    table = make_rows(60, "one size")
    numbers = np.arange(60)
    table.set_groups(numbers // 2 % groups * 2 + (numbers % 2 if apart else 0))
    text = show(table)
    assert ("nearly all are near-duplicates" in text) == (groups < 10)
    for name in PROPERTIES:
        assert match_pictures(table, [name]).pictures


def test_match_of_a_column_that_nothing_shares_is_told():
    with pytest.raises(UserError, match="--balance format: no picture of one class"):
        match_pictures(make_rows(48, "JPEGs in one class"), ["format"])


def test_column_missing_in_some_folds_is_used_in_the_others():
    rng = np.random.default_rng(0)
    labels, folds = np.arange(200) % 2, np.arange(200) // 2 % 5
    telling = np.where(folds < 2, labels.astype(float), np.nan)
    for column in (telling, np.full(200, np.nan), np.where(np.arange(200) == 7, 1.0, np.nan)):
        inputs = np.stack([column, rng.normal(size=200)], axis=1)
        found = compute_held_out_auroc(score_by_trees, inputs, [False, False], labels, folds, np.arange(200))
        assert (found.value > 0.65) == (column is telling)


def test_folds_without_both_classes_tell_nothing():
    labels, groups = np.arange(20) % 2, np.arange(20) % 2
    assert fold_by_group(labels, groups) is None
    found = compute_held_out_auroc(score_by_trees, labels[:, None] * 1.0, [False], labels, labels, groups)
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    assert compute_auroc(labels, labels * 1.0, labels, groups) == found


def test_audit_that_fails_is_told():
    table = PictureTable(replace(one, facts=replace(one.facts, profile=b"\0")) for one in make_rows(48))
    with pytest.raises(ValueError, match="reshape"):
        audit_pictures(table)
    found = audit_or_warn(table)
    assert (found.verdict, found.pictures, found.findings) == ("unknown", (24, 24), ())
    assert "shortcut audit: it failed (ValueError: cannot reshape" in format_audit_briefly(found)


def test_failing_audit_stops_neither_build_nor_subset_nor_card(tmp_path, monkeypatch):
    for label in ("real", "fake"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(20):
            draw_noise(number + 100 * (label == "fake")).save(tmp_path / f"set/{label}/{number}.png")

    def fail(*_, **__):
        raise FloatingPointError("no such set\nwas ever seen")

    monkeypatch.setattr("sklearn.linear_model.RidgeClassifier.fit", fail)
    told = "warning: shortcut audit: it failed (FloatingPointError: no such set)"
    store, source = tmp_path / "a.zarr", str(tmp_path / "set")
    calls = (
        ["build", "--src", source, "--out", str(store), "--size", "8", "--workers", "0", "--variants", "clean"],
        ["subset", "--src", source, "--out", str(tmp_path / "subset")],
        ["card", source, "--out", str(tmp_path / "card")],
    )
    for call in calls:
        result = CliRunner().invoke(main, call)
        assert result.exit_code == 0, result.output
        assert told in result.stderr
    assert "it failed" in json.loads((tmp_path / "card/card.json").read_text())["limits"][1]
    assert CliRunner().invoke(main, ["audit", "--store", str(store)]).exit_code == 1


def test_row_is_never_below_its_best_single_property():
    """Of 70 pictures a class one number tells them apart, among two hundred that say nothing."""
    tables = {}
    for tint in (0, 10):
        rows = []
        for number, one in enumerate(make_rows(140, "one size", sources=1)):
            levels = np.frombuffer(one.facts.thumbnail, np.uint8).astype(int).reshape(-1, 3) // 2 + 60
            levels[:, 0] += tint * (number % 2)
            rows.append(replace(one, facts=replace(one.facts, thumbnail=levels.astype(np.uint8).tobytes())))
        tables[tint] = audit_pictures(rows).findings[1]
    assert (tables[10].verdict, tables[10].best_single.name) == ("fail", "red cast")
    assert tables[0].auroc.value < 0.7
    for one in tables.values():
        assert one.pictures_held_out.value >= one.best_single.pictures_held_out.value


def test_best_single_property_of_sets_without_any_tells_nothing():
    values = []
    for seed in range(40):
        pictures = make_rows(80, seed=seed, sources=1)
        labels, groups = np.arange(80) % 2, np.arange(80)
        folds = fold_by_group(labels, groups)
        for family in (THUMB, PROFILE):
            inputs = np.stack([one.values for one in compute_properties(list(pictures), family)], axis=1)
            _, scores = find_best_single(inputs, [False] * inputs.shape[1], labels, folds)
            values.append(compute_auroc(labels, scores, folds, groups).value)
    assert 0.46 < np.mean(values) < 0.54
