"""Comparison of runs: which pictures are compared, which differences are clear, groups of seeds, and the page."""

import json

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from helpers.hostile import edit_json
from helpers.make_run import make_experts_run, make_run
from helpers.make_store import make_store
from helpers.sklearn_scores import score_with_sklearn
from scipy import stats

from data_cards.core.errors import UsageError, UserError
from eval.cli.main import cli
from eval.report.compare import compare_runs
from eval.report.report import make_report
from eval.report.run_groups import list_differing_options, open_groups
from eval.report.summary import summarise_comparison
from eval.report.terminal import MOST_LINES, format_comparison
from eval.scores.metrics import METRICS
from eval.scores.training_luck import draw_training_luck
from pipeline.store.reader import open_store

QUIET = {"device": "cpu", "progress": False}


def change(store, **columns) -> None:
    group = zarr.open_group(store, mode="r+")
    for name, edit in columns.items():
        group[name][:] = edit(group[name][:])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs on one store, and the comparison of them."""
    folder = tmp_path_factory.mktemp("compare")
    store = make_store(
        folder / "a.zarr", variants=("clean", "jpeg-1"), pictures={"train": (8, 8), "test": (20, 16)}, size=16
    )
    for seed, name in enumerate("abc"):
        make_run(folder / name, store, seed=seed)
    compare_runs([folder / name for name in "abc"], **QUIET)
    return folder


@pytest.fixture(scope="module")
def figures(folder) -> dict:
    return json.loads((folder / "a" / "comparison.json").read_text(encoding="utf-8"))


def test_compare_scores_every_run_on_the_same_pictures(figures, folder):
    assert [run["name"] for run in figures["runs"]] == ["a", "b", "c"]
    assert figures["samples_by_class"] == {"real": 20, "fake": 16}
    labels = np.array([row["label"] == "fake" for row in figures["rows"]])
    for run in figures["runs"]:
        scores = np.array([row["runs"][run["name"]]["probability_fake"] for row in figures["rows"]])
        expected = score_with_sklearn(labels, scores, run["threshold"]["value"])
        assert {name: one["value"] for name, one in run["scores"].items()} == pytest.approx(expected, abs=1e-9)
        assert run["shortcuts"]["shortcuts"]
        assert "were not found" in run["swap"]["reason"]


def test_differences_of_more_pairs_have_wider_intervals(figures, folder, tmp_path):
    scores = {run["name"]: run["scores"] for run in figures["runs"]}
    assert [(one["first"], one["second"]) for one in figures["differences"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    for one in figures["differences"]:
        for name in METRICS:
            lead = scores[one["first"]][name]["value"] - scores[one["second"]][name]["value"]
            assert one["scores"][name]["value"] == pytest.approx(lead, abs=1e-9)
    assert figures["intervals"]["level_of_differences"] == pytest.approx(1 - 0.05 / 3)
    pair = compare_runs([folder / "a", folder / "b"], out=tmp_path, **QUIET).contents
    alone, among = pair["differences"][0]["scores"]["auroc"], figures["differences"][0]["scores"]["auroc"]
    assert alone["value"] == among["value"]
    assert among["low"] < alone["low"] < alone["high"] < among["high"]


def test_comparison_of_other_runs_replaces_none(folder, tmp_path):
    names = [
        compare_runs([folder / name for name in runs], out=tmp_path, **options, **QUIET).html.name
        for runs, options in (("ab", {}), ("ac", {}), ("ab", {}), ("ab", {"store": folder / "a.zarr"}))
    ]
    assert names == ["comparison.html", "comparison-2.html", "comparison.html", "comparison.html"]


def test_compare_of_equal_weights_finds_no_difference(folder, tmp_path):
    make_run(tmp_path / "twin", folder / "a.zarr", seed=0)
    found = compare_runs([folder / "a", tmp_path / "twin"], out=tmp_path, **QUIET).contents
    assert all(one["value"] == 0 and not one["real"] for one in found["differences"][0]["scores"].values())
    assert "give every picture the same score. The runs have the same settings." in found["summary"][0]


def test_compare_leaves_out_unshared_and_training_pictures(folder, tmp_path):
    own = open_store(folder / "a.zarr")
    tests = own.rows("test", "clean")
    hashes = own.columns["sha256"]
    other = make_store(tmp_path / "other.zarr", seed=9, pictures={"train": (4, 4), "test": (12, 10)}, size=16)
    rows = open_store(other).rows("test")

    def edit(old):
        # Test pictures of the first store, but for the first of each class.
        old = np.array([f"f{value[1:]}" for value in old], dtype=object)
        labels = open_store(other).columns["label"]
        for label in (0, 1):
            mine = [row for row in tests if own.columns["label"][row] == label]
            theirs = [row for row in rows if labels[row] == label]
            for place, row in enumerate(theirs[1:]):
                old[row] = hashes[mine[place]]
        return old

    change(other, sha256=edit)
    # A test picture is a near-duplicate of one that the second run is trained on.
    leaked = int(next(row for row in rows[1:] if open_store(other).columns["label"][row] == 0))
    change(other, group=lambda old: np.where(np.arange(len(old)) == leaked, old[0], old))
    make_run(tmp_path / "second", other, seed=5)
    found = compare_runs([folder / "a", tmp_path / "second"], out=tmp_path, **QUIET).contents
    assert found["samples_by_class"] == {"real": 10, "fake": 9}
    assert found["left_out"] == {"not_in_all_stores": 36 + 22 - 2 * 20, "trained_on": 1}
    assert any("1 pictures, or near-duplicates of them, were in a run's training" in one for one in found["warnings"])
    labels = own.columns["label"][[list(hashes).index(row["sha256"]) for row in found["rows"]]]
    assert [row["label"] == "fake" for row in found["rows"]] == labels.astype(bool).tolist()


def test_compare_of_unusable_runs_is_refused(folder, tmp_path):
    def refuse(words: str, runs, kind=UserError, **options) -> None:
        with pytest.raises(kind, match=words):
            compare_runs(runs, out=tmp_path / "none", **(QUIET | options))
        assert not (tmp_path / "none").exists()

    refuse("expected at least two", [folder / "a"], kind=UsageError)
    refuse("a: named twice", [folder / "a", folder / "a"], kind=UsageError)
    refuse(
        "split train: runs are compared on pictures that none",
        [folder / "a", folder / "b"],
        split="train",
        kind=UsageError,
    )
    experts = make_experts_run(tmp_path / "experts", folder / "a.zarr")
    refuse("split val: the experts of experts were", [folder / "a", experts], split="val", kind=UsageError)
    other = make_store(tmp_path / "other.zarr", seed=3, size=16)
    change(other, sha256=lambda old: [f"e{value[1:]}" for value in old])
    make_run(tmp_path / "second", other)
    refuse("test splits have no picture in common", [folder / "a", tmp_path / "second"])
    change(other, sha256=lambda old: [f"0{value[1:]}" for value in old], label=lambda old: 1 - old)
    refuse("but (real|fake) in .*other.zarr", [folder / "a", tmp_path / "second"])
    only = make_store(tmp_path / "only.zarr", variants=("jpeg-1",), size=16)
    make_run(tmp_path / "third", only)
    refuse("only.zarr: has only changed pictures", [folder / "a", tmp_path / "third"])


def test_comparison_on_validation_pictures_names_the_runs_that_were_chosen_on_them(tmp_path):
    store = make_store(tmp_path / "a.zarr", pictures={"train": (8, 8), "val": (6, 6)}, size=16)
    first_train = np.flatnonzero(open_store(store).columns["split"] == "train")[0]
    change(store, source=lambda old: np.where(np.arange(len(old)) == first_train, "only-train", old))
    runs = [make_run(tmp_path / name, store, seed=seed) for seed, name in enumerate("ab")]
    edit_json(runs[1] / "settings.json", "train/validate_on", ["only-train"])
    found = compare_runs(runs, split="val", **QUIET).contents
    assert found["left_out"]["trained_on"] == 0
    assert [one.split(" chosen")[0] for one in found["warnings"]] == ["a: the best epoch and the threshold were"]
    own = make_report(runs[1], split="val", swap_pictures=0, explain_pictures=0, **QUIET).contents
    assert own["warnings"] == []
    experts = [
        make_experts_run(tmp_path / name, make_store(tmp_path / f"{name}.zarr", seed=7, first=900, size=16))
        for name in "xy"
    ]
    elsewhere = compare_runs(experts, store, split="val", out=tmp_path, **QUIET)
    assert elsewhere.contents["warnings"] == []
    assert "none of them was trained on any of these" in elsewhere.html.read_text(encoding="utf-8")


def test_compare_on_one_store_warns_of_a_missing_own_store(folder, tmp_path):
    moved = make_store(tmp_path / "gone.zarr", seed=4, size=16)
    make_run(tmp_path / "second", moved)
    moved.rename(tmp_path / "moved.zarr")
    made = compare_runs([folder / "a", tmp_path / "second"], folder / "a.zarr", out=tmp_path, **QUIET)
    found = made.contents
    assert found["pictures"] == 36
    assert any("gone.zarr: this store, which " in one for one in found["warnings"])
    assert "none of them was trained" not in made.html.read_text()


def test_compare_page_and_terminal_show_equal_figures(folder, figures):
    page = (folder / "a" / "comparison.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "about one in 60 will be called clear" in page
    result = CliRunner().invoke(
        cli, ["report", "--device", "cpu", *(text for name in "abc" for text in ("--run", str(folder / name)))]
    )
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) <= MOST_LINES
    full = format_comparison(figures, full=True)
    assert figures["summary"][0] in result.stdout
    for sentence in figures["summary"]:
        assert sentence in full
        assert sentence in page
    assert "a minus b" in full
    refused = CliRunner().invoke(
        cli, ["report", "--run", str(folder / "a"), "--run", str(folder / "b"), "--explain-pictures", "3"]
    )
    assert refused.exit_code == 2
    assert refused.stderr == ("error: --explain-pictures: a comparison does not measure what decides; leave it out\n")


def summary(value: float, low: float, high: float, **parts) -> list[str]:
    real = low > 0 or high < 0
    scores = {name: {"value": 0, "low": -0.1, "high": 0.1, "real": False} for name in METRICS}
    scores["auroc"] = {"value": value, "low": low, "high": high, "real": real}
    scores["brier"] = {"value": -0.05, "low": -0.08, "high": -0.02, "real": True}
    samples = {"real": 50, "fake": 50}
    one = {"first": "new", "second": "old", "runs": [3, 3], "holds_training": True, "differ_in": ["train run --lr"]}
    one |= {"equal_scores": False, "order_alone": False}
    return summarise_comparison(
        {
            "differences": [one | {"scores": scores} | parts],
            "intervals": {"level_of_differences": 0.95},
            "samples_by_class": samples,
        }
    )


def test_summary_names_the_better_run_only_where_it_is_clear():
    clear = summary(0.05, 0.01, 0.09)
    assert clear[0] == (
        "new finds generated pictures better than old: of 100 pairs of a photograph and a generated picture, new finds "
        "5.0 more (95% interval 1.0 to 9.0 more). "
        "The interval includes the luck of training, estimated from 3 and 3 runs."
    )
    assert clear[1] == "Other clear differences, new minus old: Brier score -0.050 (-0.080 to -0.020)."
    assert summary(-0.05, -0.09, -0.01)[0].startswith("old finds generated pictures better than new: ")
    assert "old finds 5.0 more (95% interval 1.0 to 9.0 more)" in summary(-0.05, -0.09, -0.01)[0]
    unclear = summary(0.05, -0.01, 0.11)
    assert unclear[0].startswith("It is not clear whether new or old finds generated pictures better")
    assert "(95% interval 1.0 fewer to 11.0 more)" in unclear[0]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        pytest.param({"runs": [1, 1]}, "does not include the luck of training: with other seeds", id="single runs"),
        pytest.param({"runs": [3, 1]}, "does not include all of the luck of training", id="one single run"),
        pytest.param(
            {"runs": [1, 1], "differ_in": ["train run --seed"]},
            "differ in their seed alone, so a difference between them is the luck of training",
            id="seeds",
        ),
        pytest.param({"runs": [1, 1], "differ_in": []}, "have the same settings", id="equal"),
    ],
)
def test_summary_says_where_the_luck_of_training_is_left_out(parts, expected):
    text = summary(0.05, 0.01, 0.09, holds_training=False, **parts)
    assert text[0].startswith("On these pictures new finds generated pictures better than old")
    assert expected in text[0]
    assert "give them one name: report --run old=" in text[1]


def test_luck_of_training_changes_probabilities_of_experts_alone(folder, tmp_path):
    text = summary(0.05, 0.01, 0.09, runs=[1, 1], order_alone=True)
    assert text[0].endswith("9.0 more).")
    assert text[1].endswith(
        "For Brier score, the interval leaves out that experts give other probabilities with another seed."
    )
    assert not any("--run" in sentence for sentence in text)
    store = open_store(folder / "a.zarr")
    runs = [make_experts_run(tmp_path / name, store) for name in "xy"]
    edit_json(runs[1] / "settings.json", "train/seed", 1)
    made = compare_runs(runs, **QUIET)
    [one] = made.contents["differences"]
    assert (one["holds_training"], one["order_alone"]) == (True, True)
    assert "The intervals of AUROC, Average precision, Fakes found at 1%" in made.html.read_text(encoding="utf-8")


# --- several runs under one name


def test_two_seeds_of_a_network_differ_by_luck_alone(folder, tmp_path):
    made = compare_runs([folder / "a", folder / "b"], out=tmp_path, **QUIET)
    found = made.contents
    assert found["differing_options"] == [{"option": "train run --seed", "values": {"a": "0", "b": "1"}}]
    assert not found["differences"][0]["holds_training"]
    assert not found["differences"][0]["order_alone"]
    assert "the luck of training" in found["summary"][0]
    assert "train run --seed" in made.html.read_text(encoding="utf-8")
    assert "train run --seed" in format_comparison(found)


def test_options_of_networks_differ_only_between_networks(folder, tmp_path):
    experts = make_experts_run(tmp_path / "experts", folder / "a.zarr")
    options = [row["option"] for row in list_differing_options(open_groups([experts, folder / "a"]))]
    assert options == ["train run --experts", "train run --network"]
    other = make_run(tmp_path / "other", folder / "a.zarr")
    edit_json(other / "settings.json", "train/lr", 0.5)
    rows = list_differing_options(open_groups([experts, folder / "a", other]))
    values = {row["option"]: row["values"] for row in rows}
    assert values["train run --lr"] == {"experts": "none", "a": "0.001", "other": "0.5"}


def test_single_runs_may_have_names(folder, tmp_path):
    found = compare_runs([f"old={folder / 'a'}", f"new={folder / 'b'}"], out=tmp_path, **QUIET).contents
    assert [(one["name"], one["runs"]) for one in found["groups"]] == [("old", ["a"]), ("new", ["b"])]
    assert [one["scores"]["auroc"] for one in found["groups"]] == [one["scores"]["auroc"] for one in found["runs"]]


def test_runs_of_one_name_are_compared_by_their_mean_and_spread(folder, figures, tmp_path):
    make_run(tmp_path / "d", folder / "a.zarr", seed=3)
    given = [f"x={folder / 'a'}", f"y={folder / 'c'}", f"x={folder / 'b'}", f"y={tmp_path / 'd'}"]
    found = compare_runs(given, out=tmp_path, **QUIET).contents
    assert [(one["name"], one["runs"]) for one in found["groups"]] == [("x", ["a", "b"]), ("y", ["c", "d"])]
    runs = {run["name"]: run["scores"]["auroc"]["value"] for run in found["runs"]}
    [difference] = found["differences"]
    lead = difference["scores"]["auroc"]
    assert (difference["runs"], difference["holds_training"], difference["order_alone"]) == ([2, 2], True, False)
    assert lead["value"] == pytest.approx((runs["a"] + runs["b"] - runs["c"] - runs["d"]) / 2)
    # At least as wide as the interval that the spread of the runs alone gives (Welch).
    spread = stats.ttest_ind([runs["a"], runs["b"]], [runs["c"], runs["d"]], equal_var=False).confidence_interval()
    width = min(spread.high, 1) - max(spread.low, -1)
    assert 0.95 * width < lead["high"] - lead["low"] <= 2
    mean = found["groups"][0]["scores"]["auroc"]
    assert mean["value"] == pytest.approx((runs["a"] + runs["b"]) / 2)
    assert mean["low"] < min(runs["a"], runs["b"])
    assert "estimated from 2 and 2 runs" in found["summary"][0]
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "mean of 2 runs" in page
    assert f"--run x={folder / 'a'}" in page


def test_interval_with_the_luck_of_training_covers_the_truth():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(400):
        first, second = rng.normal(0.8, 0.05, 3), rng.normal(0.8, 0.01, 2)
        draws = first.mean() - second.mean() + draw_training_luck((first, second), 2000)
        low, high = np.quantile(draws, (0.025, 0.975))
        covered.append(low <= 0 <= high)
    assert np.mean(covered) >= 0.93
    assert not draw_training_luck(([0.8], [0.7]), 10).any()


def test_unusable_groups_are_refused(folder, tmp_path):
    def refuse(words: str, *runs, kind=UsageError) -> None:
        with pytest.raises(kind, match=words):
            compare_runs(runs, out=tmp_path / "none", **QUIET)

    a, b = folder / "a", folder / "b"
    refuse("all runs have the name x: expected at least two", f"x={a}", f"x={b}")
    refuse("run =.*: expected a run folder, or NAME=FOLDER", f"={a}", b)
    refuse("b: the name of a run's folder and of a group", f"b={a}", b)
    refuse("absent: no such run folder", "x=absent", b, kind=UserError)
    make_run(tmp_path / "twin", folder / "a.zarr", seed=0)
    refuse("x: a and twin have the same settings and seed 0", f"x={a}", f"x={tmp_path / 'twin'}", b)


def test_run_folder_with_an_equals_sign_is_a_folder(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "lr=1", folder / "a.zarr", seed=4)
    found = compare_runs(["lr=1", folder / "a"], **QUIET).contents
    assert [one["name"] for one in found["groups"]] == ["lr=1", "a"]
